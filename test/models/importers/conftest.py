from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sembox_ros.models.importers.verification import Golden, read_golden

GOLDENS = Path(__file__).resolve().parents[2] / 'goldens'


@pytest.fixture(scope='session')
def golden_d0() -> Golden:
    return read_golden(GOLDENS / 'golden_efficientdet_d0.npz')


@pytest.fixture
def d0_state(golden_d0: Golden) -> dict[str, Tensor]:
    """A state dict as the public port saves it, the test's own to change."""
    return dict(golden_d0.state)


@pytest.fixture(autouse=True)
def quiet_torch() -> None:
    torch.manual_seed(0)
