"""Every file of config/models: two steps of training, a verified export, frames through the node."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from harness import NodeProcess, Robot, street_message, wait_until
from sensor_msgs.msg import Image
from training.dataset_folders import WRITERS
from vision_msgs.msg import Detection2DArray

from sembox_ros.cli import main
from sembox_ros.config import DetectionConfig
from sembox_ros.inference.graphs import load_exported
from sembox_ros.inference.predictor import Predictor
from sembox_ros.models.checkpoint import load_checkpoint
from sembox_ros.models.zoo import create_model
from sembox_ros.ros.conversions import decode_image
from sembox_ros.training.config import load_train_config
from sembox_ros.training.trainer import LAST, Trainer

FILES = {path.stem: path for path in sorted((Path(__file__).parents[2] / 'config' / 'models').glob('*.yaml'))}
# Of each kind that no other test trains, exports and runs; `make test-all` takes them all.
QUICK = ('efficientdet_seg_d0', 'mobilenetv2_s16_multitask')
SLOW = (pytest.mark.slow, pytest.mark.timeout(3000))
# What differs from the file: a folder that is there, and sizes that fit one core.
SETTINGS = ('input.size_hw=[128,256]', 'batch_size=2', 'accumulate=1', 'data.workers=0', 'device=cpu', 'threads=1')
ANY_BOX = {'score_threshold': 0.0, 'max_detections': 5}
PARTS = {'segmentation/mask': 'semantic', 'depth': 'depth', 'motion/mask': 'motion', 'detections': 'detections'}


@pytest.fixture(scope='module')
def find_dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a dataset, made when it is first asked for."""
    folders: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            WRITERS[name](folders[name])
        return folders[name]

    return find


@pytest.fixture(scope='module', params=[name if name in QUICK else pytest.param(name, marks=SLOW) for name in FILES])
def trained(request: pytest.FixtureRequest, find_dataset: Callable[[str], Path]) -> Iterator[Path]:
    """The folder of a run of two steps; deleted when its tests are done, as all of them together fill a disk."""
    path = FILES[request.param]
    dataset = find_dataset(load_train_config(path).data.dataset)
    threads = torch.get_num_threads()
    with TemporaryDirectory(prefix='sembox_named_') as folder:
        config = load_train_config(path, [*SETTINGS, f'data.root={dataset}', f'out={folder}/run'])
        assert Trainer(config, dry_run=True).run()
        torch.set_num_threads(threads)
        yield Path(folder, 'run')


def test_two_steps_move_every_part(trained: Path) -> None:
    config = load_train_config(trained / 'config.yaml')
    lines = [json.loads(line) for line in (trained / 'history.jsonl').read_text().splitlines()]
    [train] = [line for line in lines if line['kind'] == 'train']
    assert train['step'] == 2
    losses = {name: value for name, value in train.items() if name.startswith('loss')}
    assert len(losses) > 1
    assert all(math.isfinite(value) and value > 0 for value in losses.values())
    checkpoint = load_checkpoint(trained / LAST)
    assert checkpoint.config.name == config.model
    assert checkpoint.trained
    before = dict(create_model(checkpoint.config, seed=config.seed).named_parameters())
    # Rates are those of the first steps of a long warm-up, of which a weight of 1 may see nothing.
    moved = [name for name, tensor in checkpoint.model.named_parameters() if not torch.equal(tensor, before[name])]
    assert len(moved) > 0.5 * len(before)
    assert {name.split('.')[0] for name in moved} == {name.split('.')[0] for name in before}


@pytest.mark.parametrize(
    'given',
    [pytest.param(('--size', '128x256', '--batch', '1'), id='one_size'), pytest.param((), id='any_size', marks=SLOW)],
)
def test_its_export_is_verified(trained: Path, given: tuple[str, ...]) -> None:
    out = trained / 'network.onnx'
    assert main(['export', str(trained / LAST), '--format', 'onnx', '--out', str(out), '--verify', *given]) == 0
    assert load_exported(out).config == load_checkpoint(trained / LAST).config


def test_it_drives_the_node(trained: Path, start_node: Callable[..., NodeProcess], robot: Robot) -> None:
    predictor = Predictor.from_checkpoint(trained / LAST, device='cpu', engine='torch', threads=1)
    start_node(checkpoint=trained / LAST, device='cpu', engine='torch', threads=1, **ANY_BOX)
    topics = [topic for topic, part in PARTS.items() if part in predictor.parts]
    assert topics
    first, second = (street_message(seed=seed, stamp=(5, seed * 10**8)) for seed in (0, 1))
    for topic in topics:  # also waits until the node has found its listeners
        answers = robot.listen(f'/{topic}', Detection2DArray if topic == 'detections' else Image)
        robot.exchange(first, '/image', answers)
    robot.publish(second, '/image')
    messages = {name: wait_until(lambda n=name: answer_to(second, robot.received[f'/{n}']), name) for name in topics}

    images = [decode_image(message) for message in (first, second)]
    [scene] = predictor.predict(images[1:], previous=images[:1], detection=DetectionConfig(**ANY_BOX))
    if 'detections' in messages:
        found = messages.pop('detections').detections
        assert [int(d.results[0].hypothesis.class_id) for d in found] == scene.detections.class_ids.tolist()
        scores = [d.results[0].hypothesis.score for d in found]
        np.testing.assert_allclose(scores, scene.detections.scores, atol=1e-4)
    for topic, message in messages.items():
        wanted = getattr(scene, PARTS[topic])
        if topic == 'depth':
            depth = np.frombuffer(message.data, np.float32).reshape(wanted.shape)
            np.testing.assert_allclose(depth, wanted, rtol=1e-3)
        else:
            mask = np.frombuffer(message.data, np.uint8).reshape(wanted.shape)
            assert (mask == (wanted * np.uint8(255) if topic == 'motion/mask' else wanted)).mean() > 0.999
    assert robot.counts()['failed'] == 0


def answer_to(message: Image, answers: list) -> Image | Detection2DArray | None:
    return next((answer for answer in answers if answer.header == message.header), None)
