"""The network in onnxruntime: CPUs of any kind, CUDA and TensorRT."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.inference.graphs import find_graph, join_outputs
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.sembox import NetworkOutput, output_fields

# Tried in this order on CUDA; those that the installed onnxruntime was not built with are passed over.
CUDA_PROVIDERS = ('TensorrtExecutionProvider', 'CUDAExecutionProvider')


class OnnxRuntimeEngine:
    """Runs an exported network; makes one of a checkpoint, once, and keeps it. See `engines.EngineClass`.

    On the CPU images of a batch run one after the other: a batch is slower there, because less fits the cache.
    """

    name = 'onnxruntime'

    def __init__(self, checkpoint: Checkpoint, *, device: torch.device, precision: str, threads: int) -> None:
        known = self.precisions(device)
        if not known:
            package = 'onnxruntime-gpu' if device.type == 'cuda' else 'onnxruntime'
            raise ConfigError(f'engine: onnxruntime for {device.type} is not installed: pip install {package}')
        asked = 'fp32' if precision == 'auto' else precision
        if asked not in known:
            raise ConfigError(f"precision: onnxruntime knows auto, {', '.join(known)} on {device}; got '{precision}'")
        import onnxruntime

        self.precision = checkpoint.graph_precision if asked == 'fp32' else asked  # it runs a file as it is
        self.device, self.dtype = torch.device('cpu'), torch.float32
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')  # the node has other work to do
        options.log_severity_level = 3
        providers: list[Any] = ['CPUExecutionProvider']
        if device.type == 'cuda':
            settings = {name: {'device_id': str(device.index or 0)} for name in CUDA_PROVIDERS}
            settings['TensorrtExecutionProvider']['trt_fp16_enable'] = str(asked == 'fp16')
            there = onnxruntime.get_available_providers()
            providers = [*((name, given) for name, given in settings.items() if name in there), *providers]
        graph, self._names = find_graph(checkpoint), output_fields(checkpoint.config)
        if graph.suffix != '.onnx':
            raise ConfigError(f'engine: onnxruntime runs .onnx files, got {graph.name}; use engine:=openvino')
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=providers)
        except Exception as error:  # of the library's own kinds, which share no base class
            raise ConfigError(f'{graph}: onnxruntime cannot run it: {str(error).splitlines()[0]}') from error
        self._one_by_one = device.type == 'cpu' or self._session.get_inputs()[0].shape[0] == 1

    @staticmethod
    def precisions(device: torch.device) -> tuple[str, ...]:
        """See `engines.EngineClass`. Half precision is TensorRT's alone: CUDA's provider runs the file as it is."""
        if importlib.util.find_spec('onnxruntime') is None:
            return ()
        import onnxruntime

        there = onnxruntime.get_available_providers()
        if device.type == 'cpu':
            return ('fp32',)
        usable = [p for p in CUDA_PROVIDERS if p in there]
        return ('fp32', 'fp16') if CUDA_PROVIDERS[0] in usable else ('fp32',) if usable else ()

    def __call__(self, batch: Tensor) -> NetworkOutput:
        """See `engines.Engine`."""
        images = batch.contiguous().numpy()
        parts = np.split(images, len(images)) if self._one_by_one and len(images) > 1 else [images]
        name = self._session.get_inputs()[0].name
        try:
            results = [self._session.run(self._names, {name: part}) for part in parts]
        except Exception as error:  # of the library's own kinds, which share no base class
            height, width = batch.shape[2:]
            raise InputError(
                f'onnxruntime failed on {len(batch)} image(s) of {height}x{width}: {str(error).splitlines()[0]}'
            ) from error
        return join_outputs(self._names, results)
