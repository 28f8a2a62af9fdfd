"""Optimizers, the learning rate as a function of the step, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sembox_ros.errors import ConfigError
from sembox_ros.training.config import OptimizerConfig
from sembox_ros.training.quantized import OBSERVED_SHARE, Rounding


def freeze_parts(model: nn.Module, parts: tuple[str, ...]) -> None:
    """Stop the gradients of these parts and of nothing else.

    Raises:
        ConfigError: the model has no part of that name, or nothing is left to train.
    """
    known = dict(model.named_modules())
    for part in parts:
        if not part or part not in known:
            top = ', '.join(name for name, _ in model.named_children())
            raise ConfigError(f"freeze: the model has no part '{part}'; its parts are: {top}")
        known[part].requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(f'freeze: nothing is left to train without {", ".join(parts)}')


def train_mode(model: nn.Module, frozen: tuple[str, ...], *, done: float = 0.0) -> None:
    """Training mode, except in frozen parts: their batch norms keep their statistics and no block is left out.

    A network that learns to be rounded moves the ranges of its activations until `done`, the share of the run that is
    over, is `OBSERVED_SHARE`.
    """
    model.train()
    if isinstance(model, Rounding):
        model.observing = done < OBSERVED_SHARE
    for part in frozen:
        model.get_submodule(part).eval()


def create_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), Adam (whose decay is part of the gradient), or SGD with Nesterov's momentum.

    Over what is not frozen. Norms, biases and fusion weights, which have one dimension, get no weight decay.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {'params': [p for p in trained if p.ndim > 1], 'weight_decay': config.weight_decay},
        {'params': [p for p in trained if p.ndim <= 1], 'weight_decay': 0.0},
    ]
    if config.name == 'sgd':
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    kind = torch.optim.Adam if config.name == 'adam' else torch.optim.AdamW
    return kind(groups, lr=config.lr)


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """The rate of one step; a pure function, so that a resumed run needs no state for it.

    Args:
        config: warm-up, schedule and limits.
        step: 0 .. total_steps - 1.
        total_steps: of the whole run.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == 'constant':
        return config.lr
    if config.schedule == 'steps':  # at epochs that are usually counted from the start of the run
        return config.lr * config.milestone_factor ** sum(step >= share * total_steps for share in config.milestones)
    done = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    if config.schedule == 'exponential':
        return config.lr * config.final_lr_ratio**done
    # DeepLab, section 4.1; SGDR, eq. 5, without restarts.
    share = (1 - done) ** config.poly_power if config.schedule == 'poly' else (1 + math.cos(math.pi * done)) / 2
    return config.lr * (config.final_lr_ratio + (1 - config.final_lr_ratio) * share)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The same rate for all parameters."""
    for group in optimizer.param_groups:
        group['lr'] = rate


def create_average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of weights and batch norm statistics, in evaluation mode.

    The first averages are short (decay (1 + n) / (10 + n) after n steps), so that they do not remember the random
    start.
    """

    def average(kept: Sequence[Tensor], new: Sequence[Tensor], count: Tensor | int) -> None:
        steps = int(count)
        if kept[0].is_floating_point():
            torch._foreach_lerp_(list(kept), list(new), 1 - min(decay, (1 + steps) / (10 + steps)))
        else:  # counters
            torch._foreach_copy_(list(kept), list(new))

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True).eval()
