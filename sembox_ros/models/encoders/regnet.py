"""RegNetX (Radosavovic et al. 2020) from torchvision."""

from __future__ import annotations

import torch
from torchvision import models

from sembox_ros.models.encoders.base import StagedEncoder, with_input_channels

# Channels of a group in each variant (table 10 of the paper).
GROUP_WIDTHS = {'400mf': 16, '800mf': 16, '1_6gf': 24, '3_2gf': 48}


def create_regnet_x(in_channels: int, *, variant: str) -> StagedEncoder:
    """The network without its classifier: its stem gives stride 2, its four stages 4 to 32.

    Args:
        in_channels: of its input.
        variant: a key of `GROUP_WIDTHS`.
    """
    with torch.device('cpu'):  # it computes its widths with tensors, which the meta device cannot
        net = models.get_model(f'regnet_x_{variant}', weights=None)
    net = net.to(torch.get_default_device())
    stem, blocks = net.stem, list(net.trunk_output)
    stem[0] = with_input_channels(stem[0], in_channels)
    channels = (stem[0].out_channels, *(block[-1].f.c[0].out_channels for block in blocks))
    return StagedEncoder(
        [stem, *blocks], strides=(2, 4, 8, 16, 32), channels=channels, group_width=GROUP_WIDTHS[variant]
    )
