from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sembox_ros.ops import resize
from sembox_ros.ops.resize import fit_within, resize_argmax

SIZES = [(64, 96), (128, 192), (33, 47), (1, 1), (1, 200), (97, 2), (32, 48), (32, 100), (70, 48), (5, 300)]


def smooth_logits(classes: int = 7, height: int = 32, width: int = 48, seed: int = 0) -> torch.Tensor:
    return torch.randn(classes, height, width, generator=torch.Generator().manual_seed(seed)) * 3


def reference(logits: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
    """All logits at full size, in double precision."""
    return F.interpolate(logits.double()[None], size=size_hw, mode='bilinear', align_corners=False)[0]


@pytest.mark.parametrize('size_hw', SIZES)
def test_classes_agree_with_interpolate_and_argmax(size_hw: tuple[int, int]) -> None:
    logits = smooth_logits()
    full = reference(logits, size_hw)
    ids, confidence = resize_argmax(logits, size_hw, with_confidence=False)
    assert confidence is None
    assert ids.dtype == torch.uint8
    assert ids.shape == size_hw
    best = full.topk(2, dim=0).values
    tied = best[0] - best[1] < 1e-4
    assert tied.float().mean() < 0.01
    assert torch.equal(ids[~tied].long(), full.argmax(dim=0)[~tied])


@pytest.mark.parametrize('size_hw', SIZES)
def test_confidence_is_the_softmax_of_the_winner(size_hw: tuple[int, int]) -> None:
    logits = smooth_logits()
    probability = reference(logits, size_hw).softmax(dim=0).amax(dim=0) * 255
    confidence = resize_argmax(logits, size_hw, with_confidence=True)[1]
    assert confidence is not None
    assert confidence.dtype == torch.uint8
    assert (confidence.double() - probability).abs().max() <= 0.51


@pytest.mark.parametrize('values', [1, 700, 3000])
@pytest.mark.parametrize('size_hw', [(97, 90), (32, 90)])
def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch, values: int, size_hw: tuple[int, int]) -> None:
    logits = smooth_logits()
    whole = resize_argmax(logits, size_hw, with_confidence=True)
    monkeypatch.setattr(resize, 'STRIP_VALUES', values)
    strips = resize_argmax(logits, size_hw, with_confidence=True)
    assert torch.equal(whole[0], strips[0])
    assert torch.equal(whole[1], strips[1])


def test_no_tensor_grows_with_classes_times_output_area(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest maximum ever taken is over one strip, not over all resized logits."""
    seen: list[int] = []
    plain_lerp = torch.lerp

    def watched(start: torch.Tensor, end: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        seen.append(start.numel())
        return plain_lerp(start, end, weight)

    monkeypatch.setattr(torch, 'lerp', watched)
    monkeypatch.setattr(resize, 'STRIP_VALUES', 50_000)
    ids, _ = resize_argmax(smooth_logits(20, 16, 16), (500, 600), with_confidence=False)
    assert ids.shape == (500, 600)
    assert sum(seen) == 20 * 500 * 600
    assert max(seen) <= 50_000


def test_reads_a_part_of_larger_logits() -> None:
    """The postprocessing hands in a crop, which is not contiguous."""
    logits = smooth_logits(5, 40, 60)
    crop = logits[:, :20, :30]
    assert not crop.is_contiguous()
    expected = resize_argmax(crop.clone(), (50, 70), with_confidence=False)[0]
    assert torch.equal(resize_argmax(crop, (50, 70), with_confidence=False)[0], expected)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    logits = smooth_logits().to(dtype)
    full = reference(logits, (64, 96))
    best = full.topk(2, dim=0).values
    clear = best[0] - best[1] > 0.2
    ids, confidence = resize_argmax(logits, (64, 96), with_confidence=True)
    assert torch.equal(ids[clear].long(), full.argmax(dim=0)[clear])
    assert confidence is not None
    assert (confidence.double() - full.softmax(dim=0).amax(dim=0) * 255).abs().max() < 8


def test_non_finite_logits_give_valid_ids() -> None:
    logits = smooth_logits(5)
    logits[2, :10] = torch.nan
    logits[1, 20:] = torch.inf
    ids, confidence = resize_argmax(logits, (64, 100), with_confidence=True)
    assert int(ids.max()) < 5
    assert confidence is not None
    assert int(confidence[:18].max()) == 0  # no probability where there is none


def test_class_254_fits_uint8() -> None:
    logits = torch.zeros(255, 2, 2)
    logits[254] = 9
    assert resize_argmax(logits, (3, 3), with_confidence=False)[0].unique().tolist() == [254]


@settings(deadline=None)
@given(height=st.integers(1, 9000), width=st.integers(1, 9000), rows=st.integers(1, 16), columns=st.integers(1, 16))
def test_fit_within_fills_one_side_and_keeps_the_aspect(height: int, width: int, rows: int, columns: int) -> None:
    canvas = (rows * 128, columns * 128)
    fitted = fit_within((height, width), canvas)
    assert 1 <= fitted[0] <= canvas[0]
    assert 1 <= fitted[1] <= canvas[1]
    assert fitted[0] == canvas[0] or fitted[1] == canvas[1]
    scale = min(canvas[0] / height, canvas[1] / width)
    for side, wanted in zip(fitted, (height * scale, width * scale), strict=True):
        assert abs(side - wanted) <= 0.5 + 1e-6 or side == 1


@pytest.mark.parametrize(
    ('size_hw', 'expected'),
    [((1024, 2048), (512, 1024)), ((480, 640), (512, 683)), ((1, 1), (512, 512)), ((1, 3000), (1, 1024)),
     ((3000, 2), (512, 1)), ((256, 512), (512, 1024))],
)  # fmt: skip
def test_fit_within_by_hand(size_hw: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit_within(size_hw, (512, 1024)) == expected
