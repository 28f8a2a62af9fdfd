"""From semantic logits to the class ids of one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sembox_ros.ops.placement import Placement
from sembox_ros.ops.resize import resize_argmax
from sembox_ros.postprocess.maps import plan_map


def decode_semantic(
    semantic_logits: Tensor,
    placement: Placement,
    *,
    sizes_hw: Sequence[tuple[int, int]] = (),
    with_confidence: bool,
    extent: str = 'canvas',
) -> tuple[np.ndarray, np.ndarray | None]:
    """Class ids of one image at its own size.

    Args:
        semantic_logits: (K, h, w) before the softmax, on any device.
        placement: where the image lies on the canvas.
        sizes_hw: what the logits are resized to, one after the other; see `maps.plan_map`.
        with_confidence: also give the winning class's probability.
        extent: what the logits cover, 'canvas' or 'image'.

    Returns:
        (image height, image width) uint8 class ids and, if asked for, uint8 probability times 255, else None.
    """
    rows, columns = plan_map(semantic_logits, placement, sizes_hw=sizes_hw, extent=extent)
    ids, confidence = resize_argmax(semantic_logits, rows, columns, with_confidence=with_confidence)
    return ids.cpu().numpy(), None if confidence is None else confidence.cpu().numpy()
