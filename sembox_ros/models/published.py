"""What the projects whose networks are in the zoo publish about them: one table, for `list-models` and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Name -> what it is, and where its figures stand.
SOURCES: Mapping[str, str] = MappingProxyType(
    {
        'edgeailite': 'TI edgeailite, github.com/TexasInstruments/edgeai-torchvision, '
        'references/edgeailite/docs/semantic_segmentation.md',
        'multi-task': 'TI edgeailite, references/edgeailite/docs/multi_task_learning.md, vanilla training',
        'resnext50': 'github.com/gasparian/multiclass-semantic-segmentation, README.md',
        'efficientdet-seg': 'github.com/AlexeyVision/EfficientDet_Segmentation, README.md',
    }
)

# torchsummary adds up modules by the names that they are called under, and these UNets call their encoder's under two.
_RESNEXT50_ENCODER = 22_979_904


@dataclass(frozen=True)
class Published:
    """One published result of one network; what is not published is None.

    Attributes:
        model: name in `models.zoo.MODELS`.
        dataset: that the scores are of.
        classes: of the masks.
        size_hw: of the input.
        source: key of `SOURCES`.
        giga_macs: multiply-adds of one image, in units of 10**9.
        parameters: learned numbers, as published.
        counted_twice: how many of these the publisher counted twice.
        miou: mean IoU in percent.
        miou_qat: the same after quantisation-aware training for 8 bits.
        dice: mean Dice score in percent.
    """

    model: str
    dataset: str
    classes: int
    size_hw: tuple[int, int]
    source: str
    giga_macs: float | None = None
    parameters: int | None = None
    counted_twice: int = 0
    miou: float | None = None
    miou_qat: float | None = None
    dice: float | None = None


def _edgeailite(
    dataset: str, classes: int, *rows: tuple[str, tuple[int, int], float, float | None, float | None]
) -> tuple[Published, ...]:
    """Rows of (model, size, multiply-adds in 10**9, mIoU, mIoU after quantisation-aware training)."""
    return tuple(
        Published(model, dataset, classes, size_hw, 'edgeailite', giga_macs=macs, miou=miou, miou_qat=miou_qat)
        for model, size_hw, macs, miou, miou_qat in rows
    )


PUBLISHED: tuple[Published, ...] = (
    *_edgeailite(
        'Cityscapes',
        19,
        ('mobilenetv2_s16_deeplabv3plus_lite', (384, 768), 3.54, 69.13, 68.77),
        ('mobilenetv2_unet_lite', (384, 768), 2.20, 68.94, 68.18),
        ('mobilenetv2_fpn_lite', (384, 768), 3.84, 70.39, 69.88),
        ('mobilenetv2_fpn_lite', (768, 1536), 15.07, 74.61, None),
        ('fd_mobilenetv2_fpn_lite', (768, 1536), 3.96, 71.28, None),
        ('fd_mobilenetv2_fpn_lite', (1024, 2048), 7.03, 72.67, None),
        ('regnetx_400mf_fpn_lite', (384, 768), 6.09, 68.03, None),
        ('regnetx_400mf_fpn_lite', (768, 1536), 24.37, 73.96, None),
        ('regnetx_800mf_fpn_lite', (384, 768), 8.84, 72.01, None),
        ('regnetx_1p6gf_fpn_lite', (512, 1024), 24.29, 75.84, None),
        ('regnetx_3p2gf_fpn_lite', (512, 1024), 49.40, 77.24, None),
        ('regnetx_3p2gf_fpn_lite', (768, 1536), 111.16, 78.90, None),
    ),
    *_edgeailite(
        'ADE20K-32',
        32,
        ('mobilenetv2_s16_deeplabv3plus_lite', (512, 512), 3.28, 51.01, None),
        ('mobilenetv2_unet_lite', (512, 512), 2.427, 49.95, None),
        ('mobilenetv2_fpn_lite', (512, 512), 3.481, 50.72, None),
        ('mobilenetv2_1p4_fpn_lite', (512, 512), 6.646, 52.93, None),
        ('regnetx_400mf_fpn_lite', (384, 384), 3.1526, 51.03, None),
        ('regnetx_800mf_fpn_lite', (512, 512), 8.0683, 53.29, None),
    ),
    *_edgeailite(
        'COCO-21',
        21,
        ('mobilenetv2_s16_deeplabv3plus_lite', (512, 512), 3.161, 57.77, None),
        ('mobilenetv2_unet_lite', (512, 512), 2.009, 57.01, None),
        ('mobilenetv2_fpn_lite', (512, 512), 3.357, None, None),
        ('regnetx_800mf_fpn_lite', (512, 512), 7.864, 61.15, None),
    ),
    Published(
        'mobilenetv2_s16_multitask', 'Cityscapes', 5, (384, 768), 'multi-task', giga_macs=5.71,
        miou=82.32,
    ),
    Published('resnext50_fpn', 'Cityscapes', 8, (512, 1024), 'resnext50', parameters=25_588_808, dice=93.1),
    Published('resnext50_fpn', 'Cityscapes road', 2, (512, 1024), 'resnext50', dice=95.6),
    Published('resnext50_fpn', 'Cityscapes', 20, (128, 256), 'resnext50', dice=85.8),
    Published(
        'resnext50_unet', 'Cityscapes', 8, (512, 1024), 'resnext50', parameters=81_091_464,
        counted_twice=_RESNEXT50_ENCODER, dice=92.9,
    ),
    Published('resnext50_unet', 'Cityscapes road', 2, (512, 1024), 'resnext50', dice=95.6),
    Published('resnext50_unet', 'Cityscapes', 20, (128, 256), 'resnext50', dice=85.2),
    Published(
        'resnext50_unet_residual', 'Cityscapes', 8, (512, 1024), 'resnext50', parameters=92_014_472,
        counted_twice=_RESNEXT50_ENCODER,
    ),
    Published('efficientdet_seg_d4', 'VOC 2012', 21, (512, 512), 'efficientdet-seg', miou=81.20),
)  # fmt: skip
