from __future__ import annotations

import math

import pytest
import torch
from efficientnet_pytorch import EfficientNet
from torch import nn
from torch.nn import functional as F

from sembox_ros.models.encoders.efficientnet import NAMES, TORCHVISION_PREFIX, EfficientNetEncoder, SamePadConv

# Channels of c1..c5: width coefficients 1.0, 1.0, 1.1, ... 2.0 of the paper on 16, 24, 40, 112 and 320.
CHANNELS = {
    'efficientnet-b0': (16, 24, 40, 112, 320),
    'efficientnet-b1': (16, 24, 40, 112, 320),
    'efficientnet-b2': (16, 24, 48, 120, 352),
    'efficientnet-b3': (24, 32, 48, 136, 384),
    'efficientnet-b4': (24, 32, 56, 160, 448),
    'efficientnet-b5': (24, 40, 64, 176, 512),
    'efficientnet-b6': (32, 40, 72, 200, 576),
    'efficientnet-b7': (32, 48, 80, 224, 640),
}


def tensorflow_same(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    """TensorFlow's SAME rule, spelled out for one dimension after the other."""
    pads: list[int] = []
    for axis in (1, 0):  # F.pad takes the last dimension first
        size, kernel, stride = x.shape[2 + axis], conv.kernel_size[axis], conv.stride[axis]
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), conv.weight, conv.bias, stride=conv.stride, groups=conv.groups)


@pytest.mark.parametrize('kernel', [3, 5])
@pytest.mark.parametrize('size_hw', [(8, 8), (12, 6), (2, 64)])
@pytest.mark.parametrize('groups', [1, 4])
def test_same_pad_conv_is_tensorflow_same(kernel: int, size_hw: tuple[int, int], groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, kernel, stride=2, groups=groups, bias=groups == 1)
    x = torch.randn(2, 4, *size_hw)
    torch.testing.assert_close(SamePadConv(conv)(x), tensorflow_same(x, conv))


@pytest.mark.parametrize('name', ['efficientnet-b0', 'efficientnet-b1'])
def test_features_equal_the_librarys_own(name: str) -> None:
    """The swapped layers compute what the library computes with its run-time padding."""
    torch.manual_seed(0)
    encoder = EfficientNetEncoder(name).eval()
    torch.manual_seed(0)  # the encoder draws the library's weights first
    library = EfficientNet.from_name(name, image_size=None, include_top=False).eval()
    images = torch.randn(1, 3, 128, 192)
    with torch.no_grad():
        features = encoder(images)
        points = library.extract_endpoints(images)
    for level, feature in enumerate(features, start=1):
        expected = points[f'reduction_{level}']
        assert expected.std() > 0
        torch.testing.assert_close(feature, expected, rtol=1e-3, atol=float(1e-4 * expected.abs().max()))


@pytest.mark.parametrize('name', NAMES)
def test_channels_and_strides(name: str) -> None:
    with torch.device('meta'):
        encoder = EfficientNetEncoder(name)
        features = encoder(torch.empty(2, 3, 128, 256))
    assert encoder.channels == CHANNELS[name.removeprefix(TORCHVISION_PREFIX)]
    assert [tuple(f.shape) for f in features] == [
        (2, channels, 128 // stride, 256 // stride)
        for channels, stride in zip(CHANNELS[name.removeprefix(TORCHVISION_PREFIX)], (2, 4, 8, 16, 32), strict=True)
    ]


def test_nothing_of_the_librarys_run_time_padding_remains() -> None:
    with torch.device('meta'):
        encoder = EfficientNetEncoder('efficientnet-b0')
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    assert {type(m) for m in convolutions} == {nn.Conv2d}
    assert not [m for m in encoder.modules() if 'Swish' in type(m).__name__]


def test_stochastic_depth_acts_in_training_only() -> None:
    torch.manual_seed(0)
    encoder = EfficientNetEncoder('efficientnet-b0')
    assert encoder.drop_connect_rate == pytest.approx(0.2)
    images = torch.randn(2, 3, 128, 128)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0  # what differs is then stochastic depth alone
    with torch.no_grad():
        trained = [encoder.train()(images)[-1] for _ in range(2)]
        evaluated = [encoder.eval()(images)[-1] for _ in range(2)]
    assert not torch.equal(*trained)
    assert torch.equal(*evaluated)


def test_cut_encoder_gives_the_first_maps_with_fewer_weights() -> None:
    torch.manual_seed(0)
    encoder = EfficientNetEncoder('efficientnet-b0').eval()
    images, before = torch.randn(1, 3, 64, 64), sum(p.numel() for p in encoder.parameters())
    with torch.no_grad():
        whole = encoder(images)
        encoder.cut(2)
        cut = encoder.run(images, range(2))
    assert all(torch.equal(a, b) for a, b in zip(whole, cut, strict=False))
    assert sum(p.numel() for p in encoder.parameters()) < before / 10
