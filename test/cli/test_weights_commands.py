from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import get_model

from sembox_ros.cli import main
from sembox_ros.models.checkpoint import load_checkpoint
from sembox_ros.models.importers.verification import read_golden
from sembox_ros.replay.media import write_image

GOLDEN = Path(__file__).resolve().parents[1] / 'goldens' / 'golden_efficientdet_d0.npz'


@pytest.fixture(scope='module')
def pth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'efficientdet-d0.pth'
    torch.save(read_golden(GOLDEN).state, path)
    return path


def test_import_weights_writes_a_checkpoint(pth: Path, tmp_path: Path, capsys):
    out = tmp_path / 'd0.safetensors'
    assert main(['import-weights', str(pth), '--from', 'efficientdet-d0', '--out', str(out)]) == 0
    assert 'efficientdet_d0 from 784 tensors' in capsys.readouterr().out
    checkpoint = load_checkpoint(out)
    assert checkpoint.trained
    assert checkpoint.labels.detection.name == 'coco_90'
    assert checkpoint.input.size_hw == (512, 512)
    assert checkpoint.recipe['imported_file'] == 'efficientdet-d0.pth'
    assert len(checkpoint.recipe['imported_sha256']) == 64
    assert main(['info', str(out)]) == 0
    assert '3,880,067' in capsys.readouterr().out


def test_import_weights_takes_labels_and_channel_order(pth: Path, tmp_path: Path):
    state = dict(torch.load(pth, weights_only=True))
    for name in ('weight', 'bias'):
        key = f'classifier.header.pointwise_conv.conv.{name}'
        state[key] = state[key][: 9 * 8]
    torch.save(state, tmp_path / 'mine.pth')
    out = tmp_path / 'mine.safetensors'
    options = ['--labels', 'cityscapes_things_8', '--channel-order', 'bgr', '--out', str(out)]
    assert main(['import-weights', str(tmp_path / 'mine.pth'), '--from', 'efficientdet-d0', *options]) == 0
    checkpoint = load_checkpoint(out)
    assert checkpoint.labels.detection.name == 'cityscapes_things_8'
    assert checkpoint.input.channel_order == 'bgr'


def test_import_weights_fills_the_encoder_of_the_network_that_is_named(tmp_path: Path, capsys):
    torch.save(get_model('efficientnet_b0', weights=None).state_dict(), tmp_path / 'net.pth')
    out = tmp_path / 'start.safetensors'
    options = ['--from', 'torchvision:efficientnet_b0', '--model', 'efficientdet_seg_d0', '--out', str(out)]
    assert main(['import-weights', str(tmp_path / 'net.pth'), *options]) == 0
    printed = capsys.readouterr().out
    assert 'efficientdet_seg_d0 from 360 tensors' in printed
    assert 'its encoder only: the rest is untrained' in printed
    assert 'model_options.encoder=torchvision-efficientnet-b0' in printed
    checkpoint = load_checkpoint(out)
    assert not checkpoint.trained
    assert (checkpoint.config.decoder, checkpoint.input.size_hw) == ('efficientdet_seg', (512, 512))


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--from', 'efficientdet-d1'], 'left over in the file'),
        (['--from', 'efficientdet-d9'], "'efficientdet-d9' is unknown"),
        (['--from', 'efficientdet-d0', '--labels', 'coco_91'], "'coco_91' is unknown (did you mean coco_9"),
        (['--from', 'efficientdet-d0', '--labels', 'cityscapes_19+coco_90'], 'only detects'),
        (['--from', 'efficientdet-d0', '--labels', 'cityscapes_things_8'], 'expected shape (72,'),
        (['--from', 'efficientdet-d0', '--out', 'x.pth'], '.safetensors'),
        (['--from', 'efficientdet-d0', '--model', 'sembox_b0'], 'efficientdet-d0 is a whole efficientdet_d0'),
        (['--from', 'torchvision:mobilenet_v2', '--model', 'resnext50_fpn'], 'mobilenetv2_fpn_lite'),
    ],
)
def test_import_weights_says_what_is_wrong(pth: Path, tmp_path: Path, capsys, options: list[str], words: str):
    out = tmp_path / 'out.safetensors'
    assert main(['import-weights', str(pth), '--out', str(out), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith('import-weights: ')
    assert words in error
    assert error.count('\n') == 1
    assert not out.exists()


def test_import_weights_of_what_is_not_weights(tmp_path: Path, capsys):
    (tmp_path / 'x.pth').write_text('not a torch file')
    args = ['--from', 'efficientdet-d0', '--out', str(tmp_path / 'o.safetensors')]
    for name in ('x.pth', 'absent.pth'):
        assert main(['import-weights', str(tmp_path / name), *args]) == 1
        assert capsys.readouterr().err.count('\n') == 1


def test_verify_import_prints_the_table(capsys):
    assert main(['verify-import', str(GOLDEN), '--fold', '--through-file']) == 0
    printed = capsys.readouterr().out
    for word in ('regression', 'classification', 'anchors', 'feature_p3', 'mid:bifpn.0.4', '1x49104x90', 'equal'):
        assert word in printed


def test_verify_import_fails_above_the_tolerance(capsys):
    assert main(['verify-import', str(GOLDEN), '--tolerance', '1e-9']) == 1
    assert 'DIFFERENT' in capsys.readouterr().out
    assert main(['verify-import', str(GOLDEN), '--tolerance', '-1']) == 1
    assert 'tolerance' in capsys.readouterr().err
    assert main(['verify-import', 'absent.npz']) == 1
    assert 'absent.npz' in capsys.readouterr().err


def test_predict_with_a_network_that_only_detects(pth: Path, tmp_path: Path, capsys):
    checkpoint, image, out = tmp_path / 'd0.safetensors', tmp_path / 'a.png', tmp_path / 'out'
    assert main(['import-weights', str(pth), '--from', 'efficientdet-d0', '--out', str(checkpoint)]) == 0
    write_image(image, np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    args = ['--out', str(out), '--checkpoint', str(checkpoint), '--device', 'cpu', '--engine', 'torch']
    assert main(['predict', str(image), *args]) == 0
    capsys.readouterr()
    report = json.loads((out / 'detections.json').read_text())
    assert report['trained'] is True
    assert report['semantic_classes'] == []
    assert len(report['images'][0]['detections']) > 0
    assert (out / 'overlay' / 'a.jpg').is_file()
    assert not (out / 'mask').exists()
