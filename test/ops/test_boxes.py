from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.ops.boxes import clip_boxes, decode_boxes, encode_boxes

COORDINATE = st.floats(-2000, 2000, width=32)
SIDE = st.floats(1, 2000, width=32)


@st.composite
def boxes(draw: st.DrawFn) -> list[float]:
    x, y, width, height = draw(COORDINATE), draw(COORDINATE), draw(SIDE), draw(SIDE)
    return [x, y, x + width, y + height]


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(boxes(), boxes()), min_size=1, max_size=20))
def test_decode_inverts_encode(pairs: list[tuple[list[float], list[float]]]) -> None:
    # A side may grow by 1000 / 16 at most; keep within that cap.
    wanted, anchors = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    ratio = (wanted[:, 2:] - wanted[:, :2]) / (anchors[:, 2:] - anchors[:, :2])
    fits = (ratio < 1000 / 16 - 1).all(dim=1)
    decoded = decode_boxes(encode_boxes(wanted, anchors), anchors)
    torch.testing.assert_close(decoded[fits], wanted[fits], atol=1e-6, rtol=1e-9)


def test_decode_by_hand() -> None:
    anchor = torch.tensor([[10.0, 20.0, 30.0, 60.0]])  # 20 x 40 around (20, 40)
    regression = torch.tensor([[0.5, -0.25, math.log(2), math.log(0.5)]])
    # Centre (20 + 10, 40 - 10), size 40 x 20.
    torch.testing.assert_close(decode_boxes(regression, anchor), torch.tensor([[10.0, 20.0, 50.0, 40.0]]))


def test_zero_regression_gives_the_anchor() -> None:
    anchors = torch.tensor([[0.0, 1.0, 2.0, 5.0], [-3.0, -3.0, 3.0, 9.0]])
    assert torch.equal(decode_boxes(torch.zeros(2, 4), anchors), anchors)


def test_wild_size_is_capped_not_infinite() -> None:
    anchor = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    box = decode_boxes(torch.tensor([[0.0, 0.0, 1e9, torch.inf]]), anchor)[0]
    torch.testing.assert_close(box[2:] - box[:2], torch.tensor([1000.0, 1000.0]))


def test_half_precision_regression_is_decoded_in_the_anchors_precision() -> None:
    anchor = torch.tensor([[4000.0, 4000.0, 4100.0, 4100.0]])
    box = decode_boxes(torch.zeros(1, 4, dtype=torch.float16), anchor)
    assert box.dtype == torch.float32
    assert torch.equal(box, anchor)


def test_decode_broadcasts_over_a_batch() -> None:
    anchors = torch.rand(5, 4).cumsum(dim=1)
    regression = torch.randn(3, 5, 4)
    batched = decode_boxes(regression, anchors)
    assert batched.shape == (3, 5, 4)
    torch.testing.assert_close(batched[1], decode_boxes(regression[1], anchors))


@settings(deadline=None)
@given(box=boxes(), height=st.integers(1, 3000), width=st.integers(1, 3000))
def test_clip_puts_every_corner_into_the_image_and_moves_no_other(box: list[float], height: int, width: int) -> None:
    clipped = clip_boxes(torch.tensor([box]), (height, width))[0].tolist()
    limits = (width, height, width, height)
    plain = torch.tensor(box).tolist()
    assert clipped == [min(max(value, 0.0), limit) for value, limit in zip(plain, limits, strict=True)]


def test_clip_keeps_nan_for_the_caller_to_drop() -> None:
    clipped = clip_boxes(torch.tensor([[torch.nan, 0.0, torch.inf, 5.0]]), (4, 3))[0]
    assert torch.isnan(clipped[0])
    assert clipped[1:].tolist() == [0.0, 3.0, 4.0]
