from __future__ import annotations

import numpy as np

from sembox_ros.inference.flow import LastImages


def test_each_camera_has_its_own_last_image_and_old_ones_are_not_given_out():
    last, images = LastImages(), [np.full((2, 2, 3), value, np.uint8) for value in range(6)]
    second = 10**9
    assert last.replace('front', 5 * second, images[0]) is None
    assert last.replace('rear', 5 * second, images[1]) is None
    assert last.replace('front', 5 * second + 10**8, images[2]) is images[0]
    assert last.replace('rear', 5 * second + 5 * 10**8, images[3]) is images[1]
    assert last.replace('front', 5 * second + 10**8, images[4]) is None  # the same stamp again
    assert last.replace('front', 6 * second, images[5]) is None  # 0.9 s later
    assert last.replace('front', 4 * second, images[0]) is None  # time jumps back
    assert last.replace('front', 4 * second + 1, images[1]) is images[0]
