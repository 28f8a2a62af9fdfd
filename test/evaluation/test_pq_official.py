"""PanopticQuality against cityscapesScripts' evaluator, on files, and against torchmetrics.

Where they differ by definition: torchmetrics knows no crowds, and it excuses pixels that the prediction leaves void,
as it does those that the truth leaves void; Cityscapes, COCO and we count them as missed.
"""

from __future__ import annotations

import io
import json
import math
from contextlib import redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchmetrics.detection
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as official  # noqa: N813

from sembox_ros.evaluation.pq import PanopticQuality
from sembox_ros.evaluation.scores import PanopticScores
from sembox_ros.labels import CITYSCAPES_19, load_scene_labels
from sembox_ros.panoptic import INSTANCES, VOID, compose_truth
from sembox_ros.panoptic_files import PanopticWriter

LABELS = load_scene_labels('cityscapes_19+cityscapes_things_8')
SIZE_HW = (48, 96)
THINGS = [index for index, is_thing in enumerate(CITYSCAPES_19.is_thing) if is_thing]
STUFF = [index for index, is_thing in enumerate(CITYSCAPES_19.is_thing) if not is_thing]
CAR = CITYSCAPES_19.names.index('car')


def street(seed: int, *, crowds: bool) -> tuple[np.ndarray, tuple[int, ...]]:
    """A truth of large stuff, void in places, objects over each other, and groups."""
    rng = np.random.default_rng(seed)
    height, width = SIZE_HW
    blocks = rng.choice([*STUFF[:5], 255], (3, 4), p=[*[0.18] * 5, 0.1]).astype(np.uint8)
    semantic = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)
    instances = np.zeros(SIZE_HW, np.uint16)
    class_ids = rng.integers(0, 8, 12)
    for number, class_id in enumerate(class_ids.tolist(), 1):
        x, y, w, h = rng.integers(0, width - 8), rng.integers(0, height - 8), rng.integers(4, 24), rng.integers(4, 16)
        instances[y : y + h, x : x + w] = number
        semantic[y : y + h, x : x + w] = LABELS.thing_links[class_id]
    return compose_truth(semantic, instances, class_ids, (rng.random(12) < 0.3) & crowds, LABELS)


def guess(seed: int, gt: np.ndarray, *, void: bool) -> np.ndarray:
    """The truth as a network would have it: edges moved, segments split, lost or of another class."""
    rng = np.random.default_rng(1000 + seed)
    pred = np.roll(gt, (int(rng.integers(0, 3)), int(rng.integers(0, 3))), axis=(0, 1))
    pred[:, 40:] += np.where(pred[:, 40:] % INSTANCES > 0, 100, 0).astype(np.int32)  # objects that cross it are split
    for value in np.unique(pred).tolist():
        if rng.random() < 0.15:
            class_id = rng.choice(THINGS if value % INSTANCES else STUFF)
            pred[pred == value] = class_id * INSTANCES + value % INSTANCES
    unknown = (pred >= VOID) | (np.isin(pred // INSTANCES, THINGS) & (pred % INSTANCES == 0))
    pred[unknown] = VOID if void else STUFF[6] * INSTANCES
    if void:
        pred[20:24] = VOID
    return pred


def scenes(count: int, *, void: bool, crowds: bool) -> list[tuple[np.ndarray, np.ndarray, tuple[int, ...]]]:
    """(pred, gt, crowd ids) of some images."""
    truths = [street(seed, crowds=crowds) for seed in range(count)]
    return [(guess(seed, gt, void=void), gt, crowd) for seed, (gt, crowd) in enumerate(truths)]


def ours(images: list[tuple[np.ndarray, np.ndarray, tuple[int, ...]]]) -> PanopticScores:
    metric = PanopticQuality(CITYSCAPES_19)
    for pred, gt, crowd in images:
        metric.update(pred, gt, gt_crowd=crowd)
    return metric.compute()


def check_scene_is_hard(scores: PanopticScores) -> None:
    assert 0.1 < scores.rq < 0.9
    assert 0.5 < scores.sq < 0.95
    assert all(not math.isnan(value) for value in (scores.pq_things, scores.pq_stuff))


@pytest.mark.parametrize('void', [False, True])
def test_equals_cityscapes_own_evaluator_on_the_same_files(tmp_path: Path, void: bool):
    images = scenes(8, void=void, crowds=True)
    for index, name in enumerate(('pred', 'gt')):
        writer = PanopticWriter(tmp_path, CITYSCAPES_19, name=name)
        for number, image in enumerate(images):
            writer.add(f'city_{number:06d}_000019', image[index])
        writer.finish()
    crowds = [info for _, _, info in images if info]
    assert crowds
    with redirect_stdout(io.StringIO()):
        found = official.evaluatePanoptic(
            str(tmp_path / 'gt.json'), str(tmp_path / 'gt'), str(tmp_path / 'pred.json'), str(tmp_path / 'pred'),
            str(tmp_path / 'result.json'),
        )  # fmt: skip
    assert json.loads((tmp_path / 'result.json').read_text())['All'] == found['All']
    scores = ours(images)
    check_scene_is_hard(scores)
    for part, suffix in (('All', ''), ('Things', '_things'), ('Stuff', '_stuff')):
        for name in ('pq', 'sq', 'rq'):
            assert getattr(scores, name + suffix) == pytest.approx(found[part][name], abs=1e-9)
    for label_id, values in found['per_class'].items():
        name = CITYSCAPES_19.names[official_ids().index(label_id)]
        for quality, value in values.items():
            # A class that occurs nowhere has 0 there, which counts in no mean.
            expected = getattr(scores, f'{quality}_per_class')[name]
            assert (0 if math.isnan(expected) else expected) == pytest.approx(value, abs=1e-9)


def official_ids() -> list[int]:
    """Label id of each class, by the official table."""
    by_name = {label.name: label.id for label in official.csLabels}
    return [by_name[name] for name in CITYSCAPES_19.names]


def by_torchmetrics(images: list[tuple[np.ndarray, np.ndarray, tuple[int, ...]]]) -> torch.Tensor:
    """(K, 3) PQ, SQ and RQ of each class, things first, as torchmetrics orders them."""
    metric = torchmetrics.detection.PanopticQuality(
        things=set(THINGS), stuffs=set(STUFF), allow_unknown_preds_category=True, return_sq_and_rq=True,
        return_per_class=True,
    )  # fmt: skip
    for pred, gt, _ in images:
        pair = [torch.from_numpy(np.stack((ids // INSTANCES, ids % INSTANCES), axis=-1))[None] for ids in (pred, gt)]
        metric.update(*pair)
    return metric.compute()


def test_equals_torchmetrics_without_crowds_and_void_predictions():
    images = scenes(8, void=False, crowds=False)
    assert any((gt >= VOID).any() for _, gt, _ in images)
    scores = ours(images)
    check_scene_is_hard(scores)
    for row, class_id in zip(by_torchmetrics(images).tolist(), [*THINGS, *STUFF], strict=True):
        name = CITYSCAPES_19.names[class_id]
        expected = [getattr(scores, f'{quality}_per_class')[name] for quality in ('pq', 'sq', 'rq')]
        assert np.nan_to_num(expected).tolist() == pytest.approx(row, abs=1e-6), name


def test_torchmetrics_excuses_what_the_prediction_leaves_void():
    car = CAR * INSTANCES + 1
    gt = np.full((1, 10), car, np.int32)
    missed = gt.copy()
    missed[:, 6:] = VOID  # four pixels are not said to be anything
    row = THINGS.index(CAR)
    assert by_torchmetrics([(missed, gt, ())])[row].tolist() == pytest.approx([1, 1, 1])
    assert ours([(missed, gt, ())]).pq_per_class['car'] == pytest.approx(0.6)
    nothing = np.full_like(gt, VOID)
    both = [(gt, gt, ()), (nothing, gt, ())]  # found once, and once nothing is said at all
    assert by_torchmetrics(both)[row].tolist() == pytest.approx([1, 1, 1])
    assert ours(both).pq_per_class['car'] == pytest.approx(1 / 1.5)


def test_torchmetrics_takes_a_crowd_for_an_object():
    crowd = CAR * INSTANCES
    gt = np.full((1, 10), crowd, np.int32)
    two = gt + np.repeat([[1, 2]], 5, axis=1).astype(np.int32)
    row = THINGS.index(CAR)
    assert by_torchmetrics([(two, gt, ())])[row].tolist() == [0, 0, 0]  # two wrong cars and a missed one
    assert ours([(two, gt, ())]).pq_per_class['car'] == pytest.approx(0)
    assert math.isnan(ours([(two, gt, (crowd,))]).pq)  # neither wrong nor missed
