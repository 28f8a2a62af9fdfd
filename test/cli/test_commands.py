from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from sembox_ros.cli import COMMANDS, main
from sembox_ros.config import NodeConfig, from_mapping
from sembox_ros.labels import CITYSCAPES_19
from sembox_ros.replay.media import VideoReader, VideoWriter, read_image, write_image

ROOT = Path(__file__).resolve().parents[2]


def street(seed: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / 'media'
    write_image(folder / 'a.png', street(0))
    write_image(folder / 'sub' / 'b.png', street(1, 33, 21))
    (folder / 'broken.png').write_bytes(b'not an image')
    with VideoWriter(folder / 'film.mp4', 5.0) as writer:
        for index in range(3):
            writer.write(street(index, 48, 64))
    return folder


def test_predict_writes_masks_overlays_and_boxes(media: Path, tmp_path: Path, tiny_checkpoint_path: Path, capsys):
    out = tmp_path / 'out'
    args = ['--out', str(out), '--checkpoint', str(tiny_checkpoint_path), '--device', 'cpu', '--engine', 'torch']
    status = main(['predict', str(media), *args, '--score-threshold', '0', '--max-detections', '3'])
    assert status == 1  # one file was broken
    printed = capsys.readouterr()
    assert 'broken.png' in printed.err
    assert 'UNTRAINED' in printed.err
    for name, shape in (('a', (40, 60)), ('sub/b', (33, 21)), ('film/000002', (48, 64))):
        mask = read_image(out / 'mask' / f'{name}.png')
        assert mask.shape[:2] == shape
        assert mask.max() < len(CITYSCAPES_19)
        instances = cv2.imread(str(out / 'instances' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
        assert instances.dtype == np.uint16
        assert instances.shape == shape
        assert read_image(out / 'panoptic' / f'{name}.png').shape == (*shape, 3)
    assert read_image(out / 'overlay' / 'sub' / 'b.jpg').shape == (33, 21, 3)
    assert len(list(VideoReader(out / 'overlay' / 'film.mp4'))) == 3
    report = json.loads((out / 'detections.json').read_text())
    assert report['trained'] is False
    assert [(r['name'], r.get('frame')) for r in report['images']] == [
        ('a', None), ('film', 0), ('film', 1), ('film', 2), ('sub/b', None),
    ]  # fmt: skip
    for record in report['images']:
        assert [box['id'] for box in record['detections']] == [1, 2, 3]
        assert sum(segment['area'] for segment in record['segments']) <= record['width'] * record['height']
        assert {s['class_name'] for s in record['segments'] if not s['instance']} <= set(report['semantic_classes'])
        for box in record['detections']:
            x0, y0, x1, y1 = box['box_xyxy']
            assert 0 <= x0 <= x1 <= record['width']
            assert 0 <= y0 <= y1 <= record['height']


def test_predict_never_imports_ros(media: Path, tmp_path: Path, tiny_checkpoint_path: Path):
    code = (
        'import sys; from sembox_ros.cli import main; '
        f'main(["predict", {str(media / "a.png")!r}, "--out", {str(tmp_path / "o")!r}, '
        f'"--checkpoint", {str(tiny_checkpoint_path)!r}, "--engine", "torch"]); '
        'tops = {m.split(".")[0] for m in sys.modules}; '
        'print("ROS", [t for t in tops if t in ("rclpy", "cv_bridge") or t.endswith("_msgs")])'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert 'ROS []' in result.stdout


def test_info_prints_the_cost_of_each_component(capsys):
    assert main(['info', 'sembox_b1', '--size', '768x768']) == 0
    printed = capsys.readouterr().out
    parts = ('encoder', 'box_neck', 'semantic_neck', 'box_head', 'semantic_head')
    for word in (*parts, 'total', '90 box classes', '19x192x192'):
        assert word in printed


def test_info_describes_a_checkpoint(tiny_checkpoint_path: Path, capsys):
    assert main(['info', str(tiny_checkpoint_path), '--size', '128x256']) == 0
    printed = capsys.readouterr().out
    assert 'UNTRAINED sembox_b0' in printed
    assert 'cityscapes_19' in printed


@pytest.mark.parametrize(
    ('args', 'reason'),
    [
        (['info', 'sembox_b9'], 'did you mean'),
        (['info', 'sembox_b1', '--size', 'big'], 'HEIGHTxWIDTH'),
        (['info', 'sembox_b1', '--size', '100x100'], 'divisible by 128'),
        (['info', 'none.safetensors'], 'does not exist'),
        (['predict', '/nowhere'], 'no such file'),
        (['predict', str(ROOT / 'LICENSE')], 'expected an image'),
        (['demo', '--frames', '0'], '--frames >= 1'),
        (['demo', '--bag', '/nowhere'], 'does not exist'),
        (['demo', '--images', '/nowhere'], 'no such file'),
    ],
)
def test_mistakes_get_one_line_and_status_1(args, reason, capsys, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(args) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert reason in lines[0]


def test_an_unknown_command_is_refused_with_a_hint(capsys):
    assert main(['predcit']) == 2
    assert 'did you mean predict?' in capsys.readouterr().err


@pytest.mark.parametrize('command', [c for c in COMMANDS if c not in ('node', 'play', 'record')])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, '--help'])
    assert caught.value.code == 0
    assert 'usage: python -m sembox_ros ' + command in capsys.readouterr().out


def test_the_overview_names_every_command(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(f'  {name} ' in printed for name in COMMANDS)


def test_params_prints_the_yaml_file_of_the_package(capsys):
    assert main(['params']) == 0
    printed = capsys.readouterr().out
    assert printed == (ROOT / 'config' / 'sembox_node.yaml').read_text()
    values = yaml.safe_load(printed)['/**']['ros__parameters']
    assert from_mapping(NodeConfig, values) == NodeConfig()
