from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn

from sembox_ros.models.bifpn import FoldedFusion, Fusion
from sembox_ros.models.box_head import LevelSharedHead
from sembox_ros.models.encoders.efficientnet import SamePadConv
from sembox_ros.models.folding import fold, fuse_norm, load_folded, merge_convolutions
from sembox_ros.models.layers import ConvNorm, SeparableConv
from sembox_ros.models.profile import profile_model
from sembox_ros.models.sembox import resize_maps
from sembox_ros.models.zoo import MODELS, create_model

pytest.register_assert_rewrite('contract')
from contract import create_subject, given, noise  # noqa: E402  (asserts explain themselves only if told before)

SMALL_D7 = dataclasses.replace(
    MODELS['efficientdet_d7'].config, encoder='efficientnet-b0', neck_channels=32, neck_cells=2, box_head_depth=2
)
NARROW_V1 = dataclasses.replace(
    MODELS['semanticboxnet_v1'].config, encoder='efficientnet-b0', neck_channels=32, semantic_channels=16
)
# Every architecture with numbers; every model's structure is checked without them below.
SUBJECTS = {
    **{name: MODELS[name].config for name in ('sembox_b0', 'sembox_b1', 'efficientdet_d0')},
    'sembox_b1-shared_neck': dataclasses.replace(MODELS['sembox_b1'].config, separate_semantic_neck=False),
    'efficientdet_d7-small': SMALL_D7,
    'semanticboxnet_v1-narrow': NARROW_V1,
}


def randomized(module: nn.Module) -> nn.Module:
    """The module in evaluation mode with statistics and factors that make a forgotten or misplaced norm show."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.running_var, part.weight):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 2, generator=generator)
            for tensor in (part.running_mean, part.bias):
                if tensor is not None:
                    tensor.data.normal_(generator=generator)
    return module.eval()


def norms_of(model: nn.Module) -> list[str]:
    return [name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)]


@torch.no_grad()
def relative_difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max() / first.abs().max())


@pytest.mark.parametrize('name', SUBJECTS)
def test_folded_network_computes_the_same(name: str) -> None:
    model = create_subject(SUBJECTS[name]).model
    before = copy.deepcopy(model.state_dict())
    folded = fold(model)
    assert norms_of(folded) == []
    images = noise(1, 3, *getattr(model, 'canvas_hw', (256, 384)))
    with torch.inference_mode():
        outputs, expected = (given(resize_maps(model, network(images))) for network in (folded, model))
    for got, wanted in zip(outputs, expected, strict=True):
        assert relative_difference(wanted, got) < 1e-4
    if len(expected) == 3:
        best, second = expected[2].topk(2, dim=1).values.unbind(1)
        certain = best - second > 2e-4 * expected[2].abs().max()
        assert torch.equal(outputs[2].argmax(1)[certain], expected[2].argmax(1)[certain])
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize('name', MODELS)
def test_every_model_folds(name: str) -> None:
    with torch.device('meta'):
        folded = fold(create_model(MODELS[name].config))
    assert norms_of(folded) == []


@pytest.mark.parametrize('name', ['sembox_b0', 'efficientdet_d0', 'semanticboxnet_v1'])
def test_folded_model_costs_no_more(name: str) -> None:
    size_hw = MODELS[name].input.size_hw
    plain, cheaper = (
        sum(part.multiply_adds for part in profile_model(MODELS[name].config, size_hw, folded=flag))
        for flag in (False, True)
    )
    assert cheaper <= plain


def test_folding_again_changes_nothing() -> None:
    once = fold(randomized(create_model(SMALL_D7)))
    twice = fold(once)
    assert [(n, type(m)) for n, m in once.named_modules()] == [(n, type(m)) for n, m in twice.named_modules()]
    first, second = once.state_dict(), twice.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_copy_is_for_evaluation_and_the_model_stays_in_training() -> None:
    model = ConvNorm(3, 4).train()
    folded = fold(model)
    assert not any(part.training for part in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert all(part.training for part in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    'conv',
    [
        nn.Conv2d(4, 6, 3, bias=False),
        nn.Conv2d(4, 6, 1),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, 3, dilation=(1, 2), groups=2),
    ],
    ids=['plain', 'bias', 'stride', 'dilation_groups'],
)
@pytest.mark.parametrize('affine', [True, False])
def test_norm_folds_into_the_convolution_before_it(conv: nn.Conv2d, affine: bool) -> None:
    norm = randomized(nn.BatchNorm2d(6, eps=1e-3, affine=affine))
    module = nn.Sequential(conv, norm).eval()
    images = noise(2, 4, 9, 11)
    assert relative_difference(module(images), fold(module)(images)) < 1e-6
    assert relative_difference(module(images), fuse_norm(conv, norm)(images)) < 1e-6


def test_norms_without_a_convolution_right_before_them_stay() -> None:
    module = randomized(
        nn.Sequential(
            nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3))
        )
    )
    assert norms_of(fold(module)) == ['0', '3', '4.0']


def test_norm_of_the_batch_itself_stays() -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)).eval()
    assert norms_of(fold(module)) == ['1']


def test_convolution_that_two_norms_share_folds_into_each() -> None:
    conv = nn.Conv2d(3, 3, 1)
    module = randomized(nn.Sequential(nn.Sequential(conv, nn.BatchNorm2d(3)), nn.Sequential(conv, nn.BatchNorm2d(3))))
    images = noise(1, 3, 5, 5)
    folded = fold(module)
    assert norms_of(folded) == []
    assert relative_difference(module(images), folded(images)) < 1e-6


def test_named_pair_behind_a_padding_folds() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._bn1 = nn.BatchNorm2d(4)
            self._depthwise_conv = SamePadConv(nn.Conv2d(4, 4, 3, stride=2, groups=4, bias=False))

        def forward(self, images: Tensor) -> Tensor:
            return self._bn1(self._depthwise_conv(images))

    block = randomized(Block())
    folded = fold(block)
    assert norms_of(folded) == []
    assert relative_difference(block(noise(1, 4, 8, 8)), folded(noise(1, 4, 8, 8))) < 1e-6


def test_depthwise_and_pointwise_stay_apart() -> None:
    folded = fold(SeparableConv(8, 8))
    assert [m.kernel_size for m in folded.modules() if isinstance(m, nn.Conv2d)] == [(3, 3), (1, 1)]


def test_fusion_weights_are_normalised_once() -> None:
    fusion = Fusion(3, 8).eval()
    fusion.weight.data = torch.tensor([0.5, -1.0, 2.0])
    folded = fold(fusion)
    assert isinstance(folded, FoldedFusion)
    assert folded.weight.tolist() == pytest.approx([0.5 / 2.5001, 0.0, 2.0 / 2.5001])
    maps = [noise(1, 8, 4, 4, seed=i) for i in range(3)]
    assert relative_difference(fusion(*maps), folded(*maps)) < 1e-5


def test_level_norms_fold_into_each_level() -> None:
    head = randomized(LevelSharedHead(channels=8, outputs=4, depth=2, levels=3))
    pyramid = [noise(2, 8, size, size + 1, seed=size) for size in (8, 4, 2)]
    folded = fold(head)
    assert norms_of(folded) == []
    assert relative_difference(head(pyramid), folded(pyramid)) < 1e-5


@pytest.mark.parametrize('sizes', [(3, 3), (1, 3), (3, 1), (5, 2), ((1, 3), (4, 2))])
@pytest.mark.parametrize('biases', [(True, True), (False, True), (True, False), (False, False)])
def test_two_convolutions_become_one(
    sizes: tuple[int | tuple[int, int], int | tuple[int, int]], biases: tuple[bool, bool]
) -> None:
    first, second = nn.Conv2d(3, 5, sizes[0], bias=biases[0]), nn.Conv2d(5, 2, sizes[1], bias=biases[1])
    merged = merge_convolutions(first, second)
    images = noise(2, 3, 10, 12)
    expected = second(first(images))
    assert merged(images).shape == expected.shape
    assert relative_difference(expected, merged(images)) < 1e-5


@pytest.mark.parametrize(
    'second',
    [
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, stride=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.ReLU(),
    ],
)
def test_what_is_not_one_convolution_is_not_merged(second: nn.Module) -> None:
    with pytest.raises(ValueError, match='unpadded'):
        merge_convolutions(nn.Conv2d(4, 4, 1), second)
    with pytest.raises(ValueError, match='unpadded'):
        merge_convolutions(second, nn.Conv2d(4, 4, 1))


@pytest.mark.parametrize('encoder', ['mobilenetv2', 'efficientnet-b0', 'regnetx-400mf', 'resnext50-32x4d'])
def test_a_network_with_folded_weights_folds_to_them(encoder: str) -> None:
    config = dataclasses.replace(MODELS['mobilenetv2_unet_lite'].config, encoder=encoder, decoder_channels=16)
    folded = fold(randomized(create_model(config)))
    network = create_model(config, seed=1).eval()
    load_folded(network, folded.state_dict())
    again = fold(network).state_dict()
    for name, tensor in folded.state_dict().items():
        assert torch.equal(again[name], tensor), name
