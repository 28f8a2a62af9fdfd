from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sembox_ros.errors import InputError
from sembox_ros.replay.media import (
    VideoReader,
    VideoWriter,
    contact_sheet,
    find_media,
    fit_picture,
    is_video,
    read_image,
    write_image,
)


def picture(height: int, width: int, value: int = 0) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = value
    image[: height // 2, :, 1] = 200
    return image


def test_images_round_trip_with_their_channels_in_order(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    write_image(tmp_path / 'a' / 'b.png', image)
    assert (read_image(tmp_path / 'a' / 'b.png') == image).all()
    write_image(tmp_path / 'mask.png', image[..., 0])
    assert (read_image(tmp_path / 'mask.png') == image[..., :1]).all()


def test_a_video_comes_back_with_its_length_rate_and_colours(tmp_path: Path):
    with VideoWriter(tmp_path / 'v.mp4', 10.0) as writer:
        for index in range(12):
            writer.write(picture(64, 96, index * 20))
    reader = VideoReader(tmp_path / 'v.mp4')
    assert reader.rate_hz == pytest.approx(10)
    frames = list(reader)
    assert len(frames) == 12
    assert frames[0].shape == (64, 96, 3)
    for index, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - picture(64, 96, index * 20)).mean() < 12  # H.264 is lossy


def test_a_video_takes_odd_and_changing_sizes(tmp_path: Path):
    with VideoWriter(tmp_path / 'v.mp4', 7.5) as writer:
        for size in ((33, 47), (64, 64), (2, 300)):
            writer.write(picture(*size, 100))
    assert [frame.shape for frame in VideoReader(tmp_path / 'v.mp4')] == [(32, 46, 3)] * 3


def test_media_are_found_and_told_apart(tmp_path: Path):
    for name in ('b.PNG', 'sub/a.jpeg', 'c.mp4', 'notes.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'x')
    found = find_media(tmp_path)
    assert [f.name for f in found] == ['b.PNG', 'c.mp4', 'a.jpeg']
    assert [is_video(f) for f in found] == [False, True, False]


@pytest.mark.parametrize(
    ('name', 'reason'), [('none', 'no such'), ('notes.txt', 'expected an image'), ('empty', 'holds no')]
)
def test_what_is_no_medium_is_refused(tmp_path: Path, name, reason):
    (tmp_path / 'notes.txt').write_text('x')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(InputError, match=reason):
        find_media(tmp_path / name)


@pytest.mark.parametrize('content', [b'', b'no image', b'\x89PNG\r\n\x1a\n' + bytes(20)])
def test_unreadable_files_are_refused(tmp_path: Path, content):
    (tmp_path / 'x.png').write_bytes(content)
    with pytest.raises(InputError, match=r'x\.png'):
        read_image(tmp_path / 'x.png')
    (tmp_path / 'x.mp4').write_bytes(content)
    with pytest.raises(InputError, match=r'x\.mp4'):
        list(VideoReader(tmp_path / 'x.mp4'))


def test_fit_picture_keeps_the_aspect_ratio_on_black():
    fitted = fit_picture(np.full((10, 20, 3), 255, np.uint8), (40, 40))
    assert fitted.shape == (40, 40, 3)
    assert (fitted[10:30] == 255).all()
    assert (fitted[:10] == 0).all()
    assert (fitted[30:] == 0).all()


def test_the_contact_sheet_holds_every_cell():
    red, green = np.zeros((2, 8, 16, 3), np.uint8)
    red[..., 0], green[..., 1] = 255, 255
    sheet = contact_sheet([[red, green], [green, red]], ['one', 'two'], (8, 16))
    assert (sheet[30:38, 6:22] == red).all()
    assert (sheet[30:38, 28:44] == green).all()
    assert (sheet[44:52, 28:44] == red).all()
