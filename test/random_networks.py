"""Networks with random weights whose outputs nevertheless depend on the image."""

from __future__ import annotations

import torch
from torch import nn

from sembox_ros.config import SIZE_DIVISOR
from sembox_ros.models.layers import measure_norms


def calibrate_norms(model: nn.Module, *, seed: int, channels: int = 3) -> None:
    """Measure all batch norms on one batch of noise of several grain sizes.

    With the initial statistics (mean 0, variance 1) a hundred layers of random weights fade to a constant, and
    the outputs no longer depend on the image; a comparison of outputs would show nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    # 36 cells at p7: few values would give a variance that means nothing.
    height, width = getattr(model, 'canvas_hw', (3 * SIZE_DIVISOR, 3 * SIZE_DIVISOR))
    count = 1 if hasattr(model, 'canvas_hw') else 4  # networks of one size have a large one
    images = torch.zeros(count, channels, height, width)
    for grain in (1, 8, 32, 128):
        noise = torch.randn(count, channels, height // grain, width // grain, generator=generator)
        images += noise.repeat_interleave(grain, dim=2).repeat_interleave(grain, dim=3) / 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # stochastic depth draws in training mode
        measure_norms(model.train(), [images])
