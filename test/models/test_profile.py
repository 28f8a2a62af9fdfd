from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sembox_ros.config import ModelConfig
from sembox_ros.errors import ConfigError, InputError
from sembox_ros.models import profile
from sembox_ros.models.profile import profile_model
from sembox_ros.models.zoo import MODELS, create_model
from sembox_ros.ops.anchors import create_anchors


class TwoConvs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.depthwise(self.dense(images))


def test_multiply_adds_of_known_convolutions_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, 'create_model', lambda _config: TwoConvs())
    dense, depthwise = profile_model(ModelConfig(), (128, 256))
    assert dense.multiply_adds == (64 * 128) * 8 * (3 * 3 * 3)
    assert dense.parameters == 8 * 3 * 3 * 3 + 8
    assert dense.outputs == ((8, 64, 128),)
    assert depthwise.multiply_adds == (64 * 128) * 8 * (5 * 5)
    assert depthwise.parameters == 8 * 5 * 5


# One of each kind.
@pytest.mark.parametrize(
    'name',
    ['sembox_b0', 'sembox_b1_solo', 'semanticboxnet_v1', 'efficientdet_d0', 'efficientdet_seg_d0',
     'fd_mobilenetv2_fpn_lite', 'mobilenetv2_s16_multitask', 'resnext50_unet_residual'],
)  # fmt: skip
def test_parameters_of_the_parts_are_all_there_are(name: str) -> None:
    config = MODELS[name].config
    with torch.device('meta'):
        model = create_model(config)
    assert sum(part.parameters for part in profile_model(config, MODELS[name].input.size_hw)) == sum(
        p.numel() for p in model.parameters()
    )


def test_parts_and_their_shapes() -> None:
    parts = {part.name: part for part in profile_model(MODELS['sembox_b1'].config, (256, 384))}
    assert list(parts) == ['encoder', 'box_neck', 'semantic_neck', 'box_head', 'semantic_head']
    assert parts['encoder'].outputs == ((16, 128, 192), (24, 64, 96), (40, 32, 48), (112, 16, 24), (320, 8, 12))
    assert parts['box_neck'].outputs == tuple((88, 256 // s, 384 // s) for s in (8, 16, 32, 64, 128))
    anchors = len(create_anchors((256, 384)))
    assert parts['box_head'].outputs == ((anchors, 90), (anchors, 4))
    assert parts['semantic_head'].outputs == ((19, 64, 96),)
    assert all(part.multiply_adds > 0 for part in parts.values())


def test_multiply_adds_grow_with_the_area() -> None:
    small, large = (profile_model(MODELS['sembox_b0'].config, size) for size in ((128, 128), (256, 512)))
    for part, larger in zip(small, large, strict=True):
        # Squeeze and excitation works on one pixel, whatever the size; all else grows eightfold.
        assert larger.multiply_adds == pytest.approx(8 * part.multiply_adds, rel=0.05)


def test_wrong_size_and_wrong_model_are_refused() -> None:
    with pytest.raises(InputError, match='100x128'):
        profile_model(MODELS['sembox_b0'].config, (100, 128))
    with pytest.raises(ConfigError, match='nonesuch'):
        profile_model(ModelConfig(name='nonesuch'), (128, 128))
