"""The network in OpenVINO: the fastest on Intel and AMD CPUs, and on Intel's GPUs and NPUs."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.inference.graphs import find_graph, join_outputs
from sembox_ros.inference.openvino_core import openvino_core
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.sembox import NetworkOutput, output_fields

TYPES = {'fp32': 'f32', 'fp16': 'f16', 'bf16': 'bf16'}
MAX_SHAPES = 4  # compiled networks that are kept; each costs some memory and a second


class OpenVinoEngine:
    """Runs an exported network; makes one of a checkpoint, once, and keeps it. See `engines.EngineClass`.

    A network is compiled for each canvas size. One image runs on all threads; of several images, as many run side by
    side as there are threads, one thread each, which on CPUs is faster than one batch.
    """

    name = 'openvino'

    def __init__(self, checkpoint: Checkpoint, *, device: torch.device, precision: str, threads: int) -> None:
        known = self.precisions(device)
        if not known:
            raise ConfigError('engine: openvino is not installed or runs on CPUs only: pip install openvino')
        self.device, self.dtype = torch.device('cpu'), torch.float32
        asked = 'fp32' if precision == 'auto' else precision
        if asked not in known:
            raise ConfigError(f"precision: openvino knows auto, {', '.join(known)} here; got '{precision}'")
        self.precision = 'int8' if checkpoint.graph_precision == 'int8' else asked
        self._type = TYPES[asked]  # of what is not int8
        self._threads = threads or os.cpu_count() or 1
        self._core = openvino_core()
        self._graph, self._names = find_graph(checkpoint), output_fields(checkpoint.config)
        self._compiled: dict[tuple[int, int, int], list[Any]] = {}

    @staticmethod
    def precisions(device: torch.device) -> tuple[str, ...]:
        """See `engines.EngineClass`."""
        if device.type != 'cpu' or importlib.util.find_spec('openvino') is None:
            return ()
        capabilities = openvino_core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
        return ('fp32', *(name for name in ('fp16', 'bf16') if name.upper() in capabilities))

    def __call__(self, batch: Tensor) -> NetworkOutput:
        """See `engines.Engine`."""
        count, channels, height, width = batch.shape
        images = batch.contiguous().numpy()
        requests = self._requests(channels, height, width, streams=min(count, self._threads))
        results: list[list[np.ndarray]] = []
        for start in range(0, count, len(requests)):
            running = list(zip(requests, images[start : start + len(requests)], strict=False))
            for request, image in running:
                request.start_async({0: image[None]}, share_inputs=True)
            for request, _ in running:
                request.wait()
                tensors = [request.get_tensor(name).data for name in self._names]
                # The request's own memory is written by its next run.
                results.append(tensors if count == 1 else [t.copy() for t in tensors])
        return join_outputs(self._names, results)

    def _requests(self, channels: int, height: int, width: int, streams: int) -> list[Any]:
        """Ready to run (1, channels, height, width), as many side by side as `streams`."""
        key = (height, width, streams)
        if key not in self._compiled:
            if len(self._compiled) >= MAX_SHAPES:  # a stream of ever-changing sizes must not grow memory
                self._compiled.pop(next(iter(self._compiled)))
            model = self._core.read_model(self._graph)
            try:
                model.reshape([1, channels, height, width])
            except RuntimeError as error:
                raise InputError(f'{self._graph.name}: cannot run a canvas of {height}x{width}: {error}') from error
            options = {
                'INFERENCE_PRECISION_HINT': self._type,
                'INFERENCE_NUM_THREADS': self._threads,
                'NUM_STREAMS': streams,
                'PERFORMANCE_HINT': 'LATENCY' if streams == 1 else 'THROUGHPUT',
            }
            compiled = self._core.compile_model(model, 'CPU', options)
            self._compiled[key] = [compiled.create_infer_request() for _ in range(streams)]
        return self._compiled[key]
