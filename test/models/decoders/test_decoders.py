"""What every decoder must do behind every encoder that fits it."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from torch import nn

from sembox_ros.config import ModelConfig
from sembox_ros.errors import ConfigError
from sembox_ros.models.decoders import DECODERS, create_decoder
from sembox_ros.models.encoders import ENCODERS, create_encoder

# One of each set of strides and kind of convolutions.
SAMPLES = ('efficientnet-b0', 'mobilenetv2', 'mobilenetv2-s16', 'fd-mobilenetv2', 'regnetx-1.6gf', 'resnext50-32x4d')


def config_of(encoder: str, decoder: str) -> ModelConfig:
    return ModelConfig(name='any', encoder=encoder, decoder=decoder, box_head=False, neck_channels=32, neck_cells=1)


@pytest.mark.parametrize('encoder_name', SAMPLES)
@pytest.mark.parametrize('name', DECODERS)
def test_fits_or_says_what_does(name: str, encoder_name: str) -> None:
    with torch.device('meta'):
        encoder = create_encoder(encoder_name)
        features = encoder(torch.empty(1, 3, 256, 128))
        if not DECODERS[name].fits(encoder.strides):
            fitting = [other for other, kind in DECODERS.items() if kind.fits(encoder.strides)]
            words = f'{name} needs {DECODERS[name].needs}, {encoder_name} has .*go {", ".join(fitting)}$'
            with pytest.raises(ConfigError, match=words):
                create_decoder(encoder, 7, config_of(encoder_name, name))
            return
        decoder = create_decoder(encoder, 7, config_of(encoder_name, name)).eval()
        result = decoder(features)
    assert result.shape == (1, 7, 256 // decoder.stride, 128 // decoder.stride)


def test_every_encoder_fits_some_decoder() -> None:
    with torch.device('meta'):
        strides = {name: create_encoder(name).strides for name in ENCODERS}
    for name, found in strides.items():
        assert [kind for kind in DECODERS.values() if kind.fits(found)], name


def test_unknown_decoder_names_a_close_one() -> None:
    with torch.device('meta'):
        encoder = create_encoder('mobilenetv2')
    with pytest.raises(ConfigError, match=r"decoder: expected one of .*; got 'fpn_light' \(did you mean fpn_lite\?\)"):
        create_decoder(encoder, 7, config_of('mobilenetv2', 'fpn_light'))


@pytest.mark.parametrize('name', [name for name in DECODERS if name.endswith('_lite')])
@pytest.mark.parametrize(('encoder_name', 'width'), [('mobilenetv2', 1), ('regnetx-400mf', 16), ('regnetx-3.2gf', 48)])
def test_lite_convolutions_are_of_the_encoders_kind(name: str, encoder_name: str, width: int) -> None:
    config = dataclasses.replace(config_of(encoder_name, name), decoder_channels=288 if width == 48 else 256)
    with torch.device('meta'):
        decoder = create_decoder(create_encoder(encoder_name), 19, config)
    spatial = [m for m in decoder.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(spatial) >= 4
    for conv in spatial:
        assert conv.in_channels == conv.out_channels
        # Where the encoder's width does not divide the channels, a part of it does.
        assert width % (conv.in_channels // conv.groups) == 0
    if width == 1:
        assert all(conv.groups == conv.in_channels for conv in spatial)


@pytest.mark.parametrize('name', DECODERS)
def test_finest_features_matter(name: str) -> None:
    torch.manual_seed(0)
    encoder = create_encoder('mobilenetv2').eval()
    decoder = create_decoder(encoder, 3, config_of('mobilenetv2', name)).eval()
    features = [f.requires_grad_() for f in encoder(torch.randn(1, 3, 128, 128))]
    features = [f.detach().requires_grad_() for f in features]
    decoder(features).sum().backward()
    used = [index for index, f in enumerate(features) if f.grad is not None and f.grad.any()]
    assert used[-1] == len(features) - 1, 'the coarsest map is not used'
    assert used[0] <= 1, 'neither of the two finest maps is used'


def test_refusal_names_strides() -> None:
    assert all(re.search('stride|scale', kind.needs) for kind in DECODERS.values())
