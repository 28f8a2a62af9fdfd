from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sembox_ros.config import SIZE_DIVISOR
from sembox_ros.errors import InputError
from sembox_ros.ops.placement import TRIM_DIVISOR, Placement, place_image


def test_trimmed_canvases_are_sizes_that_the_networks_take() -> None:
    """Two constants, because ops and config may not import each other."""
    assert TRIM_DIVISOR == SIZE_DIVISOR


@pytest.mark.parametrize(
    ('image_hw', 'scaled_hw', 'canvas_hw'),
    [
        ((1024, 2048), (512, 1024), (512, 1024)),
        ((480, 640), (512, 683), (512, 768)),  # 4:3 pays for 768 columns, not for 1024
        ((200, 1024), (200, 1024), (256, 1024)),
        ((1, 1), (512, 512), (512, 512)),
        ((1, 3000), (1, 1024), (128, 1024)),
        ((3000, 2), (512, 1), (512, 128)),
    ],
)
def test_letterbox_trims_the_canvas(
    image_hw: tuple[int, int], scaled_hw: tuple[int, int], canvas_hw: tuple[int, int]
) -> None:
    assert place_image(image_hw, (512, 1024), 'letterbox') == Placement(image_hw, scaled_hw, canvas_hw)


@settings(deadline=None)
@given(height=st.integers(1, 5000), width=st.integers(1, 5000))
def test_letterbox_canvas_is_the_smallest_that_holds_the_image(height: int, width: int) -> None:
    placement = place_image((height, width), (256, 512), 'letterbox')
    for scaled, canvas, most in zip(placement.scaled_hw, placement.canvas_hw, (256, 512), strict=True):
        assert canvas % 128 == 0
        assert canvas <= most
        assert 0 <= canvas - scaled < 128


@pytest.mark.parametrize(
    ('image_hw', 'scaled_hw'),
    [((1024, 2048), (384, 768)), ((480, 640), (576, 768)), ((2000, 500), (768, 192)), ((1, 1), (768, 768))],
)
def test_fixed_letterbox_keeps_the_canvas(image_hw: tuple[int, int], scaled_hw: tuple[int, int]) -> None:
    assert place_image(image_hw, (768, 768), 'letterbox_fixed') == Placement(image_hw, scaled_hw, (768, 768))


def test_stretch_fills_the_canvas() -> None:
    for image_hw in ((1, 1), (480, 640), (3000, 2)):
        assert place_image(image_hw, (256, 384), 'stretch') == Placement(image_hw, (256, 384), (256, 384))


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(InputError, match=r"mode: expected letterbox.*'crop'"):
        place_image((10, 10), (128, 128), 'crop')


@pytest.mark.parametrize('scaled_hw', [(0, 5), (5, 0), (11, 5), (5, 21)])
def test_placement_refuses_an_image_that_leaves_the_canvas(scaled_hw: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r'scaled_hw.*\(10, 20\)'):
        Placement((7, 7), scaled_hw=scaled_hw, canvas_hw=(10, 20))


def test_placement_scales_are_image_pixels_per_canvas_pixel() -> None:
    assert Placement((100, 300), scaled_hw=(50, 100), canvas_hw=(128, 128)).scale_xy == (3.0, 2.0)
