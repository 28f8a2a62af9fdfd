from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from sembox_ros.errors import InputError
from sembox_ros.replay.media import VideoWriter, write_image
from sembox_ros.replay.pictures import (
    Picture,
    count_pictures,
    link_pictures,
    predict_pictures,
    read_ahead,
    read_pictures,
    track_pictures,
)
from sembox_ros.types import Detections, Scene

BLACK = np.zeros((4, 6, 3), np.uint8)


def scene_of(image: np.ndarray, boxes: int = 1) -> Scene:
    """Boxes side by side, in the reverse order of their places in every other image."""
    left = np.arange(boxes, dtype=np.float32)[:: 1 - 2 * int(image[0, 0, 0] % 2)] * 20
    boxes_xyxy = np.stack([left, left * 0, left + 18, left * 0 + 18], axis=1)
    found = Detections(boxes_xyxy, np.zeros(boxes, np.int64), np.full(boxes, 0.5, np.float32))
    return Scene((20, 20 * boxes), detections=found)


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[Path, str]]:
    write_image(tmp_path / 'a.png', BLACK)
    with VideoWriter(tmp_path / 'film.mp4', 12.5) as writer:
        for value in (0, 100, 200):
            writer.write(np.full((32, 48, 3), value, np.uint8))
    (tmp_path / 'cut.mp4').write_bytes((tmp_path / 'film.mp4').read_bytes()[:200])
    (tmp_path / 'bad.png').write_bytes(b'no image')
    return [(tmp_path / name, name[0]) for name in ('a.png', 'bad.png', 'film.mp4', 'cut.mp4')]


def test_pictures_come_in_order_and_problems_among_them(files: list[tuple[Path, str]]):
    pictures = list(read_pictures(files))
    assert [(p.name, p.frame, p.rate_hz) for p in pictures] == [
        ('a', None, None), ('b', None, None), ('f', 0, 12.5), ('f', 1, 12.5), ('f', 2, 12.5), ('c', 0, None),
    ]  # fmt: skip
    assert [p.file.name for p in pictures if p.problem] == ['bad.png', 'cut.mp4']
    assert all((p.image is None) == bool(p.problem) for p in pictures)
    assert [round(float(p.image.mean()), -1) for p in pictures if p.image is not None] == [0, 0, 100, 200]
    assert count_pictures(files) == len(pictures)


def test_items_are_made_ahead_but_not_all_of_them():
    made: list[int] = []
    enough = threading.Event()

    def items() -> Iterator[int]:
        for index in range(100):
            made.append(index)
            if index == 4:
                enough.set()
            yield index

    ahead = read_ahead(items(), 4)
    assert next(ahead) == 0
    assert enough.wait(10)
    assert [next(ahead) for _ in range(3)] == [1, 2, 3]
    ahead.close()
    assert len(made) <= 9
    assert list(read_ahead(iter(range(7)), 3)) == list(range(7))


def test_an_error_ahead_arrives_where_it_happened():
    def items() -> Iterator[int]:
        yield 1
        raise InputError('broken')

    ahead = read_ahead(items(), 4)
    assert next(ahead) == 1
    with pytest.raises(InputError, match='broken'):
        next(ahead)


@pytest.mark.parametrize('batch', [1, 2, 5])
def test_each_picture_meets_its_own_scene(batch: int):
    sizes: list[int] = []

    def predict(images: Sequence[np.ndarray], *, previous: Sequence[np.ndarray | None]) -> list[Scene]:
        assert list(previous) == [None] * len(images)
        sizes.append(len(images))
        if any(image[0, 0, 0] == 3 for image in images):
            raise RuntimeError('out of memory')
        return [scene_of(image, boxes=1 + int(image[0, 0, 0])) for image in images]

    pictures = [Picture(Path(f'{i}.png'), str(i), BLACK + np.uint8(i)) for i in range(6)]
    pictures.insert(2, Picture(Path('bad.png'), 'bad', None, 'bad.png: no image'))
    results = list(predict_pictures(predict, pictures, batch))
    assert [picture.name for picture, _ in results] == ['0', '1', 'bad', '2', '3', '4', '5']
    assert max(sizes) <= batch
    for picture, scene in results:
        if picture.name in ('bad', '3'):
            assert scene is None
            assert picture.image is None
        else:
            assert scene is not None
            assert scene.size_hw == (20, 20 * (1 + int(picture.name)))
    assert [p.problem for p, s in results if s is None] == ['bad.png: no image', '3.png: out of memory']


def test_pictures_are_linked_within_a_video_and_among_images_in_a_row():
    images = [BLACK + np.uint8(i) for i in range(7)]
    pictures = [
        Picture(Path('0.png'), '0', images[0]),
        Picture(Path('1.png'), '1', images[1]),
        *(Picture(Path('a.mp4'), 'a', images[2 + i], frame=i) for i in range(2)),
        *(Picture(Path('b.mp4'), 'b', images[4 + i], frame=i) for i in range(2)),
        Picture(Path('bad.png'), 'bad', None, 'no image'),
        Picture(Path('6.png'), '6', images[6]),
    ]
    previous = [picture.previous for picture in link_pictures(pictures)]
    assert [None if p is None else int(p[0, 0, 0]) for p in previous] == [None, 0, None, 2, None, 4, None, None]


def test_ids_stay_within_a_video_and_start_anew_with_the_next():
    def pictures(name: str, rate_hz: float | None) -> list[tuple[Picture, Scene | None]]:
        return [
            (Picture(Path(name), name, image, frame=i if rate_hz else None, rate_hz=rate_hz), scene_of(image, boxes=3))
            for i, image in enumerate(BLACK + np.uint8(n) for n in range(4))
        ]

    skipped = (Picture(Path('a'), 'a', None, 'damaged', 4), None)
    results = list(track_pictures([*pictures('a', 10.0), skipped, *pictures('b', 10.0), *pictures('c', None)], 5.0))
    for picture, scene in results:
        if scene is not None:
            assert scene.detections is not None
            assert picture.image is not None
            straight = picture.image[0, 0, 0] % 2 == 0
            assert scene.detections.ids.tolist() == ([1, 2, 3] if straight else [3, 2, 1])
    assert [scene is None for _, scene in results] == [False] * 4 + [True] + [False] * 8
