"""The network that rounds, by what it computes; how it is trained is in test/training/test_quantized.py."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor

from sembox_ros.errors import CheckpointError
from sembox_ros.models.checkpoint import Checkpoint
from sembox_ros.models.folding import fold, load_folded
from sembox_ros.models.quantization import FakeQuantized
from sembox_ros.models.segmentation import create_segmentation
from sembox_ros.models.zoo import MODELS, create_model

BATCH = (2, 3, 128, 256)


def noise(seed: int, channels: int = 3) -> Tensor:
    """Images with large and small structures."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(2, channels, 8, 16, generator=generator).repeat_interleave(16, 2).repeat_interleave(16, 3)
    return coarse + torch.randn(2, channels, 128, 256, generator=generator) / 2


@pytest.fixture(scope='module')
def network(tiny_lite: Checkpoint) -> FakeQuantized:
    """With ranges of two batches."""
    rounding = FakeQuantized(tiny_lite.model, tiny_lite.config)
    with torch.no_grad():
        for seed in (0, 1):
            rounding.train()(noise(seed))
    return rounding.eval()


@torch.no_grad()
def test_it_gives_what_the_network_gives_but_for_the_rounding(network: FakeQuantized, tiny_lite: Checkpoint) -> None:
    images = noise(0).to(memory_format=torch.channels_last)
    rounded, exact = network(images), tiny_lite.model(images)
    assert type(rounded) is type(exact)
    assert [name for name, part in rounded._asdict().items() if part is not None] == ['semantic_logits']
    logits, wanted = rounded.semantic_logits, exact.semantic_logits
    assert logits.shape == wanted.shape
    assert logits.is_contiguous()
    error = float((logits - wanted).norm() / wanted.norm())
    assert 1e-3 < error < 0.4  # random weights amplify what the seventy layers round
    assert network.semantic_sizes((4, 8)) == tiny_lite.model.semantic_sizes((4, 8))


@torch.no_grad()
def test_weights_have_eight_bits_but_those_that_read_the_input(network: FakeQuantized) -> None:
    taken = {}
    rounded = [m for m in network.graph.modules() if type(m).__name__ == 'FakeQuantize']
    for rounding in rounded:
        rounding.register_forward_hook(lambda module, given, result: taken.update({module: (given[0], result)}))
    network(noise(0))
    for rounding in rounded:
        rounding._forward_hooks.clear()
    parameters = {id(p): name for name, p in network.graph.named_parameters()}
    weights = {parameters[id(given)]: result for given, result in taken.values() if id(given) in parameters}
    everything = {name for name in network.folded_state() if name.endswith('.weight')}
    assert everything - weights.keys() == {'encoder.stages.0.0.0.weight'}
    for name, tensor in weights.items():
        assert max(len(channel.unique()) for channel in tensor.flatten(1)) <= 255, name
    activations = [result for given, result in taken.values() if id(given) not in parameters]
    assert len(activations) == len(network.ranges())
    assert max(len(tensor.unique()) for tensor in activations) <= 256


def test_ranges_move_in_training_while_it_observes(network: FakeQuantized) -> None:
    network = copy.deepcopy(network)
    first = network.ranges()
    assert {'encoder.stages.0.0.2/hardtanh', 'decoders.semantic.aspp/cat', 'decoders.semantic/add:2'} <= first.keys()
    assert first['encoder.stages.0.0.2/hardtanh'][0] == 0
    assert not any(name.startswith('decoders.semantic.predict.3') for name in first)  # the logits
    with torch.no_grad():
        network.eval()(2 * noise(3))
        network.train().observing = False
        network(2 * noise(3))
        assert network.ranges() == first
        network.observing = True
        network(2 * noise(3))
    moved = network.ranges()
    assert sum(moved[name] != first[name] for name in first) > len(first) / 2


def test_gradients_reach_every_weight(network: FakeQuantized) -> None:
    network = copy.deepcopy(network).train()
    network(noise(4)).semantic_logits.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    network.zero_grad()


@torch.no_grad()
def test_weights_and_ranges_are_all_there_is(network: FakeQuantized, tiny_lite: Checkpoint) -> None:
    """The way of a checkpoint: a plain network and a table of ranges give the same numbers, bit for bit."""
    model = create_model(tiny_lite.config, seed=9).eval()
    load_folded(model, network.folded_state())
    again = FakeQuantized(model, tiny_lite.config).eval()
    again.set_ranges(network.ranges())
    assert torch.equal(again(noise(5)).semantic_logits, network(noise(5)).semantic_logits)
    plain = fold(model).state_dict()
    assert all(torch.equal(plain[name], tensor) for name, tensor in network.folded_state().items())


@torch.no_grad()
def test_int8_arithmetic_is_what_was_trained(network: FakeQuantized) -> None:
    converted = network.converted()
    stored = [tensor for tensor in converted.state_dict().values() if tensor.dtype == torch.int8 and tensor.ndim == 4]
    assert len(stored) > 60
    difference = converted(noise(6)).semantic_logits - network(noise(6)).semantic_logits
    assert float(difference.abs().mean()) < 1e-3


@torch.no_grad()
def test_inputs_and_tasks_in_any_number(network: FakeQuantized) -> None:
    config = dataclasses.replace(
        MODELS['mobilenetv2_s16_multitask'].config, encoder='regnetx-400mf', decoder='fpn_lite', decoder_channels=16
    )
    rounding = FakeQuantized(create_segmentation(config).eval(), config)
    output = rounding.train()(noise(7, channels=5))
    given = [name for name, part in output._asdict().items() if part is not None]
    assert given == ['semantic_logits', 'log_depth', 'motion_logits']
    # What fuses the inputs is rounded, what reads them is not.
    assert 'encoder/cat' in rounding.ranges()
    with pytest.raises(CheckpointError, match=r'expected ranges of the \d+ activations of this network, got \d+'):
        rounding.set_ranges(network.ranges())
