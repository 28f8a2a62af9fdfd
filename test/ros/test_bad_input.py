"""A bad frame is counted, reported with its reason, and never ends the node: the next good frame proves it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from harness import NodeProcess, Robot, node_arguments, street_message, wait_until
from sensor_msgs.msg import CompressedImage, Image


def changed(**fields: object) -> Image:
    message = street_message(48, 64)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def png_that_claims(width: int, height: int) -> bytes:
    header = b'IHDR' + struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack('>I', 13) + header + struct.pack('>I', zlib.crc32(header))
    return b'\x89PNG\r\n\x1a\n' + chunk + struct.pack('>I', 64) + b'IDAT' + bytes(64)


def truncated_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return cv2.imencode('.jpg', noise)[1].tobytes()[:900]


BAD: dict[str, tuple[Callable[[], Image | CompressedImage], str]] = {
    'step too small': (lambda: changed(step=10), 'step'),
    'short data': (lambda: changed(data=bytes(100)), 'data'),
    'long data': (lambda: changed(data=bytes(48 * 64 * 3 + 2 * 64 * 3 + 1)), 'data'),
    'empty data': (lambda: changed(data=b''), 'data'),
    'zero height': (lambda: changed(height=0), 'height'),
    'zero width': (lambda: changed(width=0), 'width'),
    'unknown encoding': (lambda: changed(encoding='rgb9'), 'rgb9'),
    'depth image': (lambda: changed(encoding='32FC1', step=256), 'depth'),
    'absurd size': (lambda: changed(height=2**31, width=2**31, step=3 * 2**30), 'max'),
    'undecodable jpeg': (lambda: CompressedImage(format='jpeg', data=b'\xff\xd8\xff' + bytes(200)), 'broken'),
    'truncated jpeg': (lambda: CompressedImage(format='jpeg', data=truncated_jpeg()), 'truncated'),
    'bomb': (lambda: CompressedImage(format='png', data=png_that_claims(60000, 60000)), '60000'),
    'no data': (lambda: CompressedImage(format='jpeg'), 'no bytes'),
}


@pytest.fixture(scope='module')
def nodes(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint_path: Path) -> Iterator[dict[type, NodeProcess]]:
    """A node for raw images and one for compressed ones, each in a namespace of its own."""
    folder = tmp_path_factory.mktemp('nodes')
    started = {}
    for kind, transport in ((Image, 'raw'), (CompressedImage, 'compressed')):
        started[kind] = NodeProcess(
            folder / f'{transport}.log',
            [
                '-r', f'__ns:=/{transport}',
                *node_arguments(checkpoint=tiny_checkpoint_path, input_transport=transport),
            ],
        )  # fmt: skip
    for node in started.values():
        node.wait_active()
    yield started
    for node in started.values():
        node.stop()


@pytest.mark.parametrize('name', BAD)
def test_a_bad_frame_is_reported_and_the_next_good_one_is_processed(nodes: dict[type, NodeProcess], robot: Robot, name):
    make, reason = BAD[name]
    bad = make()
    kind, space = type(bad), '/raw' if isinstance(bad, Image) else '/compressed'
    masks = robot.listen(f'{space}/segmentation/mask', Image)

    wait_until(lambda: robot.health(f'{space}/sembox'), 'diagnostics')
    before = robot.counts(f'{space}/sembox')['failed']

    def good(seed: int) -> Image | CompressedImage:
        message = street_message(48, 64, seed=seed, stamp=(7, seed))
        if kind is Image:
            return message
        image = np.frombuffer(message.data, np.uint8).reshape(48, 64, 3)
        data = cv2.imencode('.png', image)[1].tobytes()
        return CompressedImage(header=message.header, format='png', data=data)

    robot.exchange(good(1), f'{space}/image', masks)
    robot.publish(bad, f'{space}/image')
    wait_until(lambda: robot.counts(f'{space}/sembox')['failed'] == before + 1, 'the failure in the diagnostics')
    robot.exchange(good(2), f'{space}/image', masks)
    reports = [line for line in nodes[kind].output.splitlines() if 'bad frame dropped' in line]
    assert any(reason in line for line in reports), reports
    assert 'Traceback' not in nodes[kind].output


def test_reports_are_throttled(nodes: dict[type, NodeProcess], robot: Robot):
    robot.listen('/raw/segmentation/mask', Image)
    text = "encoding: 'mono9'"
    for _ in range(20):
        robot.publish(changed(encoding='mono9'), '/raw/image')
    wait_until(lambda: text in nodes[Image].output, 'a report')
    assert nodes[Image].output.count(text) == 1


def test_usable_oddities_are_processed(nodes: dict[type, NodeProcess], robot: Robot):
    """Padded rows, big-endian 16-bit data, a plain matrix type and a new size in mid-stream."""
    masks = robot.listen('/raw/segmentation/mask', Image)
    tight = street_message(48, 64, stamp=(9, 0))
    rows = np.frombuffer(tight.data, np.uint8).reshape(48, 192)
    padded = street_message(48, 64, stamp=(9, 1))
    padded.step = 200
    padded.data = np.pad(rows, ((0, 0), (0, 8)), constant_values=77).tobytes()
    grey = np.frombuffer(tight.data, np.uint8).reshape(48, 64, 3)[..., 0].astype('>u2') * 257
    deep = street_message(48, 64, stamp=(9, 2))
    deep.encoding, deep.is_bigendian, deep.step, deep.data = 'mono16', 1, 128, grey.tobytes()
    plain = street_message(48, 64, stamp=(9, 3))
    plain.encoding = '8UC3'
    larger = street_message(100, 90, stamp=(9, 4))
    answers = [robot.exchange(message, '/raw/image', masks) for message in (tight, padded, deep, plain, larger)]
    assert answers[1].data == answers[0].data  # padding changes nothing
    assert (answers[4].height, answers[4].width) == (100, 90)
    assert nodes[Image].output.count("'8UC3' does not say") == 1
