"""What panoptic scenes add to a frame: each head of the network, and each step from its raw tensors to instances.

The heads are compared by networks of sembox_b1's shape with random weights, which differ in nothing but their heads.
The steps run on raw tensors that are made by hand: 30 objects of three classes, a third of which overlap others, each
found by one box and by three cells of the instance head's grids, on a canvas of 512x1024; so their time does not
depend on what any weights know. Shares are of a frame without instances: `Predictor.predict` of the network with a box
head, from a rendered street to mask and detections.

    python3 underlay/env.py run -- python bench/panoptic.py --rounds 15
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
from hardware import count_cores, describe_machine
from report import Section, write_report
from timing import Candidate, measure_rounds, timed
from torch import Tensor

from sembox_ros.config import DetectionConfig, InputConfig
from sembox_ros.data.streets import render_street
from sembox_ros.inference.predictor import Predictor
from sembox_ros.labels import load_scene_labels
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.sembox import NetworkOutput, output_fields
from sembox_ros.models.zoo import create_model, find_model
from sembox_ros.ops.boxes import encode_boxes
from sembox_ros.ops.grids import POSITION_WEIGHTS
from sembox_ros.ops.memory import keep_freed_memory
from sembox_ros.ops.placement import Placement
from sembox_ros.panoptic import compose_panoptic, list_segments
from sembox_ros.postprocess.claims import claim_pixels
from sembox_ros.postprocess.detections import decode_detections
from sembox_ros.postprocess.fusion import FUSIONS
from sembox_ros.postprocess.instances import decode_instances
from sembox_ros.postprocess.scene import PARTS, Decoding, decode_scene
from sembox_ros.postprocess.semantic import decode_semantic

RESULTS = Path(__file__).parent / 'results'
LABELS = load_scene_labels('cityscapes_19+cityscapes_things_8')
CANVAS_HW, OBJECTS, FEATURES = (512, 1024), 30, 64
IMAGES_HW = ((512, 1024), (1024, 2048))
HEADS = {
    'no head but the semantic one': {'box_head': False},
    'box head': {},
    'instance head': {'box_head': False, 'instance_channels': FEATURES},
    'box head and instance head': {'instance_channels': FEATURES},
}
FRAME = 'frame without instances'
THRESHOLDS = {'score_threshold': 0.4, 'max_detections': 100}


def create_predictor(heads: dict[str, object], engine: str) -> Predictor:
    """sembox_b1 with random weights and these heads."""
    base = find_model('sembox_b1').config
    config = dataclasses.replace(base, detection_classes=len(LABELS.detection), **heads)  # type: ignore[arg-type]
    checkpoint = Checkpoint(create_model(config).eval(), config, LABELS, InputConfig(size_hw=CANVAS_HW), trained=False)
    return Predictor(checkpoint, device='cpu', engine=engine)


def make_raw(decoding: Decoding) -> NetworkOutput:
    """Raw tensors of one image in which every head sees the same objects."""
    assert decoding.anchors_xyxy is not None
    assert decoding.grids is not None
    generator = np.random.default_rng(0)
    sides = np.exp(generator.uniform(np.log(20), np.log(200), (OBJECTS, 2)))
    corners = generator.uniform(0, 0.85, (OBJECTS, 2)) * (CANVAS_HW[1], CANVAS_HW[0])
    boxes = torch.from_numpy(np.concatenate((corners, np.minimum(corners + sides, CANVAS_HW[::-1])), axis=1)).float()
    class_ids = generator.choice([0, 2, 7], OBJECTS).tolist()
    anchors, grids = decoding.anchors_xyxy, decoding.grids
    height, width = CANVAS_HW[0] // 4, CANVAS_HW[1] // 4
    semantic = torch.full((1, len(LABELS.semantic_names), height, width), -4.0)
    semantic[:, 0] = 4.0
    cells, classes = len(grids.centers_xy), len(LABELS.detection)
    class_logits, regression = torch.full((1, len(anchors), classes), -9.0), torch.zeros(1, len(anchors), 4)
    categories = torch.full((1, cells, classes), -9.0)
    kernels = torch.zeros(1, cells, FEATURES + POSITION_WEIGHTS)
    features = torch.full((1, FEATURES, height, width), -8.0)
    taken_anchors = torch.zeros(len(anchors))
    for index, (box, class_id) in enumerate(zip(boxes, class_ids, strict=True)):
        x0, y0, x1, y1 = (box / 4).round().long().tolist()
        semantic[0, :, y0:y1, x0:x1] = -4.0
        semantic[0, LABELS.thing_links[class_id], y0:y1, x0:x1] = 4.0
        features[0, index, y0:y1, x0:x1] = 8.0
        anchor = int(((anchors - box).abs().sum(dim=1) + taken_anchors).argmin())
        taken_anchors[anchor] = torch.inf
        class_logits[0, anchor, class_id], regression[0, anchor] = 3.0, encode_boxes(box, anchors[anchor])
        for copy, cell in enumerate(_nearest_cells(grids.centers_xy, box)):
            categories[0, cell, class_id], kernels[0, cell, index] = 3.0 - copy, 1.0
    return NetworkOutput(class_logits, regression, semantic, categories, kernels, features)


def _nearest_cells(centers_xy: Tensor, box: Tensor) -> list[int]:
    """The nearest cell of each of the three largest grids: cells of one grid that are neighbours silence each other."""
    distance = (centers_xy - (box[:2] + box[2:]) / 2).norm(dim=1)
    starts = (0, 1600, 2896, 3472)  # of the published 40, 36 and 24 rows
    return [a + int(distance[a:b].argmin()) for a, b in itertools.pairwise(starts)]


def parts_of_scene(raw: NetworkOutput, decoding: Decoding, image_hw: tuple[int, int]) -> dict[str, Candidate]:
    """Each step alone, and whole scenes by each fusion."""
    placement = Placement(image_hw, CANVAS_HW, CANVAS_HW)
    assert raw.class_logits is not None
    assert raw.box_regression is not None
    assert raw.semantic_logits is not None
    assert decoding.anchors_xyxy is not None
    logits, sizes_hw = raw.semantic_logits[0], decoding.semantic_sizes
    masks = (raw.category_logits[0], raw.mask_kernels[0], raw.mask_features[0], decoding.grids)  # type: ignore[index]
    boxes = (raw.class_logits[0], raw.box_regression[0], decoding.anchors_xyxy)
    found = decode_instances(*masks, placement, **THRESHOLDS)  # type: ignore[arg-type]
    detections = decode_detections(*boxes, placement, nms_iou_threshold=0.5, **THRESHOLDS)  # type: ignore[arg-type]
    semantic, _ = decode_semantic(logits, placement, sizes_hw=sizes_hw, with_confidence=False)
    instances = claim_pixels(semantic, detections, LABELS)
    panoptic = compose_panoptic(semantic, instances, detections, LABELS)
    name = f'{image_hw[0]}x{image_hw[1]}'
    parts = {
        f'{name}, mask of classes': lambda: decode_semantic(
            logits, placement, sizes_hw=sizes_hw, with_confidence=False
        ),
        f'{name}, boxes': lambda: decode_detections(*boxes, placement, nms_iou_threshold=0.5, **THRESHOLDS),
        f'{name}, claims of {len(detections)} boxes': lambda: claim_pixels(semantic, detections, LABELS),
        f'{name}, {len(found.detections)} masks': lambda: decode_instances(*masks, placement, **THRESHOLDS),
        f'{name}, ids and table of segments': lambda: list_segments(
            compose_panoptic(semantic, instances, detections, LABELS), detections
        ),
    }
    assert panoptic.shape == image_hw
    for fusion, fuse in FUSIONS.items():
        parts[f'{name}, fusion {fusion}'] = lambda fuse=fuse: fuse(found, logits, placement, LABELS, sizes_hw=sizes_hw)
    for fusion in ('boxes', *FUSIONS):
        config = DetectionConfig(fusion=fusion)
        for words, wanted in (('mask, detections', {'semantic', 'detections'}), ('all parts', PARTS - {'confidence'})):
            parts[f'{name}, scene by {fusion}: {words}'] = lambda config=config, wanted=wanted: decode_scene(
                raw, 0, placement, decoding, detection=config, wanted=frozenset(wanted)
            )
    return {label: timed(torch.inference_mode()(part)) for label, part in parts.items()}


def add_shares(section: Section, frame: str) -> None:
    """A column: each row's median as a share of the frame's."""
    medians = {name: statistics.median(s['ms'] for s in samples) for name, samples in section.samples.items()}
    for name, ms in medians.items():
        section.facts[name] = {'share of the frame, %': 100 * ms / medians[frame]}


def measure_heads(options: argparse.Namespace, section: Section) -> None:
    """The network alone, with each combination of heads, and the frame that shares are of."""
    predictors = {name: create_predictor(heads, options.engine) for name, heads in HEADS.items()}
    batch = torch.randn(1, 3, *CANVAS_HW, generator=torch.Generator().manual_seed(0))
    candidates: dict[str, Candidate] = {
        name: timed(lambda predictor=predictor: predictor.engine(batch)) for name, predictor in predictors.items()
    }
    image = render_street(size_hw=CANVAS_HW, seed=1).image
    frame = predictors['box head']
    candidates[FRAME] = timed(lambda: frame.predict([image], outputs=('semantic', 'detections')))
    section.notes.append(f'{frame.engine.name} {frame.engine.precision}')
    measure_rounds(candidates, section.samples, rounds=options.rounds, warmup=2, title=section.title)
    add_shares(section, FRAME)


def measure_scenes(options: argparse.Namespace, section: Section) -> None:
    """The steps from raw tensors, beside the frame that shares are of."""
    predictor = create_predictor({}, options.engine)
    both = dataclasses.replace(predictor.checkpoint.config, instance_channels=FEATURES)
    decoding = Decoding.of_canvas(
        CANVAS_HW, model=both, labels=LABELS, semantic_sizes=((256, 512), CANVAS_HW), semantic_extent='canvas',
        device=torch.device('cpu'),
    )  # fmt: skip
    raw = make_raw(decoding)
    assert len(output_fields(both)) == len(raw)
    image = render_street(size_hw=CANVAS_HW, seed=1).image
    candidates = {FRAME: timed(lambda: predictor.predict([image], outputs=('semantic', 'detections')))}
    for image_hw in IMAGES_HW:
        candidates |= parts_of_scene(raw, decoding, image_hw)
    measure_rounds(candidates, section.samples, rounds=options.rounds, warmup=2, title=section.title)
    add_shares(section, FRAME)


def main() -> int:
    """Measure, and write the result whatever happens on the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=15, help='of each candidate (default: %(default)s)')
    parser.add_argument('--engine', default='torch', help='of the networks (default: %(default)s)')
    parser.add_argument('--name', default=f'{count_cores()}core-cpu', help='name of the machine in the result')
    parser.add_argument('--out', type=Path, default=RESULTS, help='folder of the result (default: bench/results)')
    options = parser.parse_args()
    keep_freed_memory()
    sections = [
        Section('Heads', 'The network alone on a canvas of 512x1024, and the whole frame.'),
        Section('From raw tensors to scenes', f'{OBJECTS} objects; images of two sizes, all on a canvas of 512x1024.'),
    ]
    complete = False
    try:
        measure_heads(options, sections[0])
        measure_scenes(options, sections[1])
        complete = True
    finally:
        today = datetime.date.today().isoformat()
        stem = options.out / f'{today}-{options.name}-panoptic'
        about = __doc__.split('\n\n')[1].replace('\n', ' ')
        print(write_report(stem, f'Panoptic scenes, {today}', about, describe_machine(count_cores()), sections,
                           complete=complete))  # fmt: skip
    return 0


if __name__ == '__main__':
    sys.exit(main())
