"""The original SemanticBoxNet, as its published weights have it: one fixed canvas, semantics of the whole frame.

The encoder, the two pyramids and the box head are those of `sembox_b1`; the semantic head is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sembox_ros.config import InputConfig, ModelConfig
from sembox_ros.errors import InputError
from sembox_ros.models.bifpn import LEVELS, BiFPN
from sembox_ros.models.box_head import BoxHead
from sembox_ros.models.encoders.efficientnet import EfficientNetEncoder
from sembox_ros.models.folding import merge_convolutions
from sembox_ros.models.layers import SeparableConv
from sembox_ros.models.sembox import NetworkOutput, SemanticBoxNet
from sembox_ros.ops.resize import plan_axis

CANVAS_HW = (768, 768)
BRANCH_HW = (96, 96)  # stride 8: where the three branches end
MIXED_HW = (256, 256)  # where they are mixed
CLASSIFIED_HW = (512, 512)
FRAME_HW = (512, 1024)  # the output: the whole frame, whatever its shape

# A wide map for the far branch where its reach (30 rows, 24 columns) would leave nothing of a small one.
FAR_REACH = 33
FAR_HW = (36, 64)

V1_CONFIG = ModelConfig(
    name='semanticboxnet_v1',
    encoder='efficientnet-b1',
    neck_channels=88,
    neck_cells=4,
    box_head_depth=3,
    semantic_channels=256,
    dpc_channels=256,
    semantic_classes=20,  # Cityscapes' 19 and void
    detection_classes=90,
)

# Trained on BGR images normalised with RGB statistics, but its published inference feeds RGB: which of the two serves
# better depends on the weights, so the order is a property of the checkpoint and rgb no more than the default.
V1_INPUT = InputConfig(size_hw=CANVAS_HW, resize='letterbox_fixed', semantic_extent='image', channel_order='rgb')


def _block(in_channels: int, channels: int, dilation: tuple[int, int] = (1, 1)) -> SeparableConv:
    """Separable convolution, norm and swish, padded as if it were not dilated: dilation shrinks the map."""
    return SeparableConv(in_channels, channels, dilation=dilation, padding=(1, 1), activation=True)


def _blocks(in_channels: int, channels: int, count: int) -> list[nn.Module]:
    return [_block(in_channels if i == 0 else channels, channels) for i in range(count)]


def _resize(features: Tensor, size_hw: Sequence[int]) -> Tensor:
    """Bilinear with align_corners=False, nothing where the size is right already."""
    if tuple(features.shape[2:]) == tuple(size_hw):
        return features
    return F.interpolate(features, size=(size_hw[0], size_hw[1]), mode='bilinear', align_corners=False)


class ShrinkingDensePredictionCell(nn.Module):
    """The original's dense prediction cell: every branch shrinks the map and is resized back to the input's size.

    Args:
        in_channels: channels of the input.
        channels: channels of each branch and of the output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.entry = _block(in_channels, channels, dilation=(1, 6))
        self.near = _block(channels, channels, dilation=(1, 1))
        self.wide = _block(channels, channels, dilation=(6, 12))
        self.far = _block(channels, channels, dilation=(15, 12))
        self.far_again = _block(channels, channels, dilation=(6, 3))
        self.merge = nn.Conv2d(5 * channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in_channels, h, w) to (B, channels, h, w)."""
        size_hw = features.shape[2:]
        entry = _resize(self.entry(features), size_hw)
        far = _resize(self.far(_resize(entry, FAR_HW) if min(size_hw) < FAR_REACH else entry), size_hw)
        branches = (entry, self.near(entry), self.wide(entry), far, self.far_again(far))
        return self.merge(torch.cat([_resize(branch, size_hw) for branch in branches], dim=1))


class CoarseBranch(nn.Sequential):
    """Four blocks at stride 16, resized to stride 8, four more."""

    def __init__(self, channels: int) -> None:
        enlarge = nn.Upsample(size=BRANCH_HW, mode='bilinear', align_corners=False)
        super().__init__(
            nn.Sequential(*_blocks(channels, channels, 4)), enlarge, nn.Sequential(*_blocks(channels, channels, 4))
        )


class FrameClassifier(nn.Module):
    """From the three branches to logits of the whole frame: five convolutions without a nonlinearity between them.

    Args:
        channels: channels of each branch.
        classes: semantic classes K.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3 * channels, channels, 1)
        self.spread = nn.Sequential(*(nn.Conv2d(channels, channels, 3) for _ in range(3)))
        self.classify = nn.Conv2d(channels, classes, 1)

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        """[stride 32, 16, 8], each (B, channels, 96, 96), to logits (B, K, 512, 1024)."""
        x = self.mix(torch.cat([_resize(branch, MIXED_HW) for branch in branches], dim=1))
        logits = self.classify(_resize(self.spread(x), CLASSIFIED_HW))  # 250x250 to 512x512
        return _resize(logits, FRAME_HW)

    def folded(self) -> FoldedFrameClassifier:
        """The same function with two convolutions."""
        return FoldedFrameClassifier(self)


class FoldedFrameClassifier(nn.Module):
    """`FrameClassifier` collapsed, up to its last two resizes, in a third of the multiply-adds of a 7x7 convolution.

    Bilinear resizing is linear, acts on every channel alike, and its weights sum to one: it changes places with any
    1x1 convolution, bias included. So the mix runs before the upsampling, and the unpadded 3x3 convolutions and the
    1x1 classifier become neighbours, that is, one 7x7 convolution.

    That convolution needs 256 channels at 256x256 to give 20. Its 49 taps are 49 small 1x1 convolutions, which change
    places with the upsampling too: they run at 96x96, and what is left, shifting and resizing their sums, is one matrix
    for columns and one for rows, the product of the resize's matrix with each shift.

    Args:
        source: what is collapsed.
    """

    columns: Tensor
    rows: Tensor

    def __init__(self, source: FrameClassifier) -> None:
        super().__init__()
        self.mix = source.mix
        collapsed: nn.Module = source.classify
        for conv in reversed(source.spread):  # from the end, where the channels are few
            collapsed = merge_convolutions(conv, collapsed)
        assert isinstance(collapsed, nn.Conv2d)
        assert collapsed.bias is not None
        self.classes, size = collapsed.out_channels, collapsed.kernel_size[0]
        self.taps = nn.Conv2d(collapsed.in_channels, size * size * self.classes, 1, bias=False)
        # Channels in the order (column of the kernel, row of the kernel, class).
        self.taps.weight = nn.Parameter(collapsed.weight.permute(3, 2, 0, 1).flatten(0, 2)[:, :, None, None])
        self.bias = nn.Parameter(collapsed.bias[:, None, None])
        for name, source_size, target_size in zip(('rows', 'columns'), BRANCH_HW, MIXED_HW, strict=True):
            resize = plan_axis(source_size, (), source_size, target_size, torch.device('cpu')).matrix  # (256, 96)
            shifted = torch.stack([resize[d : target_size - size + 1 + d] for d in range(size)])  # (7, 250, 96)
            self.register_buffer(name, shifted.to(collapsed.weight.dtype))
        self.columns = self.columns.permute(1, 2, 0).flatten(1)  # (250, 96 x 7): column by column of the map
        self.rows = self.rows.permute(1, 2, 0).flatten(1)

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        """[stride 32, 16, 8], each (B, channels, 96, 96), to logits (B, K, 250, 250)."""
        maps = self.taps(self.mix(torch.cat(list(branches), dim=1))).permute(0, 2, 3, 1)  # (B, 96, 96, 7 7 K)
        count, height = maps.shape[0], maps.shape[1]
        maps = self.columns @ maps.reshape(count, height, self.columns.shape[1], -1)  # (B, 96, 250, 7 K)
        width = maps.shape[2]
        maps = maps.reshape(count, height, width, -1, self.classes).transpose(2, 3)  # (B, 96, 7, 250, K)
        logits = self.rows @ maps.reshape(count, self.rows.shape[1], width * self.classes)
        return logits.reshape(count, -1, width, self.classes).permute(0, 3, 1, 2) + self.bias


class FrameSemanticHead(nn.Module):
    """The original's semantic head: whole-frame logits from p3..p5 of a 768x768 canvas.

    Args:
        in_channels: channels of p3, p4 and p5.
        channels: channels inside.
        classes: semantic classes K.
    """

    def __init__(self, *, in_channels: int, channels: int, classes: int) -> None:
        super().__init__()
        self.fine_8 = nn.Sequential(*_blocks(in_channels, channels, 4))
        self.context_16 = ShrinkingDensePredictionCell(in_channels, channels)
        self.context_32 = ShrinkingDensePredictionCell(in_channels, channels)
        self.correct = nn.Sequential(
            *_blocks(channels, channels, 5), nn.Upsample(scale_factor=2.0, mode='bilinear', align_corners=False)
        )
        self.branch_32 = CoarseBranch(channels)
        self.branch_16 = CoarseBranch(channels)
        self.branch_8 = nn.Sequential(*_blocks(channels, channels, 4))
        self.classifier = FrameClassifier(channels, classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """[c2, p3, p4, p5] (c2 is not read) to logits (B, K, 512, 1024), folded (B, K, 250, 250)."""
        _, p3, p4, p5 = features
        x32 = _resize(self.context_32(p5), p4.shape[2:])
        x16 = self.context_16(p4)
        x8 = self.fine_8(p3) + self.correct(x16 + x32)  # the sum serves the correction only
        return self.classifier((self.branch_32(x32), self.branch_16(x16), self.branch_8(x8)))


class SemanticBoxNetV1(SemanticBoxNet):
    """The original SemanticBoxNet; its canvas is always 768x768."""

    canvas_hw = CANVAS_HW

    def forward(self, images: Tensor) -> NetworkOutput:
        """Run the network.

        Args:
            images: (B, 3, 768, 768) normalised float images.

        Returns:
            Boxes on the canvas; `semantic_logits` (B, K, 512, 1024), folded (B, K, 250, 250), cover the whole frame.

        Raises:
            InputError: another shape.
        """
        if images.ndim == 4 and images.shape[1] == 3 and tuple(images.shape[2:]) != CANVAS_HW:
            height, width = images.shape[2:]
            raise InputError(f'images: expected (B, 3, 768, 768), got {height}x{width}; this network has one size')
        return super().forward(images)

    def semantic_sizes(self, logits_hw: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """As `SemanticBoxNet.semantic_sizes`: none for the frame's logits, two from those of the folded network."""
        return () if tuple(logits_hw) == FRAME_HW else (CLASSIFIED_HW, FRAME_HW)


def create_semanticboxnet_v1(config: ModelConfig) -> SemanticBoxNetV1:
    """Build the network that `config` describes, with randomly initialised weights.

    The last cell of the semantic pyramid makes all five levels though three are read: the published weights hold it.
    """
    encoder = EfficientNetEncoder(config.encoder)
    channels = config.neck_channels
    return SemanticBoxNetV1(
        encoder=encoder,
        box_neck=BiFPN(encoder.channels[-3:], channels, config.neck_cells),
        semantic_neck=BiFPN(encoder.channels[-3:], channels, config.neck_cells),
        box_head=BoxHead(
            channels=channels, classes=config.detection_classes, depth=config.box_head_depth, levels=len(LEVELS)
        ),
        semantic_head=FrameSemanticHead(
            in_channels=channels, channels=config.semantic_channels, classes=config.semantic_classes
        ),
    )
