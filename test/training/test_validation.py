from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sembox_ros.config import InputConfig, ModelConfig
from sembox_ros.data.sample import Sample
from sembox_ros.data.transforms import Batch, EvalTransform, collate
from sembox_ros.errors import InputError
from sembox_ros.evaluation.scores import BoxScores, DepthScores, MotionScores, PanopticScores, SemanticScores
from sembox_ros.labels import load_scene_labels
from sembox_ros.models.sembox import NetworkOutput
from sembox_ros.ops.anchors import create_anchors
from sembox_ros.ops.boxes import encode_boxes
from sembox_ros.training.validation import Grader, Scores, draw_example, validate
from sembox_ros.types import Detections, Scene

LABELS = load_scene_labels('cityscapes_19+cityscapes_things_8')
SIZE_HW = (128, 256)
INPUT = InputConfig(size_hw=SIZE_HW)
MODEL = ModelConfig(detection_classes=8, anchor_scale=2.0)
ROAD, SKY, CAR = (LABELS.semantic.names.index(name) for name in ('road', 'sky', 'car'))
BOX_PERSON, BOX_CAR = (LABELS.detection.names.index(name) for name in ('person', 'car'))


def sample(index: int) -> Sample:
    semantic = np.full(SIZE_HW, ROAD, np.uint8)
    semantic[:64] = SKY
    semantic[:, :16] = 255
    boxes = np.array([[20 + 30 * index, 20, 60 + 30 * index, 50], [150, 60, 170, 110]], np.float32)
    instances = np.zeros(SIZE_HW, np.uint16)
    for x0, y0, x1, y1 in boxes[:1].astype(int):
        semantic[y0:y1, x0:x1] = CAR
        instances[y0:y1, x0:x1] = 1
    image = np.random.default_rng(index).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)
    return Sample(
        image=image, image_id=f'image {index}', semantic=semantic, boxes_xyxy=boxes,
        class_ids=np.array([BOX_CAR, BOX_PERSON], np.int64), is_crowd=np.zeros(2, np.bool_), instances=instances,
    )  # fmt: skip


class Oracle(nn.Module):
    """In place of a network: raw tensors that mean exactly the given samples, in their order."""

    def __init__(self, samples: list[Sample], *, score: float = 0.98) -> None:
        super().__init__()
        self.left, self.score = list(samples), score

    def forward(self, images: Tensor) -> NetworkOutput:
        anchors = create_anchors(SIZE_HW, anchor_scale=MODEL.anchor_scale)
        shape = (len(images), len(anchors))
        class_logits, regression = torch.full((*shape, 8), -20.0), torch.zeros(*shape, 4)
        semantic_logits = torch.zeros(len(images), 19, *SIZE_HW)
        for index in range(len(images)):
            one = self.left.pop(0)
            known = torch.from_numpy(np.where(one.semantic == 255, ROAD, one.semantic)).long()
            semantic_logits[index].scatter_(0, known[None], 5.0)
            centers = (anchors[:, :2] + anchors[:, 2:]) / 2
            for box, class_id in zip(torch.from_numpy(one.boxes_xyxy), one.class_ids.tolist(), strict=True):
                nearest = int((centers - (box[:2] + box[2:]) / 2).norm(dim=1).argmin())
                class_logits[index, nearest, class_id] = math.log(self.score / (1 - self.score))
                regression[index, nearest] = encode_boxes(box, anchors[nearest])
        return NetworkOutput(class_logits, regression, semantic_logits)


def batches(samples: list[Sample], size: int) -> list[Batch]:
    transform = EvalTransform(INPUT)
    return [collate([transform(s) for s in samples[i : i + size]]) for i in range(0, len(samples), size)]


def graded(truth: list[Sample], said: list[Sample], *, examples: int = 0, size: int = 2) -> Grader:
    grader = Grader(LABELS, LABELS, examples=examples)
    validate(
        Oracle(said), batches(truth, size), grader, model_config=MODEL, input_config=INPUT, device=torch.device('cpu')
    )
    return grader


def test_a_perfect_network_scores_one():
    samples = [sample(index) for index in range(3)]
    grader = graded(samples, samples, examples=2)
    scores = grader.compute()
    names = ('miou', 'pixel_accuracy', 'ap', 'ap50', 'pq', 'pq_things', 'pq_stuff')
    assert scores.headline() == pytest.approx(dict.fromkeys(names, 1.0))
    assert [n for n, v in scores.semantic.iou_per_class.items() if not math.isnan(v)] == ['road', 'sky', 'car']
    assert scores.boxes.ap_per_class['person'] == pytest.approx(1.0)
    assert scores.rank('miou+ap') == pytest.approx(2.0)
    assert [p.shape for p in grader.pictures] == [(128, 3 * 256, 3)] * 2
    assert np.array_equal(grader.pictures[1][:, :256], samples[1].image)


def test_mistakes_cost_what_they_should():
    truth = [sample(0), sample(1)]
    # Of the second image everything is road, and only its person is found.
    said = Sample(
        image=truth[1].image, image_id='image 1', semantic=np.full(SIZE_HW, ROAD, np.uint8),
        boxes_xyxy=truth[1].boxes_xyxy[1:], class_ids=truth[1].class_ids[1:], is_crowd=np.zeros(1, np.bool_),
    )  # fmt: skip
    scores = graded(truth, [truth[0], said]).compute()
    pixels = 128 * 240  # of an image, without its ignored columns
    car, sky = 30 * 40, 64 * 240 - 30 * 40
    road = pixels - car - sky
    iou = {'road': 2 * road / (road + pixels), 'sky': 1 / 2, 'car': 1 / 2}
    assert {n: v for n, v in scores.semantic.iou_per_class.items() if not math.isnan(v)} == pytest.approx(iou)
    assert scores.semantic.miou == pytest.approx(sum(iou.values()) / 3)
    assert scores.semantic.pixel_accuracy == pytest.approx((pixels + road) / (2 * pixels))
    assert scores.boxes.ap50_per_class['person'] == pytest.approx(1.0)
    # One of two cars: precision 1 up to recall 0.5, which are 51 of COCO's 101 points.
    assert scores.boxes.ap50_per_class['car'] == pytest.approx(51 / 101)


def test_unsure_instances_count_for_ap_alone():
    truth = [sample(0)]
    grader = Grader(LABELS, LABELS, examples=0)
    network = Oracle(truth, score=0.2)
    validate(network, batches(truth, 1), grader, model_config=MODEL, input_config=INPUT, device=torch.device('cpu'))
    scores = grader.compute()
    assert scores.boxes.ap_per_class['car'] == pytest.approx(1.0)
    assert scores.panoptic.rq_per_class['car'] == 0
    assert scores.panoptic.pq_stuff == 1


def test_processes_merge_to_what_one_would_have_found():
    truth = [sample(index) for index in range(4)]
    said = [truth[0], truth[0], truth[2], truth[1]]
    whole = graded(truth, said, size=3)
    first, second = graded(truth[::2], said[::2], examples=1), graded(truth[1::2], said[1::2])
    first.merge(second)
    assert first.compute().to_dict() == whole.compute().to_dict()
    assert whole.compute().headline()['ap'] < 1
    assert len(first.pictures) == 1
    with pytest.raises(InputError, match='the first is'):
        first.merge(second)


def test_parts_that_are_not_there():
    truth = sample(0)
    grader = Grader(LABELS, LABELS, examples=1)
    boxes_only = Sample(
        image=truth.image, image_id='a', boxes_xyxy=truth.boxes_xyxy, class_ids=truth.class_ids,
        is_crowd=truth.is_crowd,
    )  # fmt: skip
    masks_only = Sample(image=truth.image, image_id='b', semantic=truth.semantic)
    for one in (boxes_only, masks_only):
        validate(
            Oracle([truth]), batches([one], 1), grader, model_config=MODEL, input_config=INPUT,
            device=torch.device('cpu'),
        )  # fmt: skip
    scores = grader.compute()
    assert scores.headline()['miou'] == 1.0
    assert scores.headline()['ap'] == pytest.approx(1.0)


class GeometryOracle(nn.Module):
    """In place of a network: the same depth and motion for every pixel."""

    stride = 4

    def __init__(self, metres: float, logit: float) -> None:
        super().__init__()
        self.metres, self.logit = metres, logit

    def forward(self, images: Tensor) -> NetworkOutput:
        shape = (len(images), 1, SIZE_HW[0] // self.stride, SIZE_HW[1] // self.stride)
        depth, motion = torch.full(shape, math.log(self.metres)), torch.full(shape, self.logit)
        return NetworkOutput(log_depth=depth, motion_logits=motion)

    def semantic_sizes(self, logits_hw: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        return ((self.stride * logits_hw[0], self.stride * logits_hw[1]),)


def test_depth_and_motion_are_graded_at_the_size_of_the_image():
    one = sample(0)
    size_hw = (100, 250)  # scaled, and with padding on the canvas
    depth = np.full(size_hw, 20.0, np.float32)
    depth[:50] = 0
    motion = np.zeros(size_hw, np.uint8)
    motion[:, :50], motion[:, 200:] = 1, 255
    truth = Sample(image=one.image[:100, :250], image_id='a', depth=depth, motion=motion)
    grader = Grader(LABELS, LABELS, examples=1)
    model = ModelConfig(
        name='mobilenetv2_s16_multitask', decoder='fpn_lite', box_head=False, tasks=('depth', 'motion'),
        semantic_classes=0,
    )  # fmt: skip
    network = GeometryOracle(30.0, 1.0)
    validate(network, batches([truth], 1), grader, model_config=model, input_config=INPUT, device=torch.device('cpu'))
    scores = grader.compute()
    assert (scores.semantic, scores.boxes, scores.panoptic) == (None, None, None)
    assert (scores.depth.abs_rel, scores.depth.rmse_m, scores.depth.delta1) == pytest.approx((0.5, 10.0, 0.0), abs=1e-4)
    assert (scores.motion.moving_iou, scores.motion.static_iou) == (50 / 200, 0.0)
    [picture] = grader.pictures
    assert picture.shape == (200, 750, 3)
    # Below are the depths of both sides: none where there is none, then 20 m and 30 m.
    near, far = picture[199, 499].astype(int), picture[199, 749].astype(int)
    assert not picture[101, 251:500].any()
    assert np.abs(near - far).max() > 10
    # What moves is outlined: a stripe in the truth, everything in the prediction.
    plain = draw_example(truth, Scene(size_hw), LABELS, LABELS)
    assert plain.shape == (100, 750, 3)
    assert not np.array_equal(plain[:100, 500:], picture[:100, 500:])
    assert not np.array_equal(plain[50, 250:310], truth.image[50, :60])


def boxes(ap: float, ap50: float) -> BoxScores:
    return BoxScores(
        ap=ap, ap50=ap50, ap75=0.0, ap_small=math.nan, ap_medium=0.0, ap_large=0.0, ap_per_class={}, ap50_per_class={}
    )


def panoptic(pq: float) -> PanopticScores:
    return PanopticScores(pq, 0.75, 0.5, 0.125, 0.75, 0.25, 0.375, 0.75, 0.5, {}, {}, {})


def test_rank():
    semantic = SemanticScores(miou=0.5, iou_per_class={}, pixel_accuracy=0.75)
    names = ('miou+ap', 'miou', 'ap', 'pq', 'miou+pq')
    everything = Scores(semantic, boxes(0.125, 0.25), panoptic(0.25))
    assert [everything.rank(name) for name in names] == [0.625, 0.5, 0.125, 0.25, 0.75]
    assert everything.headline() == {
        'miou': 0.5, 'pixel_accuracy': 0.75, 'ap': 0.125, 'ap50': 0.25, 'pq': 0.25, 'pq_things': 0.125,
        'pq_stuff': 0.375,
    }  # fmt: skip
    unmeasured = Scores(SemanticScores(math.nan, {}, math.nan), boxes(0.125, 0.25), panoptic(math.nan))
    assert [unmeasured.rank(name) for name in names] == [0.125, 0.0, 0.125, 0.0, 0.0]
    assert Scores(semantic, None, None).rank('miou+ap') == 0.5
    assert Scores(semantic, None, None).headline() == {'miou': 0.5, 'pixel_accuracy': 0.75}
    assert Scores(None, None, None).rank('miou+ap') == 0.0
    assert unmeasured.to_dict()['semantic'] == {'miou': None, 'iou_per_class': {}, 'pixel_accuracy': None}
    assert Scores().to_dict() == dict.fromkeys(('semantic', 'boxes', 'panoptic', 'depth', 'motion'))
    others = Scores(depth=DepthScores(0.25, 4.0, 0.5), motion=MotionScores(0.75, 0.625, 0.875))
    assert others.headline() == {
        'abs_rel': 0.25, 'rmse_m': 4.0, 'delta1': 0.5, 'motion_miou': 0.75, 'moving_iou': 0.625,
    }  # fmt: skip
    assert others.rank('miou+delta1+motion_miou') == 1.25


def test_examples_show_only_confident_boxes():
    one = sample(0)

    def picture(count: int, second_score: float) -> np.ndarray:
        scores = np.array([0.9, second_score], np.float32)[:count]
        found = Detections(one.boxes_xyxy[:count], one.class_ids[:count], scores)
        return draw_example(one, Scene(SIZE_HW, semantic=one.semantic, detections=found), LABELS, LABELS)

    assert np.array_equal(picture(2, 0.39), picture(1, 0.39))
    assert not np.array_equal(picture(2, 0.41), picture(1, 0.41))
    assert np.array_equal(picture(2, 0.41)[:, :512], picture(1, 0.41)[:, :512])  # image and truth
