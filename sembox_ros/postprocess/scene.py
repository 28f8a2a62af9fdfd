"""From all raw tensors of one image to its scene: what inference and validation share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sembox_ros.config import DetectionConfig, ModelConfig
from sembox_ros.errors import ConfigError
from sembox_ros.labels import SceneLabels
from sembox_ros.ops.anchors import create_anchors
from sembox_ros.ops.grids import Grids, create_grids, grid_shapes
from sembox_ros.ops.outputs import RawOutput
from sembox_ros.ops.placement import Placement
from sembox_ros.panoptic import MIN_STUFF_SHARE, compose_panoptic, list_segments
from sembox_ros.postprocess.claims import claim_pixels
from sembox_ros.postprocess.detections import decode_detections
from sembox_ros.postprocess.fusion import FUSIONS
from sembox_ros.postprocess.instances import Instances, decode_instances
from sembox_ros.postprocess.maps import decode_depth, decode_motion
from sembox_ros.postprocess.semantic import decode_semantic
from sembox_ros.types import Detections, Scene

PARTS = frozenset({'semantic', 'confidence', 'detections', 'instances', 'panoptic', 'depth', 'motion'})


@dataclass(frozen=True)
class Decoding:
    """What is needed, beside its raw tensors, to know what a network says.

    Attributes:
        labels: its label sets.
        anchors_xyxy: (A, 4) float32 in pixels of the canvas; None without a box head.
        grids: of the canvas; None without an instance head.
        semantic_sizes: what the semantic logits, and the maps of other tasks, are resized to, one after the other.
        semantic_extent: what they cover, 'canvas' or 'image'.
    """

    labels: SceneLabels
    anchors_xyxy: Tensor | None
    grids: Grids | None
    semantic_sizes: Sequence[tuple[int, int]]
    semantic_extent: str

    @classmethod
    def of_canvas(
        cls,
        canvas_hw: tuple[int, int],
        *,
        model: ModelConfig,
        labels: SceneLabels,
        semantic_sizes: Sequence[tuple[int, int]],
        semantic_extent: str,
        device: torch.device,
    ) -> Decoding:
        """For images on a canvas of this size."""
        anchors = create_anchors(canvas_hw, device=device, anchor_scale=model.anchor_scale) if model.box_head else None
        shapes = grid_shapes(model.instance_grids, model.instance_grid_aspect)
        grids = create_grids(shapes, canvas_hw, device) if model.instance_channels else None
        return cls(labels, anchors, grids, semantic_sizes, semantic_extent)


def parts_of(model: ModelConfig, labels: SceneLabels) -> frozenset[str]:
    """Which of `PARTS` a network of this configuration gives."""
    parts = {'depth', 'motion'}.intersection(model.tasks)
    if model.semantic_classes:
        parts |= {'semantic', 'confidence'}
    if model.finds_objects:
        parts |= {'detections', 'instances', 'panoptic'} if labels.has_instances else {'detections'}
    return frozenset(parts)


def choose_fusion(name: str, *, has_boxes: bool, has_masks: bool) -> str:
    """The way to instances that `name` stands for, in a network with or without a box head and an instance head.

    Args:
        name: as `DetectionConfig.fusion`.
        has_boxes: whether the network has a box head.
        has_masks: whether it has an instance head.

    Returns:
        'boxes' or a name in `fusion.FUSIONS`; the boxes of the latter are those of masks. 'auto' stays as it is in a
        network that finds no objects.

    Raises:
        ConfigError: the network lacks what the fusion needs.
    """
    if name == 'auto':
        return 'efficientps' if has_masks else 'boxes' if has_boxes else name
    if name == 'boxes' and not has_boxes:
        other = 'efficientps or auto' if has_masks else 'auto'
        raise ConfigError(f'fusion: boxes needs a network with a box head, this one has none; use {other}')
    if name in FUSIONS and not has_masks:
        other = 'boxes or auto' if has_boxes else 'auto'
        raise ConfigError(f'fusion: {name} needs a network with an instance head, this one has none; use {other}')
    return name


def decode_scene(
    raw: RawOutput, index: int, placement: Placement, decoding: Decoding, *,
    detection: DetectionConfig, wanted: frozenset[str] = PARTS, min_instance_score: float = 0.0,
) -> Scene:  # fmt: skip
    """One image of a batch.

    Args:
        raw: of the batch.
        index: which of its images.
        placement: where that lies on the canvas.
        decoding: what the tensors mean.
        detection: thresholds, and where instances come from.
        wanted: of `PARTS`; what is not wanted, or what the network does not give, is None. With panoptic come segments.
        min_instance_score: detections below it get no pixels, as if they were not there.

    Raises:
        ConfigError: the network lacks what `detection.fusion` needs.
    """
    labels = decoding.labels
    has_boxes, has_masks = raw.class_logits is not None, raw.category_logits is not None
    fusion = choose_fusion(detection.fusion, has_boxes=has_boxes, has_masks=has_masks)
    numbered = (has_boxes or has_masks) and labels.has_instances and not wanted.isdisjoint({'instances', 'panoptic'})
    semantic = confidence = None
    if raw.semantic_logits is not None and (numbered or not wanted.isdisjoint({'semantic', 'confidence'})):
        semantic, confidence = decode_semantic(
            raw.semantic_logits[index],
            placement,
            sizes_hw=decoding.semantic_sizes,
            with_confidence='confidence' in wanted,
            extent=decoding.semantic_extent,
        )
    detections = instances = panoptic = segments = None
    if (has_boxes or has_masks) and (numbered or 'detections' in wanted):
        found = _find_things(raw, index, placement, decoding, detection, fusion)
        detections = found.detections if isinstance(found, Instances) else found
    if numbered:
        assert semantic is not None
        assert detections is not None
        assert raw.semantic_logits is not None
        if isinstance(found, Instances):
            logits, sure = raw.semantic_logits[index], found.above(min_instance_score)
            instances = FUSIONS[fusion](sure, logits, placement, labels, sizes_hw=decoding.semantic_sizes)
        else:
            instances = claim_pixels(semantic, detections.above(min_instance_score), labels)
        if 'panoptic' in wanted:
            area = int(MIN_STUFF_SHARE * semantic.size)
            panoptic = compose_panoptic(semantic, instances, detections, labels, min_stuff_area=area)
            segments = list_segments(panoptic, detections)
    maps = _decode_maps(raw, index, placement, decoding, wanted)
    return Scene(
        placement.image_hw,
        semantic=semantic if 'semantic' in wanted else None,
        confidence=confidence,
        detections=detections if 'detections' in wanted else None,
        instances=instances if 'instances' in wanted else None,
        panoptic=panoptic,
        segments=segments,
        depth=maps.get('depth'),
        motion=maps.get('motion'),
    )


def _decode_maps(
    raw: RawOutput, index: int, placement: Placement, decoding: Decoding, wanted: frozenset[str]
) -> dict[str, np.ndarray]:
    """Depth and motion of an image, as far as they are wanted and there."""
    given = {'depth': (decode_depth, raw.log_depth), 'motion': (decode_motion, raw.motion_logits)}
    return {
        part: decode(maps[index], placement, sizes_hw=decoding.semantic_sizes, extent=decoding.semantic_extent)
        for part, (decode, maps) in given.items()
        if maps is not None and part in wanted
    }


def _find_things(
    raw: RawOutput, index: int, placement: Placement, decoding: Decoding, detection: DetectionConfig, fusion: str
) -> Instances | Detections:
    """What the fusion asks for of an image: masks, or boxes."""
    if fusion != 'boxes':
        assert raw.category_logits is not None
        assert raw.mask_kernels is not None
        assert raw.mask_features is not None
        assert decoding.grids is not None
        return decode_instances(
            raw.category_logits[index],
            raw.mask_kernels[index],
            raw.mask_features[index],
            decoding.grids,
            placement,
            score_threshold=detection.score_threshold,
            max_detections=detection.max_detections,
        )
    assert raw.class_logits is not None
    assert raw.box_regression is not None
    assert decoding.anchors_xyxy is not None
    return decode_detections(
        raw.class_logits[index],
        raw.box_regression[index],
        decoding.anchors_xyxy,
        placement,
        score_threshold=detection.score_threshold,
        nms_iou_threshold=detection.nms_iou_threshold,
        max_detections=detection.max_detections,
    )
