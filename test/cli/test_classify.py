from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from efficientnet_pytorch import EfficientNet

from sembox_ros.cli import main
from sembox_ros.models.classifier import imagenet_categories
from sembox_ros.replay.media import VideoWriter, write_image


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a user makes it, of a published file with other numbers in it."""
    folder = tmp_path_factory.mktemp('classifier')
    torch.manual_seed(0)
    network = EfficientNet.from_name('efficientnet-b0')
    torch.nn.init.zeros_(network._fc.weight)  # of all images it says the same
    network._fc.bias.data = torch.arange(1000).remainder(7).float()
    network._fc.bias.data[[207, 3]] = torch.tensor([20.0, 19.0])
    torch.save(network.state_dict(), folder / 'efficientnet-b0-355c32eb.pth')
    path = folder / 'b0.safetensors'
    source = ['--from', 'efficientnet-b0-classifier', '--out', str(path)]
    assert main(['import-weights', str(folder / 'efficientnet-b0-355c32eb.pth'), *source]) == 0
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ('img10.png', 'img9.png', 'sub/x.jpg'):
        write_image(tmp_path / 'images' / name, rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    with VideoWriter(tmp_path / 'images' / 'film.mp4', 10.0) as writer:
        writer.write(np.zeros((16, 16, 3), np.uint8))
    return tmp_path / 'images'


def test_names_and_probabilities_for_people(checkpoint: Path, images: Path, capsys):
    assert main(['classify', str(images), '--checkpoint', str(checkpoint), '--device', 'cpu', '--top', '2']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0::3] == [str(images / name) for name in ('img9.png', 'img10.png', 'sub/x.jpg')]
    assert set(lines[1::3]) == {'   73.1 %  golden retriever (207)'}
    assert set(lines[2::3]) == {'   26.9 %  tiger shark (3)'}


def test_json_for_programs_and_bad_files_passed_over(checkpoint: Path, images: Path, capsys):
    (images / 'bad.png').write_bytes(b'no image')
    assert main(['classify', str(images), '--checkpoint', str(checkpoint), '--device', 'cpu', '--json']) == 1
    printed = capsys.readouterr()
    assert 'skipped: ' in printed.err
    assert 'bad.png' in printed.err
    records = [json.loads(line) for line in printed.out.splitlines()]
    assert [Path(record['file']).name for record in records] == ['img9.png', 'img10.png', 'x.jpg']
    for record in records:
        assert len(record['categories']) == 5
        assert record['categories'][0] == {
            'class_id': 207, 'name': 'golden retriever', 'probability': pytest.approx(0.731, abs=1e-3),
        }  # fmt: skip
        assert all(c['name'] == imagenet_categories()[c['class_id']] for c in record['categories'])


@pytest.mark.parametrize(
    ('args', 'reason'),
    [
        (['img9.png', '--top', '0'], '--top: expected 1 or more'),
        (['img9.png', '--threads', '-1'], '--threads: expected 0 or more'),
        (['nowhere'], 'no such file'),
        (['film.mp4'], 'expected an image, or a folder of images'),
        (['img9.png', '--checkpoint', 'none.safetensors'], 'does not exist'),
    ],
)
def test_mistakes_get_one_line(checkpoint: Path, images: Path, monkeypatch, capsys, args: list[str], reason: str):
    monkeypatch.chdir(images)
    assert main(['classify', '--checkpoint', str(checkpoint), *args]) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith('classify: ')
    assert reason in line


def test_whatever_sees_scenes_refuses_it_and_names_classify(checkpoint: Path, images: Path, tmp_path: Path, capsys):
    settings = {'model': 'efficientnet_b0_classifier', 'out': str(tmp_path / 'run')}
    (tmp_path / 'model.yaml').write_text(yaml.safe_dump(settings))
    (tmp_path / 'start.yaml').write_text(yaml.safe_dump({'start_from': str(checkpoint), 'out': str(tmp_path / 'run')}))
    streets = ['--dataset', 'cityscapes', '--root', str(tmp_path / 'streets')]
    assert main(['streets', '--out', str(tmp_path / 'streets'), '--train', '1', '--val', '1', '--size', '64x128']) == 0
    data = [f'data.root={tmp_path / "streets"}', 'data.dataset=cityscapes']
    for command in (
        ['predict', str(images), '--checkpoint', str(checkpoint)],
        ['evaluate', *streets, '--checkpoint', str(checkpoint), '--out', str(tmp_path / 'out')],
        ['train', str(tmp_path / 'model.yaml'), *data],
        ['train', str(tmp_path / 'start.yaml'), *data],
        ['export', str(checkpoint), '--out', str(tmp_path / 'net.onnx')],
    ):
        capsys.readouterr()
        assert main(command) == 1
        [line] = capsys.readouterr().err.strip().splitlines()
        assert 'names whole images and sees no scenes; it is for `python -m sembox_ros classify` alone' in line


def test_the_card_says_what_it_is(checkpoint: Path, capsys):
    assert main(['info', str(checkpoint)]) == 0
    printed = ' '.join(capsys.readouterr().out.split())
    for words in ('1000 categories (tench, goldfish,', 'the middle 224x224', '5,288,548', '1000 image classes', '0.39'):
        assert words in printed
