"""`predict` with networks of an encoder and decoders: what they give is written, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from sembox_ros.cli import main
from sembox_ros.cli.predict import depth_millimetres
from sembox_ros.inference.predictor import Predictor
from sembox_ros.models.checkpoint import Checkpoint, save_checkpoint
from sembox_ros.replay.media import write_image


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def predict(checkpoint: Checkpoint, folder: Path, *args: str) -> int:
    """Run the command on three pictures in a folder; results go to `out` beside it."""
    save_checkpoint(checkpoint, folder / 'network.safetensors')
    for seed in range(3):
        write_image(folder / 'frames' / f'{seed}.png', picture(seed))
    network = ['--checkpoint', str(folder / 'network.safetensors'), '--device', 'cpu', '--engine', 'torch']
    return main(['predict', str(folder / 'frames'), '--out', str(folder / 'out'), *network, *args])


def test_depth_and_motion_of_images_in_a_row(tiny_multitask: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert predict(tiny_multitask, tmp_path, '--batch', '2') == 0
    assert f'3 image(s) in {tmp_path}/out/' in capsys.readouterr().out
    out = tmp_path / 'out'
    kinds = {'mask', 'overlay', 'depth', 'depth_color', 'motion'}
    assert {path.name for path in out.iterdir()} == kinds | {'detections.json'}
    images = [picture(seed) for seed in range(3)]
    scenes = Predictor(tiny_multitask, device='cpu', engine='torch').predict(images, previous=[None, *images[:2]])
    for index, scene in enumerate(scenes):
        depth, motion, color = (
            cv2.imread(str(out / kind / f'{index}.png'), cv2.IMREAD_UNCHANGED)
            for kind in ('depth', 'motion', 'depth_color')
        )
        assert depth.dtype == np.uint16
        assert scene.depth is not None
        known = depth > 0
        np.testing.assert_allclose(depth[known], scene.depth[known] * 1000, rtol=1e-3, atol=1)
        assert ((motion == 255) == scene.motion).mean() > 0.999
        assert set(np.unique(motion)) <= {0, 255}
        assert color.shape == (64, 128, 3)
    records = json.loads((out / 'detections.json').read_text())['images']
    assert [record['name'] for record in records] == ['0', '1', '2']
    assert all('detections' not in record and 'segments' not in record for record in records)


def test_masks_alone(tiny_masks: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert predict(tiny_masks, tmp_path) == 0
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'mask', 'overlay', 'detections.json'}
    assert predict(tiny_masks, tmp_path, '--tracking') == 1
    assert '--tracking: mobilenetv2_fpn_lite finds no boxes' in capsys.readouterr().err


def test_millimetres_that_16_bits_do_not_hold_are_unknown():
    metres = np.array([[0.0004, 0.001, 1.2344, 65.535, 65.6, 1e4]], np.float32)
    assert depth_millimetres(metres).tolist() == [[0, 1, 1234, 65535, 0, 0]]
    assert depth_millimetres(metres).dtype == np.uint16
