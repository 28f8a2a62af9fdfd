from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sembox_ros.errors import ConfigError
from sembox_ros.training.config import OptimizerConfig
from sembox_ros.training.optim import (
    create_average,
    create_optimizer,
    freeze_parts,
    learning_rate,
    set_learning_rate,
    train_mode,
)


def small() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module('body', nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    model.add_module('head', nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)))
    return model


@pytest.mark.parametrize(
    ('schedule', 'middle', 'last'),
    [
        # 10 steps of warm-up, then 100: step 60 is half way, step 109 has 99 of 100 done; the rate ends at 0.1 x 0.2.
        ('cosine', 0.02 + 0.08 * 0.5, 0.02 + 0.08 * (1 + math.cos(0.99 * math.pi)) / 2),
        ('poly', 0.02 + 0.08 * 0.25, 0.02 + 0.08 * 0.0001),
        ('exponential', 0.1 * 0.2**0.5, 0.1 * 0.2**0.99),
        ('steps', 0.05, 0.025),  # down at steps 44 and 88
        ('constant', 0.1, 0.1),
    ],
)
def test_learning_rate_by_hand(schedule: str, middle: float, last: float):
    config = OptimizerConfig(lr=0.1, schedule=schedule, warmup_steps=10, poly_power=2.0, final_lr_ratio=0.2)
    rates = [learning_rate(config, step, 110) for step in range(110)]
    assert rates[:2] == pytest.approx([0.01, 0.02])
    assert rates[9:11] == pytest.approx([0.1, 0.1])
    assert rates[60] == pytest.approx(middle)
    assert rates[109] == pytest.approx(last)
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_steps_go_down_at_shares_of_the_whole_run():
    config = OptimizerConfig(lr=1.0, schedule='steps', warmup_steps=5, milestones=(0.4, 0.8), milestone_factor=0.25)
    rates = [learning_rate(config, step, 250) for step in range(250)]
    assert rates[4:100] == [1.0] * 96
    assert rates[100:200] == [0.25] * 100
    assert rates[200:] == [0.0625] * 50


def test_exponential_is_a_factor_per_epoch():
    """0.975 per epoch for 100 epochs, as published recipes say it, ends at 0.975**100."""
    config = OptimizerConfig(lr=1.0, schedule='exponential', warmup_steps=0, final_lr_ratio=0.975**100)
    assert [learning_rate(config, 30 * epoch, 3000) for epoch in (1, 2, 60)] == pytest.approx(
        [0.975, 0.975**2, 0.975**60]
    )


def test_a_run_shorter_than_its_warm_up_only_rises():
    config = OptimizerConfig(lr=1.0, warmup_steps=200)
    assert [learning_rate(config, step, 2) for step in range(2)] == pytest.approx([0.005, 0.01])
    assert learning_rate(OptimizerConfig(lr=1.0, warmup_steps=0), 0, 1) == 1.0


# Nesterov's first step goes 1 + momentum times as far.
@pytest.mark.parametrize(('name', 'reach'), [('adamw', 1.0), ('sgd', 1.9)])
def test_norms_and_biases_do_not_decay(name: str, reach: float):
    model = small()
    optimizer = create_optimizer(model, OptimizerConfig(name=name, lr=0.5, weight_decay=0.1))
    decay = {id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']}
    assert {n: decay[id(p)] for n, p in model.named_parameters()} == {
        'body.0.weight': 0.1, 'body.0.bias': 0.0, 'body.1.weight': 0.0, 'body.1.bias': 0.0,
        'head.0.weight': 0.1, 'head.0.bias': 0.0, 'head.1.weight': 0.0, 'head.1.bias': 0.0,
    }  # fmt: skip
    set_learning_rate(optimizer, 0.25)
    assert [group['lr'] for group in optimizer.param_groups] == [0.25, 0.25]
    # One step without gradients but with decay: weights shrink by lr x decay, nothing else moves.
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for n, parameter in model.named_parameters():
        factor = 1 - 0.25 * 0.1 * reach if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), before[n] * factor)


def test_adam_decays_through_its_gradient():
    """Without decay both are the same; with it, Adam's first step goes lr far wherever the decay pulls at all."""
    for decay, moved in ((0.0, 0.0), (1e-3, 0.5)):
        model = small()
        before = model.get_parameter('head.0.weight').detach().clone()
        optimizer = create_optimizer(model, OptimizerConfig(name='adam', lr=0.5, weight_decay=decay))
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        after = model.get_parameter('head.0.weight').detach()
        torch.testing.assert_close(after, before - moved * before.sign(), atol=1e-3, rtol=1e-3)


def test_sgd_without_momentum():
    optimizer = create_optimizer(small(), OptimizerConfig(name='sgd', momentum=0.0))
    assert (optimizer.param_groups[0]['nesterov'], optimizer.param_groups[0]['momentum']) == (False, 0.0)
    assert create_optimizer(small(), OptimizerConfig(name='sgd')).param_groups[0]['nesterov'] is True


def test_frozen_parts_are_not_optimized():
    model = small()
    freeze_parts(model, ('body',))
    given = {id(p) for group in create_optimizer(model, OptimizerConfig()).param_groups for p in group['params']}
    assert given == {id(p) for p in model.get_submodule('head').parameters()}


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (('tail',), "freeze: the model has no part 'tail'; its parts are: body, head"),
        (('',), "no part ''"),
        (('body', 'head'), 'freeze: nothing is left to train without body, head'),
    ],
)
def test_freezing_what_cannot_be_frozen(parts: tuple[str, ...], message: str):
    with pytest.raises(ConfigError) as error:
        freeze_parts(small(), parts)
    assert message in str(error.value)


def test_frozen_parts_keep_their_statistics():
    model = small()
    freeze_parts(model, ('body', 'head.1'))
    model.eval()
    train_mode(model, ('body', 'head.1'))
    modes = {name: module.training for name, module in model.named_modules()}
    assert modes == {
        '': True, 'body': False, 'body.0': False, 'body.1': False, 'head': True, 'head.0': True, 'head.1': False,
    }  # fmt: skip
    train_mode(model, ('body',))
    model(torch.randn(2, 3, 8, 8) + 5)
    body, head = model.get_submodule('body.1'), model.get_submodule('head.1')
    assert body.running_mean.tolist() == [0.0] * 4
    assert int(body.num_batches_tracked) == 0
    assert int(head.num_batches_tracked) == 1
    assert head.running_mean.abs().min() > 0


def test_average_by_hand():
    model = nn.Sequential(nn.BatchNorm1d(1))
    norm = model[0]
    average = create_average(model, decay=0.25)
    kept = average.module[0]
    assert not average.training
    assert not kept.training

    def update(weight: float, mean: float, count: int) -> list[float]:
        with torch.no_grad():
            norm.weight.fill_(weight)
            norm.running_mean.fill_(mean)
            norm.num_batches_tracked.fill_(count)
        average.update_parameters(model)
        assert int(kept.num_batches_tracked) == count
        return [kept.weight.item(), kept.running_mean.item()]

    # The first is a copy; then decay 2/11 after one step, 3/12 after two, and the limit 0.25 from there on.
    assert update(1.0, 10.0, 1) == pytest.approx([1.0, 10.0])
    second = update(2.0, 20.0, 2)
    assert second == pytest.approx([1 + 9 / 11, 10 + 90 / 11])
    third = update(4.0, 40.0, 3)
    assert third == pytest.approx([second[0] * 0.25 + 3, second[1] * 0.25 + 30])
    assert update(0.0, 0.0, 7) == pytest.approx([third[0] * 0.25, third[1] * 0.25])  # not 4/13
    assert kept.weight.data_ptr() != norm.weight.data_ptr()


def test_no_average_is_the_newest_weights():
    model = nn.Sequential(nn.Linear(2, 2))
    average = create_average(model, decay=0.0)
    for value in (1.0, 2.0, 3.0):
        with torch.no_grad():
            model[0].weight.fill_(value)
        average.update_parameters(model)
        assert average.module[0].weight.tolist() == [[value] * 2] * 2
