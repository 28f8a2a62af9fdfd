"""Two frames of a rendered street through the bundled network: what a replay publishes of instances, and its PQ."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from sembox_ros.cli import streets
from sembox_ros.cli.evaluate import evaluate
from sembox_ros.config import DetectionConfig
from sembox_ros.data.cityscapes import Cityscapes
from sembox_ros.data.cityscapes_layout import FrameName, encode_labels, write_frame
from sembox_ros.data.streets import render_sequence
from sembox_ros.errors import ConfigError
from sembox_ros.evaluation.grading import SceneGrade
from sembox_ros.inference.predictor import Predictor
from sembox_ros.labels import load_scene_labels
from sembox_ros.models.checkpoint import load_bundled
from sembox_ros.panoptic import INSTANCES
from sembox_ros.replay import session
from sembox_ros.replay.bags import read_bag
from sembox_ros.replay.drive import write_drive
from sembox_ros.replay.media import read_image
from sembox_ros.replay.report import JSON_NAME, write_json
from sembox_ros.replay.scene_messages import view_image
from sembox_ros.replay.session import ReplayOptions, replay_bag
from sembox_ros.replay.source import open_input
from sembox_ros.replay.truth import DatasetTruth, TruthSource

STREET = {'frames': 2, 'size_hw': (256, 512), 'seed': 5, 'rate_hz': 1.0}
CONFIG = DetectionConfig(score_threshold=0.45)  # not one that is a default anywhere


@pytest.fixture(scope='module')
def predictor() -> Predictor:
    checkpoint = load_bundled()
    small = dataclasses.replace(checkpoint.input, size_hw=(256, 512))
    return Predictor(dataclasses.replace(checkpoint, input=small), device='cpu', engine='torch')


@pytest.fixture(scope='module')
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag with ground truth, the same frames as a Cityscapes folder, and a table of their stamps."""
    folder = tmp_path_factory.mktemp('street')
    drive = list(streets.render_drive(**STREET))
    write_drive(folder / 'drive', drive, labels=load_scene_labels(streets.STREET_LABELS))
    rows = [('image_id', 'stamp_ns')]
    for index, (frame, still) in enumerate(zip(drive, render_sequence(**STREET), strict=True)):
        instance = np.where(np.isin(still.instance, still.track_ids[still.is_crowd]), 0, still.instance)
        name = FrameName('val', 'front', 0, index)
        write_frame(folder / 'data', name, still.image, encode_labels(still.semantic, instance, still.ego))
        rows.append((f'front_000000_{index:06d}', str(frame.stamp_ns)))
    with (folder / 'stamps.csv').open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    return folder


def replay(street: Path, out: Path, predictor: Predictor, truth: TruthSource | None, *save: str) -> dict:
    how = ReplayOptions(detection=CONFIG, batch=1, save=save)
    return replay_bag(open_input(street / 'drive', ()), out, predictor, how, truth=truth, progress=False)


@pytest.fixture(scope='module')
def replayed(street: Path, predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the replay whose ground truth is in the bag, without its page."""
    out = tmp_path_factory.mktemp('replay') / 'bag'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, 'write_report', lambda report, folder: write_json(report, folder / JSON_NAME))
        replay(street, out, predictor, None, 'color', 'panoptic')
    return out


def counts_of(grade: SceneGrade) -> np.ndarray:
    return grade.to_arrays()['panoptic']


def test_pq_is_that_of_the_same_images_in_a_dataset(street: Path, replayed: Path, predictor: Predictor, tmp_path: Path):
    """Wherever the truth comes from, `evaluate` counts the same, to the last bit, and so would a node."""
    dataset = Cityscapes(root=street / 'data', split='val', with_instances=True)
    grade, of_node = (SceneGrade(predictor.labels, dataset.labels) for _ in range(2))
    all_boxes = dataclasses.replace(CONFIG, score_threshold=0.05)
    evaluate(dataset, predictor, grade, detection=all_boxes, min_instance_score=CONFIG.score_threshold, limit=0)
    for sample in (dataset[index] for index in range(len(dataset))):
        [scene] = predictor.predict([sample.image], detection=CONFIG, outputs={'panoptic'})
        of_node.add_panoptic(scene.panoptic, *sample.compose_panoptic(dataset.labels))
    np.testing.assert_array_equal(counts_of(of_node), counts_of(grade))
    truth = DatasetTruth(dataset, 'the folder', stamps=street / 'stamps.csv')
    accuracy = replay(street, tmp_path / 'out', predictor, truth)['accuracy']
    for folder in (replayed, tmp_path / 'out'):
        np.testing.assert_array_equal(counts_of(SceneGrade.load(folder / 'grade.npz')), counts_of(grade))
    scores = grade.compute().panoptic
    assert accuracy['panoptic'] == scores.to_dict()
    assert accuracy['scenes'] == 2
    assert 0.1 < scores.pq < 1
    assert 0.05 < scores.pq_things < 1


def test_pixels_have_the_numbers_of_published_boxes(replayed: Path):
    entries = list(read_bag(replayed / 'bag'))
    masks, boxes, instances, colors = (
        [entry.message for entry in entries if entry.topic == topic]
        for topic in ('/segmentation/mask', '/detections', '/panoptic/instances', '/panoptic/color')
    )
    assert len(masks) == 2
    for image, message, mask, color in zip(instances, boxes, masks, colors, strict=True):
        assert image.encoding == '16UC1'
        assert image.header == message.header == mask.header == color.header
        numbers = view_image(image)
        assert set(np.unique(numbers)) - {0} <= {int(detection.id) for detection in message.detections}
        assert numbers.any()
        assert view_image(color).shape == (*numbers.shape, 3)


def test_files_for_official_tools_hold_both_sides(replayed: Path):
    for name in ('predictions', 'ground_truth'):
        content = json.loads((replayed / 'panoptic' / f'{name}.json').read_text())
        assert len(content['images']) == len(content['annotations']) == 2
        for annotation in content['annotations']:
            picture = read_image(replayed / 'panoptic' / name / annotation['file_name']).astype(int)
            ids = set(np.unique(picture @ (1, 256, INSTANCES)).tolist()) - {0}
            assert ids == {segment['id'] for segment in annotation['segments_info']}


def test_a_fusion_that_the_network_cannot_do_leaves_no_folder(street: Path, predictor: Predictor, tmp_path: Path):
    how = ReplayOptions(detection=dataclasses.replace(CONFIG, fusion='efficientps'))
    with pytest.raises(ConfigError, match='fusion: efficientps needs a network with an instance head'):
        replay_bag(open_input(street / 'drive', ()), tmp_path / 'out', predictor, how, progress=False)
    assert not (tmp_path / 'out').exists()
