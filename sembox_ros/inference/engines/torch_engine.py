"""The network in PyTorch: eager, channels-last, folded; it needs nothing but PyTorch."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from sembox_ros.errors import ConfigError, InputError
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.folding import fold
from sembox_ros.models.sembox import NetworkOutput, concatenate

DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}


class TorchEngine:
    """Runs a checkpoint's own network. See `engines.EngineClass`.

    On the CPU images of a batch run one after the other: together they are slower, because less fits the cache.
    """

    name = 'torch'

    def __init__(self, checkpoint: Checkpoint, *, device: torch.device, precision: str, threads: int) -> None:
        if checkpoint.graph is not None:
            raise ConfigError(f'engine: torch cannot run {checkpoint.graph.name}; use engine:=auto or the checkpoint')
        if precision == 'auto':
            precision = 'fp16' if device.type == 'cuda' else 'fp32'
        if precision not in DTYPES:
            raise ConfigError(f"precision: torch knows auto, {', '.join(DTYPES)}; got '{precision}'")
        self.device, self.precision, self.dtype = device, precision, DTYPES[precision]
        torch.set_num_threads(threads or os.cpu_count() or 1)
        # A copy: the checkpoint's own weights must not change their type or device behind its back.
        self._model = fold(checkpoint.model).to(device, self.dtype).to(memory_format=torch.channels_last)

    @staticmethod
    def precisions(device: torch.device) -> tuple[str, ...]:
        """See `engines.EngineClass`. On the CPU bf16 is there but slow, so nobody chooses it unasked."""
        return ('fp32', 'fp16') if device.type == 'cuda' else ('fp32',)

    def __call__(self, batch: Tensor) -> NetworkOutput:
        """See `engines.Engine`."""
        try:
            parts = batch.split(1) if self.device.type == 'cpu' and len(batch) else [batch]
            outputs: list[NetworkOutput] = [self._model(part) for part in parts]
        except torch.cuda.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            height, width = batch.shape[2:]
            raise InputError(
                f'out of device memory with {len(batch)} image(s) on a {height}x{width} canvas; '
                f'use a smaller input size or precision:=fp16 ({str(error).splitlines()[0]})'
            ) from error
        return concatenate(outputs)
