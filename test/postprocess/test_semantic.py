from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from sembox_ros.ops.placement import Placement
from sembox_ros.postprocess.semantic import decode_semantic

# An image of 60 x 200 shown at half size in the top left of a 128 x 128 canvas: padding below row 30 and right of 100.
HALF = Placement((60, 200), scaled_hw=(30, 100), canvas_hw=(128, 128))


def test_semantic_ids_ignore_the_padding() -> None:
    logits = torch.zeros(3, 128, 128)
    logits[1, :30, :50] = 4
    logits[2, :30, 50:100] = 4
    logits[0, 30:] = 90  # the padding shouts, even across the image's border rows
    logits[0, :, 100:] = 90
    ids, confidence = decode_semantic(logits, HALF, with_confidence=True)
    assert ids.shape == (60, 200)
    assert ids.dtype == np.uint8
    assert set(np.unique(ids[:, :99])) == {1}
    assert set(np.unique(ids[:, 102:])) == {2}
    assert confidence is not None
    wanted = 255 * float(F.softmax(torch.tensor([4.0, 0.0, 0.0]), dim=0)[0])
    assert abs(int(confidence[30, 20]) - wanted) <= 0.51


def test_semantic_confidence_only_when_asked() -> None:
    assert decode_semantic(torch.zeros(3, 128, 128), HALF, with_confidence=False)[1] is None


def test_semantic_output_of_the_whole_image_is_not_cropped() -> None:
    logits = torch.zeros(3, 32, 64)  # another size than the canvas and than the image
    logits[1, :, :32] = 4
    logits[2, :, 32:] = 4
    placement = Placement((60, 200), scaled_hw=(38, 128), canvas_hw=(128, 128))
    ids, confidence = decode_semantic(logits, placement, with_confidence=True, extent='image')
    assert ids.shape == (60, 200)
    assert confidence is not None
    assert set(np.unique(ids[:, :98])) == {1}
    assert set(np.unique(ids[:, 102:])) == {2}
