"""Quantisation-aware training: a network whose weights and activations are rounded as int8 files round them.

It is torchao's, on a graph that torch.export captures of the folded network: batch norms are part of the convolutions
from the start ("static folding", which Nagel et al. 2021, section 4.2, find as good as anything that keeps them).
Weights have 8 bits per channel, symmetric, activations 8 bits per tensor with a zero point: what CPUs multiply.

What reads the network's input and what writes its outputs stays in float32 there: images and flow have small
differences beside large ones, and so have logits and depths.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from sembox_ros.config import INPUT_CHANNELS, SIZE_DIVISOR, ModelConfig
from sembox_ros.errors import CheckpointError, ConfigError
from sembox_ros.models.folding import fold
from sembox_ros.models.segmentation import SegmentationNet
from sembox_ros.models.sembox import NetworkOutput

_talk = logging.getLogger('torch.utils._pytree')  # of torchao's ways, with torch 2.14
_level = _talk.level
_talk.setLevel(logging.ERROR)
try:
    from torchao.quantization import pt2e
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer
except ImportError as error:  # whoever imports this module wants nothing else of it
    raise ConfigError(f'{error.name} is not installed, which quantisation needs: pip install torchao') from error
finally:
    _talk.setLevel(_level)

OBSERVER_SHARE = 0.01  # of each step's extremes in the moving averages that become the ranges
EXAMPLE_SHAPE = (2, 2 * SIZE_DIVISOR, 3 * SIZE_DIVISOR)  # traced with: no number that could be taken for another

ACTIVATION = QuantizationSpec(
    dtype=torch.uint8, quant_min=0, quant_max=255, qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=pt2e.FakeQuantize.with_args(
        observer=pt2e.MovingAverageMinMaxObserver, averaging_constant=OBSERVER_SHARE
    ),
)  # fmt: skip
WEIGHT = QuantizationSpec(
    dtype=torch.int8, quant_min=-127, quant_max=127, qscheme=torch.per_channel_symmetric, ch_axis=0,
    observer_or_fake_quant_ctr=pt2e.FakeQuantize.with_args(
        observer=pt2e.MovingAveragePerChannelMinMaxObserver, averaging_constant=1.0  # the weights as they are
    ),
)  # fmt: skip

_aten = torch.ops.aten
CONVOLUTION = _aten.conv2d.default
QUANTIZED = (CONVOLUTION, _aten.add.Tensor, _aten.cat.default, _aten.upsample_bilinear2d.vec, _aten.max_pool2d.default)
# Part of the operation before them: what is between is never written to memory.
ACTIVATIONS = tuple(
    getattr(_aten, name).default for name in ('relu', 'relu_', 'hardtanh', 'hardtanh_', 'silu', 'silu_')
)


class Int8Quantizer(Quantizer):
    """Which tensors of a captured network are rounded."""

    def annotate(self, model: GraphModule) -> GraphModule:
        """Say it at each node, for torchao."""
        exact = _of_input(model)
        for node in model.graph.nodes:
            if node.target not in QUANTIZED:
                continue
            inputs = {}
            if node.target is CONVOLUTION and node not in exact:
                inputs = {node.args[0]: ACTIVATION, node.args[1]: WEIGHT}
            users = list(node.users)
            last = users[0] if len(users) == 1 and users[0].target in ACTIVATIONS else node
            rounded = None if any(user.op == 'output' for user in last.users) else ACTIVATION
            if last is not node:
                last.meta['quantization_annotation'] = QuantizationAnnotation(output_qspec=rounded, _annotated=True)
                rounded = None
            node.meta['quantization_annotation'] = QuantizationAnnotation(inputs, rounded, _annotated=True)
        return model

    def validate(self, model: GraphModule) -> None:
        """Any network will do."""


class FakeQuantized(nn.Module):
    """A folded network that rounds as int8 would and passes gradients as if it did not.

    Gives what the network itself gives. The weights' ranges are always those of the weights; the activations' are
    moving averages, taken in training mode while `observing`.

    Args:
        network: left as it is.
        config: its configuration.

    Attributes:
        observing: whether training moves the ranges of the activations.
    """

    def __init__(self, network: SegmentationNet, config: ModelConfig) -> None:
        super().__init__()
        self.observing = True
        self.stride = network.stride
        self.graph = prepare_qat_pt2e(_capture(fold(network), config), Int8Quantizer())
        self._activations: dict[str, pt2e.FakeQuantize] = {}
        for node, rounding in _roundings(self.graph):
            (source,) = node.all_input_nodes
            if source.op == 'get_attr':
                rounding(self.graph.get_parameter(source.target))  # fixes the shapes of its state
            else:
                self._activations[_unique(_name(source), self._activations)] = rounding
        self.requires_grad_(True)

    def forward(self, images: Tensor) -> NetworkOutput:
        """See `SegmentationNet.forward`."""
        observes = self.training and self.observing
        for rounding in self._activations.values():
            rounding.enable_observer(observes)
            if not observes:  # averages of scales and zero points would not belong together; those of ranges do
                scale, zero_point = rounding.calculate_qparams()
                rounding.scale.copy_(scale)
                rounding.zero_point.copy_(zero_point)
        output = self.graph(images)
        return NetworkOutput._make(None if part is None else part.contiguous() for part in output)

    def train(self, mode: bool = True) -> FakeQuantized:
        """Start or stop observing; the captured graph itself is the same in both modes, without dropout."""
        self.training = mode
        return self

    def semantic_sizes(self, logits_hw: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """See `SegmentationNet.semantic_sizes`."""
        return SegmentationNet.semantic_sizes(self, logits_hw)  # type: ignore[arg-type]

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of each activation that is rounded, by its place in the network."""
        observers = {name: rounding.activation_post_process for name, rounding in self._activations.items()}
        return {name: (float(seen.min_val), float(seen.max_val)) for name, seen in observers.items()}

    def set_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Take over what `ranges` gave.

        Raises:
            CheckpointError: they are those of another network.
        """
        different = sorted(ranges.keys() ^ self._activations.keys())
        if different:
            raise CheckpointError(
                f'quantization: expected ranges of the {len(self._activations)} activations of this network, got '
                f'{len(ranges)}; {len(different)} differ, the first is {different[0]}; train it anew'
            )
        for name, (low, high) in ranges.items():
            observer = self._activations[name].activation_post_process
            observer.min_val.fill_(low)
            observer.max_val.fill_(high)

    def folded_state(self) -> dict[str, Tensor]:
        """Weights and biases before they are rounded, under the names that they have in the folded network."""
        return {name: parameter.detach() for name, parameter in self.graph.named_parameters()}

    def converted(self) -> FakeQuantized:
        """A copy with int8 weights and explicit conversions in the place of roundings, for export alone."""
        result = copy.deepcopy(self).eval()
        result.graph = convert_pt2e(result.graph)
        result._activations = {}
        return result


def _capture(network: nn.Module, config: ModelConfig) -> GraphModule:
    """The graph of a folded network, for any number of images and any canvas; parameters keep their names."""
    count, height, width = EXAMPLE_SHAPE
    example = torch.zeros(count, sum(INPUT_CHANNELS[name] for name in config.inputs), height, width)
    sides = [SIZE_DIVISOR * torch.export.Dim(name, min=1, max=64) for name in ('rows', 'columns')]
    shapes = {0: torch.export.Dim('batch', min=1), 2: sides[0], 3: sides[1]}
    captured = torch.export.export(network, (example,), dynamic_shapes=(shapes,)).module(check_guards=False)
    assert isinstance(captured, GraphModule)
    for node in list(captured.graph.nodes):
        if node.target is _aten.feature_dropout.default:  # nothing in evaluation, and not to be rounded twice
            node.replace_all_uses_with(node.args[0])
            captured.graph.erase_node(node)
    captured.recompile()
    return captured


def _of_input(model: GraphModule) -> set[Node]:
    """The convolutions that read the network's input, and what lies before them."""
    found: set[Node] = set()
    for node in model.graph.nodes:
        above = node.all_input_nodes
        before = any(parent in found and parent.target is not CONVOLUTION for parent in above)
        if node.op == 'placeholder' or before:
            found.add(node)
    return found


def _roundings(model: GraphModule) -> Iterator[tuple[Node, pt2e.FakeQuantize]]:
    """The nodes that round, in order."""
    for node in model.graph.nodes:
        module = model.get_submodule(node.target) if node.op == 'call_module' else None
        if isinstance(module, pt2e.FakeQuantize):
            yield node, module


def _name(node: Node) -> str:
    """Where in the network a tensor is made, and by what, such as encoder.stages.0.0.2/relu."""
    stack = list(node.meta.get('nn_module_stack', {}).values())
    operation = getattr(node.target, '_opname', node.name).removesuffix('_')
    return f'{stack[-1][0] if stack else ""}/{operation}'


def _unique(name: str, known: Mapping[str, object]) -> str:
    """The name, numbered if it is known already."""
    count = 2
    while name in known:
        name = f'{name.partition(":")[0]}:{count}'
        count += 1
    return name
