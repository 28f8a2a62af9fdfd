"""The CUDA kernel, run by Triton's interpreter on the CPU: what it computes, not how fast."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip('triton')

# A process of its own: Triton decides when it is imported whether it interprets.
PROGRAM = """
import torch
from torch.nn import functional as F
from sembox_ros.ops.fused_argmax import resize_argmax_cuda
from sembox_ros.ops.resize import plan_axis, resize_through

generator = torch.Generator().manual_seed(0)
for classes, source_hw, sizes_hw, window_hw, size_hw, dtype in (
    (19, (8, 12), ((16, 24), (32, 48)), (30, 48), (45, 300), torch.float32),
    (3, (5, 7), (), (5, 7), (3, 4), torch.float32),
    (20, (10, 10), ((21, 22),), (21, 22), (50, 70), torch.bfloat16),
    (2, (1, 1), (), (1, 1), (4, 5), torch.float32),
):
    logits = (torch.randn(classes, *source_hw, generator=generator) * 3).to(dtype)
    rows, columns = (
        plan_axis(source_hw[i], tuple(s[i] for s in sizes_hw), window_hw[i], size_hw[i], torch.device('cpu'))
        for i in range(2)
    )
    full = resize_through(logits.double()[None], sizes_hw)[:, :, : window_hw[0], : window_hw[1]]
    full = F.interpolate(full, size=size_hw, mode='bilinear', align_corners=False)[0]
    best = full.topk(2, dim=0).values
    clear = best[0] - best[1] > 1e-4
    ids, confidence = resize_argmax_cuda(logits, rows, columns, with_confidence=True)
    assert ids.shape == confidence.shape == size_hw
    assert clear.float().mean() > 0.9
    assert torch.equal(ids[clear].long(), full.argmax(dim=0)[clear])
    assert (confidence.double() - full.softmax(dim=0).amax(dim=0) * 255).abs().max() <= 0.51
    alone, nothing = resize_argmax_cuda(logits, rows, columns, with_confidence=False)
    assert torch.equal(alone, ids) and nothing is None
logits[:] = torch.nan
ids, confidence = resize_argmax_cuda(logits, rows, columns, with_confidence=True)
assert not ids.any() and not confidence.any()
print('same')
"""


def test_kernel_computes_what_resizing_everything_gives() -> None:
    environment = {**os.environ, 'TRITON_INTERPRET': '1'}
    result = subprocess.run(
        [sys.executable, '-c', PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout.strip() == 'same', result.stderr
