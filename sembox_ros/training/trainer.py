"""The training loop: steps, validations, and nothing lost in between."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor, nn

from sembox_ros.config import ModelConfig
from sembox_ros.data.transforms import Batch
from sembox_ros.errors import ConfigError, TrainingError
from sembox_ros.labels import SceneLabels
from sembox_ros.losses.maps import fit_labels
from sembox_ros.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from sembox_ros.models.layers import measure_norms
from sembox_ros.models.sembox import resize_maps
from sembox_ros.models.zoo import MODELS
from sembox_ros.ops.anchors import create_anchors
from sembox_ros.ops.grids import Grids, create_grids
from sembox_ros.training.config import TrainConfig, to_plain, write_train_config
from sembox_ros.training.failure import save_batch
from sembox_ros.training.interrupt import Interrupt
from sembox_ros.training.loader import Schedule, create_train_loader, create_val_loader, load_datasets, mix_seed
from sembox_ros.training.monitor import HISTORY, Monitor
from sembox_ros.training.optim import (
    create_average,
    create_optimizer,
    freeze_parts,
    learning_rate,
    set_learning_rate,
    train_mode,
)
from sembox_ros.training.pieces import choose_labels, create_fabric, create_network, create_scene_loss, take_weights
from sembox_ros.training.quantized import prepare_rounding, share_ranges, without_rounding
from sembox_ros.training.report import write_summary
from sembox_ros.training.state import RunState, load_state, save_state
from sembox_ros.training.validation import Grader, validate

RESUME, LAST, BEST, METRICS = 'resume.safetensors', 'last.safetensors', 'best.safetensors', 'metrics.json'
EXAMPLES = 8
DRY_STEPS = 2
MAX_LEFT_OUT = 5  # steps in a row whose gradient was not finite

NetworkFactory = Callable[[TrainConfig, SceneLabels], tuple[nn.Module, ModelConfig]]


class Trainer:
    """One run, from its configuration to its summary.

    Args:
        config: everything about it.
        resume: go on with the run in `config.folder`.
        dry_run: two steps, two validated images, everything written once.
        create: makes the network, by default one of the zoo. Any other trains alike but gets no checkpoints, which
            nothing could read.

    Raises:
        SemboxError: configuration, dataset, checkpoint or state are not usable; nothing was trained then.
    """

    def __init__(
        self, config: TrainConfig, *, resume: bool = False, dry_run: bool = False,
        create: NetworkFactory = create_network,
    ) -> None:  # fmt: skip
        self.config, self.folder, self._dry_run = config, config.folder, dry_run
        self.fabric: Fabric = create_fabric(config)
        self._check_folder(resume)
        train_data, val_data = load_datasets(config)
        started = load_checkpoint(config.start_from) if config.start_from else None
        self.labels = choose_labels(config, train_data.labels, started)
        model, self.model_config = create(config, self.labels)
        self._started = take_weights(model, started, config.freeze) if started else ''
        freeze_parts(model, config.freeze)
        model = prepare_rounding(model, config, self.model_config)
        with self.fabric.rank_zero_first():  # the first process counts pixels, the others find the counts
            self.criterion = create_scene_loss(config, self.model_config, train_data)
        model = model.to(self.fabric.device).to(memory_format=torch.channels_last)
        self._scaler = getattr(self.fabric.strategy.precision, 'scaler', None)  # of fp16 only
        self.average = create_average(model, config.optimizer.ema_decay)
        self.network, self.optimizer = self.fabric.setup(model, create_optimizer(model, config.optimizer))
        self._train_data, self._val_data = train_data, val_data
        self.state = RunState()
        if resume:
            self._restore()
        self.schedule = self._schedule(len(train_data))
        self.total_steps = min(self.schedule.total_steps, DRY_STEPS) if dry_run else self.schedule.total_steps
        self._anchors: dict[tuple[int, int], Tensor] = {}
        self._grids: dict[tuple[int, int], Grids] = {}
        self._interrupt = Interrupt()
        self._left_out = 0

    # ------------------------------------------------------------------------------------------------- beginnings

    def _check_folder(self, resume: bool) -> None:
        state = self.folder / RESUME
        if resume and not state.exists():
            raise ConfigError(f'--resume: {state} does not exist; start the run without --resume')
        if not resume and state.exists():
            raise ConfigError(f'{self.folder}: holds a run already; go on with --resume, or choose another out=FOLDER')

    def _schedule(self, length: int) -> Schedule:
        return Schedule(
            length=length, per_process=self.config.batch_size * self.config.accumulate, epochs=self.config.epochs,
            seed=self.config.seed, rank=self.fabric.global_rank, processes=self.fabric.world_size,
            first_step=self.state.step,
        )  # fmt: skip

    def _settings(self) -> dict[str, Any]:
        """What must stay the same for a resumed run to be the same run."""
        free = ('name', 'out', 'threads', 'log_every', 'save_every_s', 'val_batch_size', 'start_from')
        plain = {k: v for k, v in to_plain(self.config).items() if k not in free}
        plain['data'] = {k: v for k, v in plain['data'].items() if k not in ('root', 'workers')}
        return {**plain, 'processes': self.fabric.world_size}

    def _restore(self) -> None:
        saved = load_state(self.folder / RESUME)
        now = json.loads(json.dumps(self._settings()))
        changed = sorted(k for k in now.keys() | saved.settings.keys() if now.get(k) != saved.settings.get(k))
        if changed:
            raise ConfigError(f'--resume: {", ".join(changed)} changed since the run began; resume it as it was')
        self.network.module.load_state_dict(saved.modules['network'])
        self.average.load_state_dict(saved.modules['average'])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), 'state': saved.slots})
        if self._scaler is not None and saved.state.scaler:
            self._scaler.load_state_dict(saved.state.scaler)
        self.state = saved.state

    # ------------------------------------------------------------------------------------------------------- steps

    def run(self) -> bool:
        """Train to the end, or until a signal; returns whether the end was reached.

        Raises:
            TrainingError: a loss is no number any more; the batch was saved.
        """
        main = self.fabric.is_global_zero
        self.monitor = Monitor(self.folder, total_steps=self.total_steps, first_step=self.state.step, active=main)
        if main:
            write_train_config(self.config, self.folder / 'config.yaml')
        if self._started:
            self.monitor.say(self._started)
        try:
            with self._interrupt.listening(self.monitor.say):
                self._train()
            self._finish()
        finally:
            self.monitor.close()
        return self._complete()

    def _train(self) -> None:
        config, state = self.config, self.state
        loader = create_train_loader(self._train_data, config, self.schedule)
        batches = iter(loader)
        sums: dict[str, float] = {}
        counted, since, saved = 0, time.monotonic(), time.monotonic()
        if state.validated < state.step and self._validation_due():
            self._validate()  # the one that an earlier session could not finish
        while state.step < self.total_steps and not self._stopping():
            began = time.monotonic()
            rate = learning_rate(config.optimizer, state.step, self.total_steps)
            losses = self.step(batches, rate)
            state.step += 1
            state.seconds += time.monotonic() - began
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            counted += 1
            speed = counted * self.schedule.per_process * self.schedule.processes / (time.monotonic() - since)
            self.monitor.step(losses, rate, speed)
            if state.step % config.log_every == 0 or state.step == self.total_steps:
                means = {name: value / counted for name, value in sums.items()}
                self.monitor.record('train', state.step, self._epoch(), {**means, 'lr': rate, 'images_per_s': speed})
                sums, counted, since = {}, 0, time.monotonic()
            if self._validation_due():
                self._save()  # a validation takes its time: nothing before it is lost if it is cut short
                self._validate()
                counted, sums, since, saved = 0, {}, time.monotonic(), time.monotonic()
            elif time.monotonic() - saved > config.save_every_s:
                self._save()
                saved = time.monotonic()

    def step(self, batches: Iterator[Batch], rate: float) -> dict[str, float]:
        """One step of the optimizer; returns the terms of the loss, averaged over its batches.

        Raises:
            TrainingError: loss or gradient are no numbers any more; the batch was saved.
        """
        # Stochastic depth draws from the global generator: seeded by step, it needs no state to resume.
        torch.manual_seed(mix_seed(self.config.seed, self.state.step, self.fabric.global_rank))
        train_mode(self.network.module, self.config.freeze, done=self.state.step / self.total_steps)
        set_learning_rate(self.optimizer, rate)
        total: dict[str, float] = {}
        count = self.config.accumulate
        for index in range(count):
            batch = next(batches).to(self.fabric.device)
            with self.fabric.no_backward_sync(self.network, enabled=index + 1 < count):
                losses = self.losses(batch)
                self.fabric.backward(losses['loss'] / count)
            values = torch.stack(list(losses.values())).tolist()  # one wait for the GPU, not one for each
            for name, value in zip(losses, values, strict=True):
                total[name] = total.get(name, 0.0) + value / count
            if not math.isfinite(total['loss']):
                self._fail(batch, total)
        self._update(batch, total)
        return total

    def _update(self, batch: Batch, losses: dict[str, float]) -> None:
        """Move the weights, or leave them where they are if the gradient is not finite."""
        limit = self.config.optimizer.clip_norm or math.inf
        norm = self.fabric.clip_gradients(self.network, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        # fp16's loss scale leaves such steps out by itself, and shrinks.
        if self._scaler is not None or norm is None or math.isfinite(norm):
            self.optimizer.step()
            self.average.update_parameters(self.network.module)
            self._left_out = 0
        else:
            self._left_out += 1
            self.monitor.say(f'step {self.state.step}: the gradient is not finite, the weights stay as they were')
            if self._left_out == MAX_LEFT_OUT:
                self._fail(batch, losses)
        self.optimizer.zero_grad(set_to_none=True)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Terms and weighted sum of the loss of one batch."""
        images = batch.images.to(memory_format=torch.channels_last)
        size_hw = (images.shape[2], images.shape[3])
        if self.criterion.box is not None and size_hw not in self._anchors:
            scale = self.model_config.anchor_scale
            self._anchors[size_hw] = create_anchors(size_hw, device=self.fabric.device, anchor_scale=scale)
        output = self.network(images)
        head = getattr(self.network.module, 'instance_head', None)
        if head is not None and size_hw not in self._grids:
            self._grids[size_hw] = create_grids(head.shapes, size_hw, self.fabric.device)
        if self.criterion.reads_maps:
            output = resize_maps(self.network.module, output)
        return self.criterion(
            output, anchors_xyxy=self._anchors.get(size_hw), boxes_xyxy=batch.boxes_xyxy, class_ids=batch.class_ids,
            is_crowd=batch.is_crowd, grids=self._grids.get(size_hw), instances=batch.instances,
            semantic=fit_labels(batch.semantic, output.semantic_logits),
            depth=fit_labels(batch.depth, output.log_depth), motion=fit_labels(batch.motion, output.motion_logits),
        )  # fmt: skip

    def _fail(self, batch: Batch, losses: dict[str, float]) -> None:
        path = self.folder / f'bad_batch_{self.fabric.global_rank}.safetensors'
        save_batch(batch, path, step=self.state.step, losses=losses)
        terms = ', '.join(f'{name} {value}' for name, value in losses.items())
        last = self.folder / LAST
        start = f'; start_from={last} takes over what was learnt' if last.exists() else ''
        raise TrainingError(
            f'step {self.state.step}: loss or gradient is not finite ({terms}); its batch is in {path}. '
            f'Lower optimizer.lr, lengthen optimizer.warmup_steps or use precision=fp32 in a new run{start}'
        )

    # ------------------------------------------------------------------------------------- validations and the end

    def _epoch(self) -> float:
        return self.state.step / self.schedule.steps_per_epoch

    def _validation_due(self) -> bool:
        every = self.config.val_every * self.schedule.steps_per_epoch
        return self.state.step % every == 0 or self.state.step == self.total_steps

    def _complete(self) -> bool:
        return self.total_steps <= self.state.step == self.state.validated

    def _measure_norms(self) -> None:
        """Give the average the batch norm statistics of its own weights: the same images in every process."""
        per_batch = self.config.batch_size
        count = min(self.config.norm_images, len(self._train_data)) // per_batch
        if not count:
            return
        order = Schedule(length=len(self._train_data), per_process=per_batch, epochs=1, seed=self.config.seed)
        loader = create_train_loader(self._train_data, self.config, order)
        chosen = itertools.takewhile(lambda _: not self._interrupt.requested, itertools.islice(loader, count))
        images = (batch.images.to(self.fabric.device) for batch in chosen)
        train_mode(self.average.module, self.config.freeze)
        with torch.random.fork_rng(), self.fabric.autocast():
            torch.manual_seed(self.config.seed)  # for stochastic depth
            measure_norms(self.average.module, self.monitor.track(images, count, 'measuring norms'))
        self.average.eval()

    def _validate(self) -> None:
        start = time.monotonic()
        self._measure_norms()
        share_ranges(self.average.module)
        grader = self._grade()
        if grader is None:
            return
        scores = grader.compute()
        rank = scores.rank(self.config.best_by)
        is_best = rank > self.state.best_rank
        where = {'step': self.state.step, 'epoch': round(self._epoch(), 3), **scores.to_dict()}
        if is_best:
            self.state.best_rank, self.state.best = rank, where
        self.state.last = where
        self.state.validated = self.state.step
        seconds = time.monotonic() - start
        self.monitor.record('val', self.state.step, self._epoch(), {**scores.headline(), 'seconds': seconds})
        self.monitor.show(self.state.step, grader.pictures)
        if self.fabric.is_global_zero:
            self._write_checkpoints((LAST, BEST) if is_best else (LAST,), scores.headline())
        self._save()

    def _grade(self) -> Grader | None:
        """The validation of all processes, or None if a signal ended it."""
        rank, processes = self.fabric.global_rank, self.fabric.world_size
        loader = create_val_loader(self._val_data, self.config, rank=rank, processes=processes)

        def batches() -> Iterator[Batch]:
            for index, batch in enumerate(loader):
                if self._interrupt.requested or (self._dry_run and index == DRY_STEPS):
                    return
                yield batch

        grader = Grader(self.labels, self._val_data.labels, examples=0 if rank else EXAMPLES)
        with self.fabric.autocast():
            validate(
                self.average.module, self.monitor.track(batches(), len(loader), 'validating'), grader,
                model_config=self.model_config, input_config=self.config.input, device=self.fabric.device,
            )  # fmt: skip
        if self._stopping():
            return None
        if processes > 1:
            others: list[Any] = [None] * processes
            torch.distributed.all_gather_object(others, grader)
            for other in (g for index, g in enumerate(others) if index != rank):
                grader.merge(other)
        return grader

    def _write_checkpoints(self, names: Sequence[str], scores: Mapping[str, float]) -> None:
        """The averaged network as it is now, and what it scored, if it is one that `load_checkpoint` can build."""
        if self.model_config.name not in MODELS:
            return
        recipe = {'step': self.state.step, 'epoch': round(self._epoch(), 3), 'config': self._settings()}
        if self.config.start_from:
            recipe['start_from'] = Path(self.config.start_from).name
        numbers = {name: value for name, value in scores.items() if math.isfinite(value)}
        model, ranges = without_rounding(self.average.module, self.model_config)
        checkpoint = Checkpoint(
            model, self.model_config, self.labels, self.config.input, recipe=recipe, metrics=numbers,
            quantization=ranges,
        )  # fmt: skip
        for name in names:
            save_checkpoint(checkpoint, self.folder / name)

    def _save(self) -> None:
        if self._scaler is not None:
            self.state.scaler = self._scaler.state_dict()
        if self.fabric.is_global_zero:
            save_state(
                self.folder / RESUME, self.state, settings=self._settings(),
                modules={'network': self.network.module.state_dict(), 'average': self.average.state_dict()},
                optimizer=self.optimizer.state_dict(),
            )  # fmt: skip
        self.fabric.barrier()

    def _finish(self) -> None:
        """Save, sum up, and say where everything is."""
        self._save()
        if not self.fabric.is_global_zero:
            return
        state, config = self.state, self.config
        if state.validated < state.step:  # stopped in between: the last weights are worth a file, ungraded
            self._write_checkpoints((LAST,), {})
        images = state.step * self.schedule.per_process * self.schedule.processes
        metrics = {
            'name': config.name,
            'model': config.model,
            'parameters': sum(p.numel() for p in self.network.module.parameters()),
            'dataset': config.data.dataset,
            'images_train': len(self._train_data),
            'images_val': len(self._val_data),
            'epochs': round(self._epoch(), 3),
            'steps': state.step,
            'seconds': round(state.seconds, 1),
            'images_per_s': round(images / max(state.seconds, 1e-9), 2),
            'best': state.best or None,
            'last': state.last or None,
            'interrupted': not self._complete(),
        }
        partial = self.folder / f'.{METRICS}'
        partial.write_text(json.dumps(metrics, indent=1) + '\n')
        partial.replace(self.folder / METRICS)
        summary = write_summary(self.folder) if (self.folder / HISTORY).exists() else 'none yet'
        if metrics['interrupted']:
            self.monitor.say(f'stopped after step {state.step} of {self.total_steps}; go on with --resume')
        self.monitor.say(f'summary: {summary}')

    # ----------------------------------------------------------------------------------------------------- signals

    def _stopping(self) -> bool:
        """Whether any process was told to stop; all of them must ask together."""
        if self.fabric.world_size == 1:
            return self._interrupt.requested
        flag = torch.tensor(float(self._interrupt.requested), device=self.fabric.device)
        total = self.fabric.all_reduce(flag, reduce_op='sum')
        return isinstance(total, Tensor) and bool(total > 0)
