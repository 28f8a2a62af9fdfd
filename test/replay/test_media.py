from __future__ import annotations

import struct
from pathlib import Path

import av
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


def test_an_odd_size_loses_a_line_and_nothing_is_scaled(tmp_path: Path):
    image = np.zeros((33, 47, 3), np.uint8)
    image[:, 20:22] = 255
    with VideoWriter(tmp_path / 'v.mp4', 10.0) as writer:
        writer.write(image)
        assert writer.frame_count == 1
    [frame] = VideoReader(tmp_path / 'v.mp4')
    assert np.abs(frame.astype(int) - image[:32, :46]).mean() < 5


def test_a_video_without_frames_is_no_file(tmp_path: Path):
    (tmp_path / 'old.mp4').write_bytes(b'of the last time')
    for name in ('new.mp4', 'old.mp4'):
        VideoWriter(tmp_path / name, 10.0).close()
    assert not (tmp_path / 'new.mp4').exists()
    assert (tmp_path / 'old.mp4').read_bytes() == b'of the last time'


@pytest.mark.parametrize(('quarters', 'matrix'), [(1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1)), (3, (0, 1, -1, 0))])
def test_a_video_that_was_filmed_turned_comes_upright(tmp_path: Path, quarters: int, matrix: tuple[int, ...]):
    """Telephones write a turning matrix into the header of the track (ISO 14496-12, tkhd) and leave the pixels."""
    image = picture(48, 80, 250)
    with VideoWriter(tmp_path / 'v.mp4', 10.0) as writer:
        writer.write(image)
    data = bytearray((tmp_path / 'v.mp4').read_bytes())
    start = data.index(b'tkhd') + 44
    a, b, c, d = (value * 65536 for value in matrix)
    data[start : start + 36] = struct.pack('>9i', a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / 'v.mp4').write_bytes(data)
    [frame] = VideoReader(tmp_path / 'v.mp4')
    assert np.abs(frame.astype(int) - np.rot90(image, quarters)).mean() < 12


def test_a_file_with_sound_alone_holds_no_video(tmp_path: Path):
    with av.open(str(tmp_path / 'x.mkv'), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format='s16', layout='mono')
        frame.sample_rate = 8000
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    with pytest.raises(InputError, match='holds no video stream'):
        VideoReader(tmp_path / 'x.mkv')


@pytest.mark.parametrize('name', ['v.mp4', 'v.mkv', 'v.avi', 'v.mov'])
def test_common_containers_are_read_and_say_how_long_they_are(tmp_path: Path, name: str):
    with av.open(str(tmp_path / name), 'w') as container:
        stream = container.add_stream('mpeg4', rate=20)
        stream.height, stream.width, stream.pix_fmt = 32, 48, 'yuv420p'
        for _ in range(10):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(32, 48), format='rgb24')):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    reader = VideoReader(tmp_path / name)
    assert reader.frame_count == pytest.approx(10, abs=1)
    assert reader.rate_hz == pytest.approx(20)
    assert len(list(reader)) == 10


def test_numbers_in_names_count_as_numbers(tmp_path: Path):
    names = ['a/1/10.png', 'a/1/9.png', 'a/12/1.png', 'a/2/1.png', 'f10.png', 'f2.png', 'f02.png', 'g.png', '5.png']
    for name in names:
        write_image(tmp_path / name, picture(2, 2))
    assert [str(f.relative_to(tmp_path)) for f in find_media(tmp_path)] == [
        '5.png', 'a/1/9.png', 'a/1/10.png', 'a/2/1.png', 'a/12/1.png', 'f02.png', 'f2.png', 'f10.png', 'g.png',
    ]  # fmt: skip


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
