"""Rendered streets on disk with depth, optical flow and motion."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from sembox_ros.data.cityscapes import Cityscapes
from sembox_ros.data.streets import render_street
from sembox_ros.data.streets.dataset import (
    StreetSettings,
    frame_name,
    make_image,
    missing_images,
    open_folder,
    street_seed,
    write_images,
)
from sembox_ros.errors import DatasetError

SETTINGS = StreetSettings(seed=7, size_hw=(128, 256))


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Two images with geometry; the first was there before without."""
    small = StreetSettings(seed=0, size_hw=(64, 128))
    open_folder(tmp_path, small)
    make_image(tmp_path, small, 'val', 0)
    full = dataclasses.replace(small, geometry=True)
    open_folder(tmp_path, full)
    jobs = missing_images(tmp_path, {'val': 2}, geometry=True)
    assert jobs == [('val', 0), ('val', 1)]
    list(write_images(tmp_path, full, jobs, workers=1))
    assert missing_images(tmp_path, {'val': 2}, geometry=True) == []
    return tmp_path


def test_geometry_files_hold_what_was_rendered(measured: Path) -> None:
    dataset = Cityscapes(root=measured, split='val', with_depth=True, with_flow=True, with_motion=True)
    assert len(dataset) == 2
    for index, sample in enumerate(dataset[index] for index in range(2)):
        still = render_street(size_hw=(64, 128), seed=street_seed(0, 'val', index), geometry=True)
        np.testing.assert_array_equal(sample.image, still.image)
        np.testing.assert_array_equal(sample.motion, still.motion)
        near = (still.depth > 1) & (still.depth < 50)
        np.testing.assert_allclose(sample.depth[near], still.depth[near], rtol=0.01)
        np.testing.assert_array_equal((sample.depth == 0) & (still.depth > 0) & (still.depth < 900), False)
        assert (sample.depth[still.depth == 0] == 0).all()
        # As a robot measures it: near what is exact, but not there.
        away = np.linalg.norm(sample.flow - still.flow, axis=-1)
        assert 0.05 < np.median(away) < 1.0
        assert np.median(away) < 0.5 * np.median(np.linalg.norm(still.flow, axis=-1))
        camera = json.loads(frame_name('val', index).paths(measured, geometry=True)['camera'].read_text())
        assert camera['intrinsic'] == {
            'fx': still.camera.focal_px, 'fy': still.camera.focal_px, 'u0': 63.5, 'v0': still.camera.horizon_px,
        }  # fmt: skip
        assert camera['extrinsic']['z'] == still.camera.height


def test_geometry_has_the_layout_of_cityscapes(measured: Path) -> None:
    stem = 'streets10000_000001_000000'
    for folder, suffix in (('disparity', 'png'), ('camera', 'json'), ('flow', 'png'), ('motion', 'png')):
        assert (measured / folder / 'val' / 'streets10000' / f'{stem}_{folder}.{suffix}').is_file()


def test_a_dataset_with_geometry_goes_on_with_it(measured: Path) -> None:
    with pytest.raises(DatasetError, match="geometry 'measured flow', not False"):
        open_folder(measured, StreetSettings(seed=0, size_hw=(64, 128)))
    frame_name('val', 1).paths(measured, geometry=True)['flow'].unlink()
    assert missing_images(measured, {'val': 2}, geometry=True) == [('val', 1)]
    assert missing_images(measured, {'val': 2}) == []


def test_settings_of_older_versions_have_no_geometry(tmp_path: Path) -> None:
    open_folder(tmp_path, SETTINGS)
    file = tmp_path / 'streets.json'
    older = json.loads(file.read_text())
    assert older.pop('geometry') is False
    file.write_text(json.dumps(older))
    open_folder(tmp_path, SETTINGS)
    assert json.loads(file.read_text()) == older
    open_folder(tmp_path, dataclasses.replace(SETTINGS, geometry=True))
    assert json.loads(file.read_text()) == {**older, 'geometry': 'measured flow'}
