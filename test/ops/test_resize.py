from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sembox_ros.ops import resize
from sembox_ros.ops.resize import fit_within, plan_axis, resize_argmax, resize_through

Size = tuple[int, int] | None
Sizes = tuple[tuple[int, int], ...]
SIZES = [(64, 96), (128, 192), (33, 47), (1, 1), (1, 200), (97, 2), (32, 48), (32, 100), (70, 48), (5, 300)]


def smooth_logits(classes: int = 7, height: int = 32, width: int = 48, seed: int = 0) -> torch.Tensor:
    return torch.randn(classes, height, width, generator=torch.Generator().manual_seed(seed)) * 3


def argmax(
    logits: torch.Tensor,
    size_hw: tuple[int, int],
    *,
    with_confidence: bool,
    sizes_hw: Sizes = (),
    window_hw: Size = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    window_hw = window_hw or (tuple(logits.shape[1:]), *sizes_hw)[-1]
    rows, columns = (
        plan_axis(logits.shape[i + 1], tuple(s[i] for s in sizes_hw), window_hw[i], size_hw[i], torch.device('cpu'))
        for i in range(2)
    )
    return resize_argmax(logits, rows, columns, with_confidence=with_confidence)


def reference(
    logits: torch.Tensor, size_hw: tuple[int, int], sizes_hw: Sizes = (), window_hw: Size = None
) -> torch.Tensor:
    """All logits at full size, in double precision, one resize after the other."""
    full = resize_through(logits.double()[None], sizes_hw)
    height, width = window_hw or full.shape[2:]
    return F.interpolate(full[:, :, :height, :width], size=size_hw, mode='bilinear', align_corners=False)[0]


@pytest.mark.parametrize('size_hw', SIZES)
def test_classes_agree_with_interpolate_and_argmax(size_hw: tuple[int, int]) -> None:
    logits = smooth_logits()
    ids, confidence = argmax(logits, size_hw, with_confidence=False)
    assert confidence is None
    assert ids.dtype == torch.uint8
    assert ids.shape == size_hw
    full = reference(logits, size_hw)
    best = full.topk(2, dim=0).values
    tied = best[0] - best[1] < 1e-4
    assert tied.float().mean() < 0.01
    assert torch.equal(ids[~tied].long(), full.argmax(dim=0)[~tied])


@pytest.mark.parametrize('size_hw', SIZES)
def test_evaluated_confidence_is_the_softmax_of_the_winner(
    monkeypatch: pytest.MonkeyPatch, size_hw: tuple[int, int]
) -> None:
    monkeypatch.setattr(resize, 'CERTAIN', 1.1)  # nothing is
    logits = smooth_logits()
    probability = reference(logits, size_hw).softmax(dim=0).amax(dim=0) * 255
    confidence = argmax(logits, size_hw, with_confidence=True)[1]
    assert confidence is not None
    assert confidence.dtype == torch.uint8
    assert (confidence.double() - probability).abs().max() <= 0.51


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_chain_of_resizes_and_any_crop_agree_with_doing_them_one_by_one(data: st.DataObject) -> None:
    side = st.integers(1, 24)
    source_hw = data.draw(st.tuples(side, side))
    sizes_hw = tuple(data.draw(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=2)))
    last_hw = (source_hw, *sizes_hw)[-1]
    window_hw = tuple(data.draw(st.integers(1, s)) for s in last_hw)
    size_hw = data.draw(st.tuples(st.integers(1, 80), st.integers(1, 80)))
    smooth = data.draw(st.booleans())
    logits = smooth_logits(4, *source_hw, seed=data.draw(st.integers(0, 99)))
    if smooth:  # large regions of one class, most of which are not evaluated
        logits = resize_through(smooth_logits(4, 3, 3)[None], [source_hw])[0] * 4
    ids, confidence = argmax(logits, size_hw, with_confidence=True, sizes_hw=sizes_hw, window_hw=window_hw)
    full = reference(logits, size_hw, sizes_hw, window_hw)
    best = full.topk(2, dim=0).values
    clear = best[0] - best[1] > 1e-4
    assert torch.equal(ids[clear].long(), full.argmax(dim=0)[clear])
    assert confidence is not None
    assert ((confidence.double() - full.softmax(dim=0).amax(dim=0) * 255).abs()[clear] < 64).all()


def test_plan_is_the_matrix_of_all_resizes() -> None:
    plan = plan_axis(16, (32, 64), 50, 101, torch.device('cpu'))
    values = torch.randn(16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = F.interpolate(values[None, None], size=32, mode='linear')
    wanted = F.interpolate(F.interpolate(wanted, size=64, mode='linear')[..., :50], size=101, mode='linear')[0, 0]
    assert torch.allclose(plan.matrix.double() @ values, wanted, atol=1e-6)
    assert torch.allclose(plan.matrix.sum(dim=1), torch.ones(101))
    assert (plan.matrix >= 0).all()
    members = {int(p) for source in plan.used.nonzero() for p in plan.pixels[source].flatten()}
    assert members == set(range(101))


@pytest.mark.parametrize('values', [1, 700, 3000])
@pytest.mark.parametrize('size_hw', [(97, 90), (32, 90)])
def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch, values: int, size_hw: tuple[int, int]) -> None:
    logits = smooth_logits()
    whole = argmax(logits, size_hw, with_confidence=True)
    monkeypatch.setattr(resize, 'CHUNK_VALUES', values)
    chunks = argmax(logits, size_hw, with_confidence=True)
    assert torch.equal(whole[0], chunks[0])
    assert torch.equal(whole[1], chunks[1])


@pytest.mark.parametrize('flat', [True, False])
def test_no_tensor_grows_with_classes_times_output_area(monkeypatch: pytest.MonkeyPatch, flat: bool) -> None:
    """Noise is evaluated in chunks of bounded size; where one class wins everywhere, nothing is evaluated at all."""
    seen: list[int] = []
    plain = torch.bmm

    def watched(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        values = plain(first, second)
        seen.append(values.numel())
        return values

    logits = smooth_logits(20, 16, 16)
    if flat:
        logits[3] += 100
    monkeypatch.setattr(torch, 'bmm', watched)
    monkeypatch.setattr(resize, 'CHUNK_VALUES', 50_000)
    ids, _ = argmax(logits, (500, 600), with_confidence=False)
    assert ids.shape == (500, 600)
    if flat:
        assert not seen
        assert (ids == 3).all()
    else:
        assert sum(seen) > 20 * 400 * 500
        assert max(seen) <= 50_000


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    logits = smooth_logits().to(dtype)
    full = reference(logits, (64, 96))
    best = full.topk(2, dim=0).values
    clear = best[0] - best[1] > 0.2
    ids, confidence = argmax(logits, (64, 96), with_confidence=True)
    assert torch.equal(ids[clear].long(), full.argmax(dim=0)[clear])
    assert confidence is not None
    assert (confidence.double() - full.softmax(dim=0).amax(dim=0) * 255).abs().max() < 8


def test_non_finite_logits_give_valid_ids() -> None:
    logits = smooth_logits(5)
    logits[2, :10] = torch.nan
    logits[1, 20:] = torch.inf
    ids, confidence = argmax(logits, (64, 100), with_confidence=True)
    assert int(ids.max()) < 5
    assert confidence is not None
    assert int(confidence[:18].max()) == 0  # no probability where there is none


def test_class_254_fits_uint8() -> None:
    logits = torch.zeros(255, 2, 2)
    logits[254] = 9
    assert argmax(logits, (3, 3), with_confidence=False)[0].unique().tolist() == [254]


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
