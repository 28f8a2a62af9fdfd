from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.ops import nms
from sembox_ros.ops.nms import CANDIDATES, matrix_nms, select_boxes, top_candidates

# Three boxes in a row: the first two overlap by 9/11 (IoU 0.818), the third lies elsewhere.
BOXES = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
SCORES = torch.tensor([0.6, 0.9, 0.7])


def select(class_ids: list[int], threshold: float = 0.5, most: int = 100) -> list[float]:
    """Scores of the boxes that remain, as stored."""
    boxes, classes, scores = select_boxes(
        BOXES, torch.tensor(class_ids), SCORES, nms_iou_threshold=threshold, max_detections=most
    )
    for box, class_id, score in zip(boxes, classes, scores, strict=True):
        source = SCORES.tolist().index(float(score))  # the three columns still belong together
        assert torch.equal(box, BOXES[source])
        assert int(class_id) == class_ids[source]
    return [round(float(s), 4) for s in scores]


def test_worse_box_of_the_same_class_goes() -> None:
    assert select([3, 3, 3]) == [0.9, 0.7]


def test_boxes_of_different_classes_never_suppress_each_other() -> None:
    assert select([3, 4, 3]) == [0.9, 0.7, 0.6]


@pytest.mark.parametrize(('threshold', 'remaining'), [(0.81, 2), (0.82, 3)])
def test_overlap_is_compared_with_the_threshold(threshold: float, remaining: int) -> None:
    assert len(select([0, 0, 0], threshold)) == remaining


def test_at_most_max_detections_remain_and_they_are_the_best() -> None:
    assert select([0, 1, 2], most=2) == [0.9, 0.7]


def test_no_boxes_at_all() -> None:
    boxes, classes, scores = select_boxes(
        torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0), nms_iou_threshold=0.5, max_detections=5
    )
    assert boxes.shape == (0, 4)
    assert len(classes) == len(scores) == 0


def check_against_brute_force(logits: torch.Tensor, threshold: float, count: int) -> torch.Tensor:
    """Compare with a sort of every pair; the anchors found."""
    anchor_ids, class_ids, scores = top_candidates(logits, threshold)
    chosen = logits[anchor_ids, class_ids]
    every = logits.flatten()
    best = every[~torch.isnan(every) & (every != -torch.inf)].sort(descending=True).values[:count]
    assert torch.equal(chosen, best[: len(chosen)])
    # sigmoid's last bit depends on where in a vector a number stands
    torch.testing.assert_close(scores, chosen.sigmoid(), atol=1e-6, rtol=0)
    assert (scores >= threshold - 1e-6).all()
    assert (best[len(chosen) :].sigmoid() < threshold + 1e-6).all()
    pairs = set(zip(anchor_ids.tolist(), class_ids.tolist(), strict=True))
    assert len(pairs) == len(scores)
    return anchor_ids


LOGIT = st.floats(-20, 20, width=32) | st.sampled_from([float('nan'), float('-inf')])


@settings(deadline=None)
@given(data=st.data(), anchors=st.integers(1, 12), classes=st.integers(1, 5), count=st.integers(1, 8))
def test_top_candidates_equal_brute_force(data: st.DataObject, anchors: int, classes: int, count: int) -> None:
    values = data.draw(st.lists(LOGIT, min_size=anchors * classes, max_size=anchors * classes))
    threshold = data.draw(st.floats(0, 1))
    logits = torch.tensor(values).reshape(anchors, classes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms, 'CANDIDATES', count)
        check_against_brute_force(logits, threshold, count)


def test_top_candidates_of_many_anchors_equal_brute_force() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3069, 7, generator=generator) * 3
    logits[::5] = torch.nan
    logits[17] = 30.0  # a whole anchor of winners
    anchor_ids = check_against_brute_force(logits, 0.3, CANDIDATES)
    assert len(anchor_ids) == CANDIDATES
    assert anchor_ids[:7].tolist() == [17] * 7


def test_top_candidates_of_nothing_but_nan_are_none() -> None:
    for shape in ((3, 4), (2000, 4)):
        anchor_ids, class_ids, scores = top_candidates(torch.full(shape, torch.nan), 0.0)
        assert len(anchor_ids) == len(class_ids) == len(scores) == 0


def test_infinite_logit_is_certainty() -> None:
    anchor_ids, class_ids, scores = top_candidates(torch.tensor([[0.0, torch.inf], [-torch.inf, 1.0]]), 0.9)
    assert (anchor_ids.tolist(), class_ids.tolist(), scores.tolist()) == ([0], [1], [1.0])


def test_score_on_the_threshold_stays() -> None:
    assert len(top_candidates(torch.zeros(1, 1), 0.5)[2]) == 1
    assert len(top_candidates(torch.zeros(1, 1), 0.5001)[2]) == 0


def test_half_precision_logits_give_float_scores() -> None:
    scores = top_candidates(torch.tensor([[1.0, -1.0]], dtype=torch.bfloat16), 0.0)[2]
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, torch.sigmoid(torch.tensor([1.0, -1.0])))


def decayed_by_the_book(masks: torch.Tensor, class_ids: list[int], scores: list[float], sigma: float) -> list[float]:
    """Equations 4 and 5 of the paper in loops."""

    def iou(i: int, j: int) -> float:
        union = float((masks[i] | masks[j]).sum())
        return float((masks[i] & masks[j]).sum()) / union if class_ids[i] == class_ids[j] else 0.0

    def f(overlap: float) -> float:
        return math.exp(-sigma * overlap**2)

    result = []
    for j, score in enumerate(scores):
        decays = [f(iou(i, j)) / f(max((iou(k, i) for k in range(i)), default=0.0)) for i in range(j)]
        result.append(score * min(decays, default=1.0))
    return result


def test_matrix_nms_lets_copies_decay_and_spares_neighbours_and_other_classes() -> None:
    masks = torch.zeros(4, 100, dtype=torch.bool)
    masks[0, :40] = masks[1, :40] = masks[2, :40] = True  # 1 is a copy of 0, 2 one of another class
    masks[3, 40:60] = True
    scores = matrix_nms(masks, torch.tensor([5, 5, 6, 5]), torch.tensor([0.9, 0.8, 0.7, 0.6]), sigma=2.0)
    assert scores.tolist() == pytest.approx([0.9, 0.8 * math.exp(-2), 0.7, 0.6])


def test_a_copy_of_a_copy_decays_by_the_first_alone() -> None:
    masks = torch.zeros(3, 90, dtype=torch.bool)
    masks[0, :30], masks[1, 10:40], masks[2, 20:50] = True, True, True  # overlaps 1/2, 1/5; 2 meets 1 by 1/2
    scores = matrix_nms(masks, torch.zeros(3, dtype=torch.long), torch.full((3,), 0.5), sigma=2.0)
    # Against 1, which is itself half a copy of 0: f(1/2) / f(1/2) = 1. Against 0: f(1/5).
    assert scores.tolist() == pytest.approx([0.5, 0.5 * math.exp(-2 / 4), 0.5 * math.exp(-2 / 25)])


def test_matrix_nms_of_nothing() -> None:
    none = matrix_nms(torch.zeros(0, 9, dtype=torch.bool), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert none.shape == (0,)


@settings(deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 8), sigma=st.sampled_from([0.5, 2.0]))
def test_matrix_nms_is_the_papers(seed: int, count: int, sigma: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, 30, generator=generator) < 0.4
    masks[:, 0] = True
    class_ids = torch.randint(0, 2, (count,), generator=generator)
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    found = matrix_nms(masks, class_ids, scores, sigma=sigma)
    wanted = decayed_by_the_book(masks, class_ids.tolist(), scores.tolist(), sigma)
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)
    assert (found <= scores + 1e-6).all()
