from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest
from harness import Robot, wait_until
from sensor_msgs.msg import Image

from sembox_ros.config import find_shared
from sembox_ros.ros.transport import CHOICES, PROFILE, use_large_shared_memory

# Publishes large images in a process of its own until it is ended.
PUBLISHER = """
import array, time
import rclpy
from sensor_msgs.msg import Image
from sembox_ros.ros.transport import use_large_shared_memory

use_large_shared_memory()
rclpy.init()
node = rclpy.create_node('large_images')
publisher = node.create_publisher(Image, '/large/image', 2)
pixels = array.array('B', bytes(range(256)) * 24576)
while rclpy.ok():
    publisher.publish(Image(height=1024, width=2048, encoding='rgb8', step=6144, data=pixels))
    time.sleep(0.05)
"""


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*CHOICES, 'ROS_DISTRO'):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ('distribution', 'variable'),
    [('', CHOICES[0]), ('kilted', CHOICES[0]), ('rolling', CHOICES[0]), ('jazzy', CHOICES[1])],
)
def test_profile_goes_where_this_distribution_reads_it(
    clean: pytest.MonkeyPatch, distribution: str, variable: str
) -> None:
    clean.setenv('ROS_DISTRO', distribution)
    given: dict[str, str] = {'ROS_DISTRO': distribution}
    clean.setattr('sembox_ros.ros.transport.os.environ', given)
    use_large_shared_memory()
    assert given == {'ROS_DISTRO': distribution, variable: str(find_shared(PROFILE))}


@pytest.mark.parametrize('chosen', CHOICES)
def test_what_the_user_chose_stays(clean: pytest.MonkeyPatch, chosen: str) -> None:
    given = {chosen: 'mine'}
    clean.setattr('sembox_ros.ros.transport.os.environ', given)
    use_large_shared_memory()
    assert given == {chosen: 'mine'}


def test_profile_is_for_every_participant_and_has_both_transports() -> None:
    path = find_shared(PROFILE)
    assert path is not None
    root = xml.etree.ElementTree.fromstring(path.read_text())
    kinds = [e.text for e in root.iter() if e.tag.endswith('}type')]
    assert kinds == ['SHM', 'UDPv4']
    [participant] = [e for e in root.iter() if e.tag.endswith('}participant')]
    assert participant.attrib['is_default_profile'] == 'true'


def test_large_images_arrive_whole_where_the_subscriber_knows_no_profile(robot: Robot) -> None:
    """The tests' own participant has Fast DDS's defaults, as the programs of others have."""
    arrived = robot.listen('/large/image', Image)
    process = subprocess.Popen([sys.executable, '-c', PUBLISHER])
    try:
        wait_until(lambda: len(arrived) >= 10, 'ten images of 6 MB')
    finally:
        process.kill()
        process.wait()
    pixels = np.frombuffer(arrived[-1].data, np.uint8)
    assert pixels.size == 1024 * 2048 * 3
    assert (pixels.reshape(-1, 256) == np.arange(256, dtype=np.uint8)).all()
