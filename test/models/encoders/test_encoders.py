"""What every encoder must do, and what each takes from its library."""

from __future__ import annotations

import pytest
import torch
import torchvision

from sembox_ros.errors import ConfigError
from sembox_ros.models.encoders import ENCODERS, create_encoder

SHAPES = {
    'mobilenetv2': ((2, 4, 8, 16, 32), (16, 24, 32, 96, 320), 1),
    'mobilenetv2-s16': ((2, 4, 8, 16), (16, 24, 32, 320), 1),
    'mobilenetv2-1.4': ((2, 4, 8, 16, 32), (24, 32, 48, 136, 448), 1),
    'mobilenetv2-1.4-s16': ((2, 4, 8, 16), (24, 32, 48, 448), 1),
    'fd-mobilenetv2': ((4, 8, 16, 32, 64), (16, 24, 32, 96, 320), 1),
    'regnetx-400mf': ((2, 4, 8, 16, 32), (32, 32, 64, 160, 400), 16),
    'regnetx-800mf': ((2, 4, 8, 16, 32), (32, 64, 128, 288, 672), 16),
    'regnetx-1.6gf': ((2, 4, 8, 16, 32), (32, 72, 168, 408, 912), 24),
    'regnetx-3.2gf': ((2, 4, 8, 16, 32), (32, 96, 192, 432, 1008), 48),
    'resnext50-32x4d': ((2, 4, 8, 16, 32), (64, 256, 512, 1024, 2048), 1),
    'efficientnet-b0': ((2, 4, 8, 16, 32), (16, 24, 40, 112, 320), 1),
}


@pytest.mark.parametrize('name', SHAPES)
def test_strides_channels_and_groups(name: str) -> None:
    encoder = create_encoder(name)
    assert (encoder.strides, encoder.channels, encoder.group_width) == SHAPES[name]


@pytest.mark.parametrize('channels', [2, 3])
@pytest.mark.parametrize('name', ENCODERS)
def test_features_are_what_the_encoder_says(name: str, channels: int) -> None:
    with torch.device('meta'):
        encoder = create_encoder(name, channels)
        features = encoder(torch.empty(2, channels, 128, 256))
    assert [tuple(f.shape) for f in features] == [
        (2, count, 128 // stride, 256 // stride)
        for count, stride in zip(encoder.channels, encoder.strides, strict=True)
    ]


@pytest.mark.parametrize('name', ['mobilenetv2', 'regnetx-400mf', 'resnext50-32x4d'])
def test_a_cut_encoder_gives_the_first_maps(name: str) -> None:
    torch.manual_seed(0)
    encoder, images = create_encoder(name).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        whole = encoder(images)
        encoder.cut(2)
        assert all(torch.equal(a, b) for a, b in zip(whole, encoder.run(images, range(2)), strict=False))
    assert len(encoder.stages) == 2


@pytest.mark.parametrize(
    ('name', 'library', 'last'),
    [
        ('mobilenetv2', lambda: torchvision.models.mobilenet_v2(weights=None), lambda net, x: net.features[:-1](x)),
        (
            'regnetx-400mf',
            lambda: torchvision.models.regnet_x_400mf(weights=None),
            lambda net, x: net.trunk_output(net.stem(x)),
        ),
    ],
)
def test_the_last_map_is_the_librarys(name: str, library: object, last: object) -> None:
    torch.manual_seed(0)
    ours = create_encoder(name).eval()
    torch.manual_seed(0)
    theirs, images = library().eval(), torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = last(theirs, images)
        assert expected.std() > 0
        torch.testing.assert_close(ours(images)[-1], expected)


def test_unknown_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder: .*'efficientnet-b8' \(did you mean efficientnet-b\d\?\)"):
        create_encoder('efficientnet-b8')
