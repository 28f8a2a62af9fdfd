"""The command on a tiny Cityscapes folder; the official evaluation of what it saved is the referee."""

from __future__ import annotations

import dataclasses
import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from cityscapes_sample import write_cityscapes
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling, evalPixelLevelSemanticLabeling

from sembox_ros.cli import main
from sembox_ros.cli.evaluate import PredictionWriter
from sembox_ros.config import DetectionConfig
from sembox_ros.errors import ConfigError, InputError
from sembox_ros.label_ids import label_id_table
from sembox_ros.labels import CITYSCAPES_19, CITYSCAPES_20, COCO_90, SceneLabels, load_scene_labels
from sembox_ros.models.checkpoint import load_checkpoint, save_checkpoint
from sembox_ros.replay.media import read_image


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cityscapes(tmp_path_factory.mktemp('cityscapes'), count=3)


def evaluate(root: Path, checkpoint: Path, out: Path, *args: str) -> tuple[int, dict]:
    status = main([
        'evaluate', '--root', str(root), '--split', 'val', '--checkpoint', str(checkpoint), '--device', 'cpu',
        '--engine', 'torch', '--out', str(out), *args,
    ])  # fmt: skip
    path = out / 'metrics.json'
    return status, json.loads(path.read_text()) if path.is_file() else {}


def official(root: Path, predictions: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """CityscapesScripts finding the predictions by itself, as in its readme."""
    monkeypatch.setenv('CITYSCAPES_RESULTS', str(predictions))
    args = evalPixelLevelSemanticLabeling.args
    for name, value in (
        ('evalInstLevelScore', False), ('quiet', True), ('JSONOutput', False), ('predictionPath', None),
        ('predictionWalk', None),
    ):  # fmt: skip
        monkeypatch.setattr(args, name, value)
    truths = [str(path) for path in sorted((root / 'gtFine' / 'val').glob('*/*_labelIds.png'))]
    found = [evalPixelLevelSemanticLabeling.getPrediction(args, path) for path in truths]
    with redirect_stdout(io.StringIO()):
        return evalPixelLevelSemanticLabeling.evaluateImgLists(found, truths, args)


def test_agrees_with_the_official_evaluation(
    root: Path, tmp_path: Path, tiny_checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    status, metrics = evaluate(root, tiny_checkpoint_path, tmp_path, '--save-predictions')
    assert status == 0
    printed = capsys.readouterr()
    assert 'UNTRAINED' in printed.err
    assert printed.out.splitlines()[0].split() == ['class', 'IoU', 'AP', 'AP50', 'PQ', 'SQ', 'RQ']
    assert 'AP by size: ' in printed.out
    assert "AP without rider, which the network's 'coco_90' lacks" in printed.out
    assert 'PQ counts every rider as missed' in printed.out
    counts = ('images', 'masks_graded', 'images_with_boxes_graded', 'panoptic_scenes_graded')
    assert [metrics[name] for name in counts] == [3, 3, 3, 3]
    assert metrics['score_threshold'] == 0.05
    assert metrics['trained'] is False
    assert metrics['boxes']['ap'] is not None
    masks = sorted((tmp_path / 'predictions').glob('*.png'))
    assert masks[0].name == 'aachen_000000_000019_predLabelIds.png'
    assert set(np.unique(read_image(masks[0]))) <= set(label_id_table(CITYSCAPES_19)[:19])
    expected, scores = official(root, tmp_path / 'predictions', monkeypatch), metrics['semantic']
    assert scores['miou'] > 0
    assert scores['miou'] == pytest.approx(expected['averageScoreClasses'], abs=1e-6)
    for name, iou in scores['iou_per_class'].items():
        ours = np.nan if iou is None else iou
        assert ours == pytest.approx(expected['classScores'][name], abs=1e-6, nan_ok=True), name


def test_panoptic_quality_is_that_of_the_official_evaluation(tmp_path: Path, capsys):
    """Of the network that comes with the package on streets like those that it learnt, where it finds a good deal."""
    root, out = tmp_path / 'streets', tmp_path / 'out'
    assert main(['streets', '--out', str(root), '--train', '0', '--val', '2', '--size', '256x512', '--seed', '1']) == 0
    args = ['--root', str(root), '--split', 'val']
    assert main(['export-dataset', *args, '--panoptic', str(tmp_path / 'truth')]) == 0
    command = ['evaluate', *args, '--device', 'cpu', '--engine', 'torch', '--out', str(out)]
    assert main([*command, '--save-predictions', '--compare-fusions']) == 0
    name, metrics = 'cityscapes_panoptic_val', json.loads((out / 'metrics.json').read_text())
    with redirect_stdout(io.StringIO()):
        found = evalPanopticSemanticLabeling.evaluatePanoptic(
            str(tmp_path / 'truth' / f'{name}.json'), str(tmp_path / 'truth' / name),
            str(out / 'panoptic' / f'{name}.json'), str(out / 'panoptic' / name), str(tmp_path / 'result.json'),
        )  # fmt: skip
    scores = metrics['panoptic']
    assert 0.3 < scores['pq'] < 0.9
    assert scores['pq_things'] > 0.1
    for part, suffix in (('All', ''), ('Things', '_things'), ('Stuff', '_stuff')):
        for quality in ('pq', 'sq', 'rq'):
            assert scores[quality + suffix] == pytest.approx(found[part][quality], abs=1e-6)
    assert metrics['fusion'] == 'boxes'
    parts = ('semantic', 'boxes', 'panoptic', 'depth', 'motion')
    assert metrics['fusions'] == {'boxes': {part: metrics[part] for part in parts}}
    assert metrics['min_instance_score'] == DetectionConfig().score_threshold
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines() if line[:6] in ('mean  ', 'things', 'stuff ')] == [
        'mean', 'things', 'stuff',
    ]  # fmt: skip


def test_instances_below_the_threshold_are_none(root: Path, tmp_path: Path, tiny_checkpoint_path: Path):
    metrics = evaluate(root, tiny_checkpoint_path, tmp_path, '--min-instance-score', '1', '--limit', '1')[1]
    assert metrics['boxes']['ap'] is not None
    # What is a thing in the truth was missed, and nothing was said in vain.
    assert [metrics['panoptic']['rq_per_class'][name] for name in ('car', 'person', 'bus')] == [0, 0, None]


def test_limit_and_dataset_options(root: Path, tmp_path: Path, tiny_checkpoint_path: Path):
    status, metrics = evaluate(root, tiny_checkpoint_path, tmp_path, '--limit', '1', '--dataset-option', 'classes=19')
    assert (status, metrics['images']) == (0, 1)
    assert metrics['dataset_options'] == {'root': str(root), 'split': 'val', 'classes': 19}
    assert not (tmp_path / 'predictions').exists()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('--limit', '-1'), '--limit: expected 0'),
        (('--dataset-option', 'classes'), "--dataset-option: expected NAME=VALUE such as classes=19, got 'classes'"),
        (('--dataset-option', 'clases=19'), "unknown option 'clases' (did you mean classes?)"),
        (('--dataset-option', 'root=/nowhere'), 'there is no such folder'),
        (('--fusion', 'efficientps'), 'fusion: efficientps needs a network with an instance head'),
        (('--min-instance-score', '2'), '--min-instance-score: expected 0..1, got 2.0'),
        (('--score-threshold', '2'), 'score_threshold: expected a value in 0.0..1.0'),
    ],
)
def test_wrong_options(root: Path, tmp_path: Path, tiny_checkpoint_path: Path, args: tuple, message: str, capsys):
    status, metrics = evaluate(root, tiny_checkpoint_path, tmp_path, *args)
    assert (status, metrics) == (1, {})
    assert message in capsys.readouterr().err


def relabeled(source: Path, path: Path, labels: SceneLabels) -> Path:
    """The checkpoint with other names for its classes."""
    save_checkpoint(dataclasses.replace(load_checkpoint(source), labels=labels), path)
    return path


def test_a_network_of_other_classes(root: Path, tmp_path: Path, tiny_checkpoint_path: Path, capsys):
    foreign = dataclasses.replace(CITYSCAPES_19, name='foreign', names=tuple(f'thing {i}' for i in range(19)))
    labels = SceneLabels(semantic=foreign, detection=COCO_90)
    checkpoint = relabeled(tiny_checkpoint_path, tmp_path / 'a.safetensors', labels)
    status, metrics = evaluate(root, checkpoint, tmp_path / 'out', '--limit', '1')
    assert (status, metrics['semantic'], metrics['masks_graded']) == (0, None, 0)
    printed = capsys.readouterr().out
    assert "no mIoU: the network's classes 'foreign' lack road" in printed
    assert printed.splitlines()[0].split() == ['class', 'AP', 'AP50']
    with pytest.raises(ConfigError, match="label set 'foreign': expected all of Cityscapes' 19 classes"):
        PredictionWriter(tmp_path, labels.semantic)
    with pytest.raises(ConfigError, match='the network only detects'):
        PredictionWriter(tmp_path, None)


def test_a_network_without_a_common_class_is_refused(root: Path, tmp_path: Path, tiny_checkpoint_path: Path, capsys):
    labels = SceneLabels(
        semantic=dataclasses.replace(CITYSCAPES_19, names=tuple(f'thing {i}' for i in range(19))),
        detection=dataclasses.replace(COCO_90, names=tuple(f'object {i}' for i in range(90))),
    )
    checkpoint = relabeled(tiny_checkpoint_path, tmp_path / 'b.safetensors', labels)
    assert evaluate(root, checkpoint, tmp_path / 'out')[0] == 1
    assert 'the checkpoint cannot be graded on cityscapes: no mIoU' in capsys.readouterr().err


def test_an_image_id_is_no_way_out_of_the_folder(tmp_path: Path):
    writer = PredictionWriter(tmp_path, CITYSCAPES_19)
    with pytest.raises(InputError, match='cannot be the name of a file'):
        writer.write('../x', np.zeros((2, 2), np.uint8))


def test_label_ids_are_the_official_ones():
    table = label_id_table(load_scene_labels('cityscapes_20+cityscapes_things_8').semantic)
    assert table[CITYSCAPES_20.names.index('road')] == 7
    assert table[CITYSCAPES_20.names.index('bicycle')] == 33
    assert table[CITYSCAPES_20.names.index('void')] == 0
    assert table[255] == 0
    with pytest.raises(ConfigError, match=r"'coco_90'.* road and 10 more are missing"):
        label_id_table(COCO_90)
