"""From semantic logits to the class ids of one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sembox_ros.ops.placement import Placement
from sembox_ros.ops.resize import plan_axis, resize_argmax


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
        sizes_hw: what the logits are resized to, one after the other, as the network's `semantic_sizes` says; the last
            one, or (h, w) where there is none, is the size of the canvas, or any size where the image is covered.
        with_confidence: also give the winning class's probability.
        extent: what the logits cover, 'canvas' or 'image'.

    Returns:
        (image height, image width) uint8 class ids and, if asked for, uint8 probability times 255, else None.
    """
    source_hw = tuple(semantic_logits.shape[1:])
    window_hw = placement.scaled_hw if extent == 'canvas' else (source_hw, *sizes_hw)[-1]
    rows, columns = (
        plan_axis(
            source_hw[i], tuple(s[i] for s in sizes_hw), window_hw[i], placement.image_hw[i], semantic_logits.device
        )
        for i in range(2)
    )
    ids, confidence = resize_argmax(semantic_logits, rows, columns, with_confidence=with_confidence)
    return ids.cpu().numpy(), None if confidence is None else confidence.cpu().numpy()
