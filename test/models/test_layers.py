"""Batch norms that are measured."""

from __future__ import annotations

import torch
from torch import nn

from sembox_ros.models.layers import measure_norms


def test_statistics_are_plain_averages_over_the_batches() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1)).train()
    frozen = model[1].eval()
    batches = [torch.tensor([0.0, 2.0]).view(2, 1, 1, 1), torch.tensor([4.0, 10.0]).view(2, 1, 1, 1)]
    measure_norms(model, batches)
    assert model[0].running_mean.item() == 4.0  # of 1 and 7
    assert model[0].running_var.item() == 10.0  # of 2 and 18, unbiased
    assert model[0].momentum == 0.1
    assert (frozen.running_mean.item(), frozen.running_var.item()) == (0.0, 1.0)


def test_no_batches_change_nothing() -> None:
    model = nn.BatchNorm2d(1).train()
    model.running_mean.fill_(3.0)
    measure_norms(model, [])
    assert model.running_mean.item() == 3.0
    assert model.momentum == 0.1
