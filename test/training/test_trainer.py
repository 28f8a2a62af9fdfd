"""Whole runs of a small network on six rendered streets."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from sembox_ros.data.cityscapes import Cityscapes
from sembox_ros.errors import ConfigError, TrainingError
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint
from sembox_ros.models.zoo import create_model
from sembox_ros.training.config import TrainConfig, load_train_config
from sembox_ros.training.loader import Schedule
from sembox_ros.training.pieces import take_weights
from sembox_ros.training.state import load_state
from sembox_ros.training.trainer import Trainer
from sembox_ros.training.validation import Grader

ConfigFactory = Callable[..., TrainConfig]


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Lines without what a clock measured."""
    lines = [json.loads(line) for line in (folder / 'history.jsonl').read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ('images_per_s', 'seconds')} for line in lines]


def assert_same_weights(one: Path, other: Path) -> None:
    """Network, average and optimizer are equal bit for bit."""
    mine, theirs = load_state(one / 'resume.safetensors'), load_state(other / 'resume.safetensors')
    for part in ('network', 'average'):
        assert mine.modules[part].keys() == theirs.modules[part].keys()
        for name, tensor in mine.modules[part].items():
            assert torch.equal(tensor, theirs.modules[part][name]), name
    for index, slots in mine.slots.items():
        for name, tensor in slots.items():
            assert torch.equal(tensor, theirs.slots[index][name]), (index, name)


class Interrupted(Trainer):
    """A run that sends itself a signal when it is about to do a step, or in the middle of a validation."""

    at_step, in_validation, number = -1, -1, signal.SIGINT

    def step(self, batches: Any, rate: float) -> dict[str, float]:
        if self.state.step == self.at_step:
            os.kill(os.getpid(), self.number)
        return super().step(batches, rate)

    def _grade(self) -> Grader | None:
        if self.state.step == self.in_validation:
            os.kill(os.getpid(), self.number)
        return super()._grade()


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_config: ConfigFactory) -> Path:
    """A run that was never interrupted."""
    folder = tmp_path_factory.mktemp('runs') / 'whole'
    assert Trainer(tiny_config(folder)).run() is True
    return folder


# ------------------------------------------------------------------------------------------------- files of a run


def test_files_of_a_finished_run(finished: Path, tiny_config: ConfigFactory):
    assert {path.name for path in finished.iterdir()} == {
        'config.yaml', 'history.jsonl', 'metrics.json', 'last.safetensors', 'best.safetensors', 'resume.safetensors',
        'summary.html', 'curves.png', 'examples', 'tensorboard',
    }  # fmt: skip
    assert load_train_config(finished / 'config.yaml') == tiny_config(finished)
    assert sorted(path.name for path in (finished / 'examples').iterdir()) == ['00.png', '01.png']
    assert list((finished / 'tensorboard').glob('events.out.tfevents.*'))
    assert 'tiny' in (finished / 'summary.html').read_text()


def test_history_and_metrics_of_a_finished_run(finished: Path):
    history = read_history(finished)
    # Two epochs of three steps, each with a validation at its end: the last step has one.
    assert [(line['kind'], line['step']) for line in history] == [
        ('train', 1), ('train', 2), ('train', 3), ('val', 3), ('train', 4), ('train', 5), ('train', 6), ('val', 6),
    ]  # fmt: skip
    assert history[0]['lr'] == pytest.approx(0.0005)
    assert history[1]['lr'] == pytest.approx(0.001)
    assert set(history[0]) == {
        'kind', 'step', 'epoch', 'loss', 'loss_box_cls', 'loss_box_reg', 'loss_semantic', 'loss_region', 'lr',
    }  # fmt: skip
    first = history[0]
    parts = [first[f'loss_{part}'] for part in ('box_cls', 'box_reg', 'semantic')]
    assert first['loss'] == pytest.approx(sum(parts) + 0.5 * first['loss_region'])
    metrics = json.loads((finished / 'metrics.json').read_text())
    assert metrics['steps'] == 6
    assert metrics['epochs'] == 2.0
    assert (metrics['images_train'], metrics['images_val'], metrics['interrupted']) == (6, 2, False)
    assert metrics['last']['step'] == 6
    assert metrics['last']['semantic']['miou'] == pytest.approx(history[-1]['miou'])
    assert metrics['images_per_s'] == pytest.approx(12 / metrics['seconds'], rel=0.2)


def test_checkpoints_of_a_finished_run(finished: Path):
    last = load_checkpoint(finished / 'last.safetensors')
    assert last.trained
    assert (last.labels.semantic.name, last.labels.detection.name) == ('cityscapes_19', 'cityscapes_things_8')
    assert (last.config.neck_channels, last.config.detection_classes) == (16, 8)
    assert last.input.size_hw == (128, 128)
    assert last.recipe['step'] == 6
    assert last.recipe['config']['optimizer']['warmup_steps'] == 2
    assert last.metrics['miou'] == pytest.approx(read_history(finished)[-1]['miou'])
    average = load_state(finished / 'resume.safetensors').modules['average']
    for name, tensor in last.model.state_dict().items():  # what was graded is what is kept
        assert torch.equal(tensor, average[f'module.{name}']), name
    best = load_checkpoint(finished / 'best.safetensors')
    metrics = json.loads((finished / 'metrics.json').read_text())
    assert best.recipe['step'] == metrics['best']['step']


class Painted(Trainer):
    """A run whose average paints everything in one color at each validation."""

    colors: tuple[int, ...] = ()

    def _validate(self) -> None:
        layers = self.average.module.semantic_head.classify
        with torch.no_grad():
            for layer in layers:
                layer.weight.zero_()
            layers[0].bias.zero_()
            layers[0].bias[self.colors[self.state.step - 1]] = 9.0
        super()._validate()


@pytest.mark.parametrize(('colors', 'best_step'), [((0, 16), 1), ((16, 0), 2)])
def test_the_best_checkpoint_is_the_better_one(
    tiny_config: ConfigFactory, tmp_path: Path, colors: tuple[int, ...], best_step: int
):
    config = tiny_config(tmp_path / 'run', batch_size=6, best_by='miou')
    trainer = Painted(config)
    trainer.colors = colors  # 0 is road, of which there is much, 16 a train, of which there is none
    assert trainer.run()
    metrics = json.loads((config.folder / 'metrics.json').read_text())
    assert (metrics['best']['step'], metrics['last']['step']) == (best_step, 2)
    assert metrics['best']['semantic']['miou'] > 0
    best = load_checkpoint(config.folder / 'best.safetensors')
    assert best.recipe['step'] == best_step
    assert int(best.model.semantic_head.classify[0].bias.argmax()) == 0
    assert load_checkpoint(config.folder / 'last.safetensors').recipe['step'] == 2
    assert load_state(config.folder / 'resume.safetensors').state.best_rank == metrics['best']['semantic']['miou']


# ------------------------------------------------------------------------------------------------------ resuming


@pytest.mark.parametrize(
    ('at_step', 'in_validation', 'number', 'done'),
    [(0, -1, signal.SIGINT, 1), (3, -1, signal.SIGTERM, 4), (-1, 3, signal.SIGINT, 3), (-1, 6, signal.SIGTERM, 6)],
)
def test_a_resumed_run_is_the_same_run(
    finished: Path, tiny_config: ConfigFactory, tmp_path: Path, at_step: int, in_validation: int, number: int, done: int
):
    config = tiny_config(tmp_path / 'run')
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    trainer = Interrupted(config)
    trainer.at_step, trainer.in_validation, trainer.number = at_step, in_validation, number
    assert trainer.run() is False
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    metrics = json.loads((config.folder / 'metrics.json').read_text())
    assert (metrics['steps'], metrics['interrupted']) == (done, True)
    before = [line for line in read_history(finished) if line['step'] <= done]
    assert read_history(config.folder) == [line for line in before if (line['kind'], line['step']) != ('val', done)]
    assert Trainer(config, resume=True).run() is True
    assert read_history(config.folder) == read_history(finished)
    assert_same_weights(config.folder, finished)
    ours, theirs = (json.loads((folder / 'metrics.json').read_text()) for folder in (config.folder, finished))
    assert (ours['best'], ours['last'], ours['interrupted']) == (theirs['best'], theirs['last'], False)


def test_a_second_signal_ends_at_once_and_a_killed_run_resumes(
    finished: Path, tiny_config: ConfigFactory, tmp_path: Path
):
    config = tiny_config(tmp_path / 'run')

    class Impatient(Interrupted):
        def step(self, batches: Any, rate: float) -> dict[str, float]:
            if self.state.step == 4:
                os.kill(os.getpid(), signal.SIGINT)
            return super().step(batches, rate)

    trainer = Impatient(config)
    trainer.at_step = 4
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert not (config.folder / 'metrics.json').exists()
    assert load_state(config.folder / 'resume.safetensors').state.step == 3  # saved with the validation
    assert [line['step'] for line in read_history(config.folder)][-1] == 4
    assert Trainer(config, resume=True).run() is True
    assert read_history(config.folder) == read_history(finished)
    assert_same_weights(config.folder, finished)


def test_a_run_is_not_overwritten(finished: Path, tiny_config: ConfigFactory, tmp_path: Path):
    before = (finished / 'resume.safetensors').read_bytes()
    with pytest.raises(ConfigError, match='holds a run already; go on with --resume'):
        Trainer(tiny_config(finished))
    assert (finished / 'resume.safetensors').read_bytes() == before
    with pytest.raises(ConfigError, match=r'resume\.safetensors does not exist; start the run without --resume'):
        Trainer(tiny_config(tmp_path / 'new'), resume=True)
    assert not (tmp_path / 'new').exists()


def test_a_changed_run_is_not_resumed(finished: Path, tiny_config: ConfigFactory):
    changed = tiny_config(finished, epochs=3, optimizer={'lr': 0.5})
    with pytest.raises(ConfigError, match='--resume: epochs, optimizer changed since the run began'):
        Trainer(changed, resume=True)
    unimportant = tiny_config(finished, name='other', log_every=7, data={'workers': 1})
    assert Trainer(unimportant, resume=True).state.step == 6


# -------------------------------------------------------------------------------------------------------- failing


def test_a_loss_that_is_no_number_keeps_its_batch(tiny_config: ConfigFactory, tmp_path: Path, streets: Path):
    class Broken(Trainer):
        def losses(self, batch: Any) -> dict[str, Tensor]:
            losses = super().losses(batch)
            return {**losses, 'loss': losses['loss'] * float('nan')} if self.state.step == 4 else losses

    config = tiny_config(tmp_path / 'run', epochs=4)
    trainer = Broken(config)
    with pytest.raises(TrainingError) as error:
        trainer.run()
    step = trainer.state.step
    assert step == 4
    path = config.folder / 'bad_batch_0.safetensors'
    assert str(error.value).startswith(f'step {step}: loss or gradient is not finite (loss_box_cls ')
    assert str(path) in str(error.value)
    known = config.folder / 'last.safetensors'
    assert (f'start_from={known}' in str(error.value)) is known.exists()
    order = list(Schedule(length=6, per_process=2, epochs=4, seed=0))[2 * step : 2 * step + 2]
    names = Cityscapes(root=streets).image_ids
    with safe_open(path, 'pt') as file:
        metadata = file.metadata()
        images, semantic = file.get_tensor('images'), file.get_tensor('semantic')
        sizes = [file.get_tensor(f'boxes_xyxy/{index}').shape[1] for index in range(2)]
    assert metadata['step'] == str(step)
    assert json.loads(metadata['image_ids']) == [names[index] for _, index in order]
    assert not torch.tensor(float(metadata['loss'])).isfinite()
    assert (images.shape, semantic.shape, sizes) == ((2, 3, 128, 128), (2, 128, 128), [4, 4])
    assert images.isfinite().all()
    assert not (config.folder / 'metrics.json').exists()


class Poisoned(Trainer):
    """A run in which some steps have a finite loss and a gradient that is NaN."""

    poisoned: tuple[int, ...] = ()

    def losses(self, batch: Any) -> dict[str, Tensor]:
        losses = super().losses(batch)
        if self.state.step in self.poisoned:
            zero = 0 * next(self.network.parameters()).sum()
            losses['loss'] = losses['loss'] + zero.sqrt()  # 0, with a slope of infinity times 0
        return losses


def test_a_step_without_a_finite_gradient_is_left_out(tiny_config: ConfigFactory, tmp_path: Path, capsys: Any):
    trainer = Poisoned(tiny_config(tmp_path / 'run'))
    trainer.poisoned = (1, 2)
    updates = []
    trainer.optimizer.register_step_post_hook(lambda *_: updates.append(trainer.state.step))
    assert trainer.run() is True
    assert updates == [0, 3, 4, 5]
    assert all(p.isfinite().all() for p in trainer.network.parameters())
    assert 'step 2: the gradient is not finite, the weights stay as they were' in capsys.readouterr().err


def test_gradients_that_are_never_finite_end_the_run(tiny_config: ConfigFactory, tmp_path: Path):
    trainer = Poisoned(tiny_config(tmp_path / 'run', epochs=4))
    trainer.poisoned = tuple(range(100))
    with pytest.raises(TrainingError, match='step 4: loss or gradient is not finite'):
        trainer.run()
    assert (tmp_path / 'run' / 'bad_batch_0.safetensors').exists()


# ------------------------------------------------------------------------------------------- where weights come from


def test_frozen_parts_stay_bit_for_bit(tiny_config: ConfigFactory, tmp_path: Path, tiny_checkpoint_path: Path):
    recipe = Path(__file__).parents[2] / 'config' / 'train' / 'semantic_head_only.yaml'
    freeze = list(load_train_config(recipe).freeze)
    config = tiny_config(tmp_path / 'run', epochs=1, start_from=str(tiny_checkpoint_path), freeze=freeze)
    assert Trainer(config).run()
    last = load_checkpoint(config.folder / 'last.safetensors')
    before = load_checkpoint(tiny_checkpoint_path).model.state_dict()
    network = load_state(config.folder / 'resume.safetensors').modules['network']
    for after in (network, last.model.state_dict()):
        changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
        assert {name.partition('.')[0] for name in changed} == {'semantic_neck', 'semantic_head'}
        learned = {name for name in before if name.startswith('semantic_') and before[name].is_floating_point()}
        assert len(changed & learned) > 0.95 * len(learned)
    assert set(read_history(config.folder)[0]) == {
        'kind', 'step', 'epoch', 'loss', 'loss_semantic', 'loss_region', 'lr',
    }  # fmt: skip
    # The frozen head still means COCO's classes; it is graded in those that the dataset has too.
    assert (last.labels.semantic.name, last.labels.detection.name) == ('cityscapes_19', 'coco_90')
    assert json.loads((config.folder / 'metrics.json').read_text())['last']['boxes']['ap50'] is not None


def test_starting_from_a_checkpoint(tiny_config: ConfigFactory, tmp_path: Path, finished: Path, capsys):
    start = finished / 'last.safetensors'
    given = load_checkpoint(start).model.state_dict()
    trainer = Trainer(tiny_config(tmp_path / 'run', start_from=str(start), seed=7))
    for name, tensor in trainer.network.module.state_dict().items():
        assert torch.equal(tensor, given[name]), name
    void = {'split': 'train', 'classes': 20}
    config = tiny_config(
        tmp_path / 'void', start_from=str(start), seed=7, batch_size=6, epochs=1,
        data={'train': void, 'val': {**void, 'split': 'val'}},
    )  # fmt: skip
    trainer = Trainer(config)
    taken = trainer.network.module.state_dict()
    other = {name for name, tensor in taken.items() if tensor.shape != given[name].shape}
    assert other == {f'semantic_head.classify.{i}.weight' for i in range(4)} | {'semantic_head.classify.0.bias'}
    assert all(torch.equal(tensor, given[name]) for name, tensor in taken.items() if name not in other)
    assert trainer.run()
    total = len(given)
    told = f'start: {total - 5} of {total} tensors of the checkpoint; at random: semantic_head.classify\n'
    assert told in capsys.readouterr().err
    last = load_checkpoint(config.folder / 'last.safetensors')
    assert last.labels.semantic.name == 'cityscapes_20'
    assert last.recipe['start_from'] == 'last.safetensors'


def test_checkpoints_that_do_not_fit(tiny_checkpoint_path: Path):
    started = load_checkpoint(tiny_checkpoint_path)
    with pytest.raises(ConfigError, match='none of its tensors fits the model; expected the same architecture'):
        take_weights(nn.Sequential(nn.Linear(2, 2)), started, ())
    model = create_model(dataclasses.replace(started.config, detection_classes=8))
    assert 'at random: box_head.' in take_weights(model, started, ('encoder',))
    with pytest.raises(ConfigError, match=r'start_from: has no box_head\..* of that shape, which is frozen'):
        take_weights(model, started, ('encoder', 'box_head'))


def test_encoder_of_one_input_starts_a_network_of_several(tiny_masks: Checkpoint):
    """A flow of other channels is nothing that the network of images alone knows."""
    taken = create_model(dataclasses.replace(tiny_masks.config, inputs=('image', 'flow')), seed=8)
    before = {name: tensor.clone() for name, tensor in taken.state_dict().items()}
    told = take_weights(taken, tiny_masks, ('encoder.main', 'decoders.semantic'))
    given = tiny_masks.model.state_dict()
    rest = 'at random: encoder.fuse, encoder.others'
    assert told == f'start: {len(given)} of {len(before)} tensors of the checkpoint; {rest}'
    for name, tensor in taken.state_dict().items():
        known = given.get(name.replace('encoder.main.', 'encoder.'))
        assert torch.equal(tensor, before[name] if known is None else known), name


def test_random_weights_depend_on_the_seed_alone(tiny_config: ConfigFactory, tmp_path: Path):
    def weights(seed: int) -> Tensor:
        torch.manual_seed(123 + seed)
        trainer = Trainer(tiny_config(tmp_path / 'run', seed=seed))
        return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])

    first = weights(1)
    assert torch.equal(first, weights(1))
    assert not torch.equal(first, weights(2))
