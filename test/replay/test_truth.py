from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from cityscapes_sample import write_cityscapes, write_image
from drives import FIRST_NS, frames
from hypothesis import given
from hypothesis import strategies as st

from sembox_ros.data.cityscapes import Cityscapes
from sembox_ros.data.streets import render_sequence
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.labels import CITYSCAPES_19, CITYSCAPES_THINGS_8, COCO_90, LabelSet, SceneLabels
from sembox_ros.replay.bag_writer import BagWriter
from sembox_ros.replay.bags import BagMessage
from sembox_ros.replay.drive import DriveFrame, write_drive
from sembox_ros.replay.live_session import read_truth
from sembox_ros.replay.scene_messages import DETECTIONS, IMAGE, LABEL_INFO, MessageEncoder
from sembox_ros.replay.source import find_truth, open_input
from sembox_ros.replay.truth import BagTruth, DatasetTruth, read_stamps, stamp_in_name
from sembox_ros.types import Detections

MASK, BOXES = '/ground_truth/segmentation/mask', '/ground_truth/detections'
INSTANCES = '/ground_truth/panoptic/instances'
DEFAULT = SceneLabels.linked_by_name(CITYSCAPES_19, COCO_90)
ENCODER = MessageEncoder()
PETS = LabelSet('pets', ('cat', 'dog'), ((1, 1, 1), (2, 2, 2)), (True, True))


@pytest.fixture
def truth(tmp_path: Path) -> BagTruth:
    return BagTruth({MASK: '', BOXES: '', INSTANCES: ''}, DEFAULT, tmp_path)


def entry(topic: str, message: object, stamp_ns: int | None = 5) -> BagMessage:
    return BagMessage(topic, 0, stamp_ns, message)


def mask_entry(mask: np.ndarray, stamp_ns: int = 5) -> BagMessage:
    return entry(MASK, ENCODER.encode_image(mask, 'mono8', ENCODER.make_header(stamp_ns, '')), stamp_ns)


def instances_entry(numbers: np.ndarray, stamp_ns: int = 5) -> BagMessage:
    return entry(INSTANCES, ENCODER.encode_image(numbers, '16UC1', ENCODER.make_header(stamp_ns, '')), stamp_ns)


def boxes_message(*class_ids: str, crowd: int | None = None) -> object:
    """Boxes side by side."""
    corners = np.array([[10 * i, 0, 10 * i + 8, 6] for i in range(len(class_ids))], np.float32).reshape(-1, 4)
    boxes = Detections(corners, np.zeros(len(class_ids), np.int64), np.ones(len(class_ids), np.float32))
    is_crowd = np.arange(len(class_ids)) == (-1 if crowd is None else crowd)
    message = ENCODER.encode_detections(boxes, ENCODER.make_header(5, ''), is_crowd=is_crowd)
    for detection, class_id in zip(message.detections, class_ids, strict=True):
        detection.results[0].hypothesis.class_id = class_id
    return message


def info_message(labels: LabelSet) -> object:
    return ENCODER.encode_label_info(labels, ENCODER.make_header(0, ''), threshold=0.0)


def test_masks_and_boxes_come_back_as_they_were(truth: BagTruth):
    mask = np.arange(60, dtype=np.uint8).reshape(6, 10)
    truth.add(mask_entry(mask))
    assert truth.find('', 5).boxes_xyxy is None
    truth.add(entry(BOXES, boxes_message('3', 'dog', crowd=1)))
    truth.add(entry(BOXES, boxes_message(), 7))
    found = truth.find('', 5)
    np.testing.assert_array_equal(found.semantic, mask)
    np.testing.assert_array_equal(found.boxes_xyxy, [[0, 0, 8, 6], [10, 0, 18, 6]])
    assert found.class_ids.tolist() == [3, COCO_90.names.index('dog')]
    assert found.is_crowd.tolist() == [False, True]
    assert truth.find('', 7).boxes_xyxy.shape == (0, 4)
    assert truth.find('', 7).semantic is None
    assert truth.find('', 6) is None
    assert truth.find('left', 5) is None
    assert truth.unusable == {}


def test_instances_are_places_of_their_boxes(truth: BagTruth):
    message = boxes_message('3', '3', '3', crowd=1)
    for detection, text in zip(message.detections, ('900', 'crowd 7', ''), strict=True):
        detection.id = text
    truth.add(instances_entry(np.array([[900, 7, 0], [1, 1, 900]], np.uint16)))
    assert truth.find('', 5) is None  # whose they are is not known yet
    truth.add(entry(BOXES, message))
    found = truth.find('', 5)
    np.testing.assert_array_equal(found.instances, [[1, 2, 0], [3, 3, 1]])
    assert found.instances.dtype == np.uint16
    assert found.is_crowd.tolist() == [False, True, False]
    assert truth.unusable == {}


def test_instances_without_boxes_are_counted_once(truth: BagTruth):
    for stamp_ns in (5, 6):
        truth.add(entry(BOXES, boxes_message('3', '3'), stamp_ns))
        truth.add(instances_entry(np.array([[1, 2, 3]], np.uint16), stamp_ns))
        for _ in range(2):
            found = truth.find('', stamp_ns)
            assert found.instances is None
            assert len(found.boxes_xyxy) == 2
    assert truth.unusable == {f'{INSTANCES}: instances: expected ids of the boxes with this stamp, got others': 2}


def test_depth_and_motion_come_back_alone_or_with_boxes(tmp_path: Path):
    topics = {'/left/depth_known': 'left', '/left/motion/mask': 'left', '/left/boxes': 'left', '/motion/mask': ''}
    truth = BagTruth(topics, DEFAULT, tmp_path)
    header = ENCODER.make_header(5, '')
    depth = np.array([[1.5, np.nan], [80, 0]], np.float32)
    motion = np.array([[0, 1], [255, 0]], np.uint8)
    truth.add(entry('/left/depth_known', ENCODER.encode_image(depth, '32FC1', header)))
    truth.add(entry('/motion/mask', ENCODER.encode_motion(motion, header)))
    assert truth.labels.semantic is None  # what moves is no mask of classes
    for camera, part, expected in (('left', 'depth', [[1.5, 0], [80, 0]]), ('', 'motion', motion)):
        found = truth.find(camera, 5)
        np.testing.assert_array_equal(getattr(found, part), expected)
        others = {'semantic', 'boxes_xyxy', 'instances', 'depth', 'motion'} - {part}
        assert all(getattr(found, name) is None for name in others)
    truth.add(entry('/left/motion/mask', ENCODER.encode_motion(1 - motion % 2, header)))
    truth.add(entry('/left/boxes', boxes_message('3')))
    found = truth.find('left', 5)
    assert found.motion.tolist() == [[1, 0], [0, 1]]
    assert found.depth.max() == 80
    assert len(found.boxes_xyxy) == 1
    assert truth.unusable == {}


def test_classes_that_have_boxes_are_things_where_a_bag_brings_its_own(truth: BagTruth):
    own = LabelSet('own', ('lawn', 'dog'), ((1, 1, 1), (2, 2, 2)), (False, False))
    truth.add(entry('/ground_truth/segmentation/label_info', info_message(own)))
    truth.add(mask_entry(np.zeros((2, 3), np.uint8)))
    truth.add(entry(f'{BOXES}/label_info', info_message(PETS)))
    truth.add(entry(BOXES, boxes_message('dog')))
    assert truth.labels.semantic.is_thing == (False, True)
    assert truth.labels.thing_links == {PETS.names.index('dog'): 1}


def test_the_first_message_of_a_stamp_counts(truth: BagTruth):
    for value in (1, 2):
        truth.add(mask_entry(np.full((2, 3), value, np.uint8)))
    assert truth.find('', 5).semantic.max() == 1


def test_label_sets_are_those_of_the_bag_where_it_names_them(truth: BagTruth):
    assert truth.labels.semantic is None  # no mask so far
    assert truth.labels.detection is COCO_90
    truth.add(mask_entry(np.zeros((2, 3), np.uint8)))
    assert truth.labels.semantic is CITYSCAPES_19
    truth.add(entry(f'{BOXES}/label_info', info_message(CITYSCAPES_THINGS_8)))
    truth.add(entry('/ground_truth/segmentation/label_info', info_message(PETS)))
    truth.add(entry(BOXES, boxes_message('rider', '7', 'cat')))
    [(reason, count)] = truth.unusable.items()
    assert "class_id 'cat' is neither an id nor a name" in reason
    assert (reason.split(':')[0], count) == (BOXES, 1)
    truth.add(entry(BOXES, boxes_message('rider', '7')))
    assert truth.labels.detection is CITYSCAPES_THINGS_8
    assert truth.labels.semantic.names == PETS.names
    assert truth.find('', 5).class_ids.tolist() == [CITYSCAPES_THINGS_8.names.index('rider'), 7]


def test_what_cannot_be_used_is_counted_with_its_reason(truth: BagTruth):
    image = ENCODER.encode_image(np.zeros((2, 3, 3), np.uint8), 'rgb8', ENCODER.make_header(5, ''))
    gap = info_message(PETS)
    gap.class_map[1].class_id = 2
    for bad in (
        entry(MASK, image), entry(MASK, image), entry(MASK, info_message(PETS), 5), entry(BOXES, boxes_message(), None),
        BagMessage(BOXES, 0, None, None, 'not readable: too short'), entry(f'{BOXES}/label_info', image),
        entry(f'{BOXES}/label_info', gap), entry('/elsewhere', image),
    ):  # fmt: skip
        truth.add(bad)
    reasons = sorted((count, reason.partition(': ')[2][:44]) for reason, count in truth.unusable.items())
    assert [count for count, _ in reasons] == [1, 1, 1, 1, 1, 2]
    assert reasons[-1][1].startswith("mask.encoding: expected mono8 with class ids")
    assert truth.find('', 5) is None


def write_truth_bag(path: Path, *, names: str, late: bool = False) -> Path:
    """A drive of three frames whose truth is on /gt/mask and /gt/boxes; the label set of the boxes may come last."""
    info = ('/gt/boxes/label_info', LABEL_INFO, info_message(CITYSCAPES_THINGS_8))
    with BagWriter(path / 'bag') as writer:
        if not late:
            writer.write(*info[:2], FIRST_NS, info[2])
        for frame in frames(3):
            header = writer.encoder.make_header(frame.stamp_ns, 'camera')
            writer.write('/image', IMAGE, frame.stamp_ns, writer.encoder.encode_image(frame.image, 'rgb8', header))
            mask = writer.encoder.encode_image(frame.semantic, 'mono8', header)
            writer.write('/gt/mask', IMAGE, frame.stamp_ns, mask)
            boxes = boxes_message(names)
            boxes.header = header
            boxes.detections[0].id = '7'
            writer.write('/gt/boxes', DETECTIONS, frame.stamp_ns, boxes)
            instances = writer.encoder.encode_image(frame.instances, '16UC1', header)
            writer.write('/gt/cars', IMAGE, frame.stamp_ns, instances)
        if late:
            writer.write(*info[:2], FIRST_NS + 10**10, info[2])
    return path / 'bag'


TOPICS = ('/gt/mask', '/gt/boxes', '/gt/cars')


@pytest.mark.parametrize('late', [False, True])
@pytest.mark.parametrize('name', ['rider', '1'])
def test_label_info_counts_wherever_it_is_in_the_bag(tmp_path: Path, name, late):
    source = open_input(write_truth_bag(tmp_path, names=name, late=late), (), TOPICS)
    truth = find_truth(source, TOPICS, DEFAULT, tmp_path)
    read_truth(source.path, truth)
    assert truth.unusable == {}
    assert truth.labels.detection is CITYSCAPES_THINGS_8
    assert truth.labels.semantic is CITYSCAPES_19
    found = truth.find('', FIRST_NS)
    assert [truth.labels.detection.names[i] for i in found.class_ids] == ['rider']
    np.testing.assert_array_equal(found.instances, next(frames(1)).instances == 7)


@pytest.mark.parametrize('cameras', [('',), ('left', 'right')])
def test_depth_and_motion_are_found_among_the_topics(tmp_path: Path, cameras: tuple[str, ...]):
    stills = list(render_sequence(frames=2, size_hw=(64, 128), seed=1, geometry=True))
    drive = [
        DriveFrame(
            FIRST_NS + still.stamp_ns, still.image, depth=still.depth * factor, motion=still.motion, camera=camera
        )
        for still in stills
        for factor, camera in enumerate(cameras, 1)
    ]
    write_drive(tmp_path / 'bag', drive, labels=None, topic='/image_raw')
    source = open_input(tmp_path / 'bag', ('all',))
    assert set(source.cameras) == set(cameras)
    prefix = f'/{cameras[0]}/ground_truth'.replace('//', '/')
    for topics, maps in (
        ((), {'depth', 'motion'}),
        ((f'{prefix}/depth',), {'depth'}),
        ((f'{prefix}/motion/mask',), {'motion'}),
    ):
        truth = find_truth(source, topics, DEFAULT, tmp_path)
        assert truth.maps == maps
        read_truth(source.path, truth)
        found = truth.find(cameras[0], drive[0].stamp_ns)
        assert {name for name in ('depth', 'motion') if getattr(found, name) is not None} == maps
    truth = find_truth(source, (), DEFAULT, tmp_path)
    read_truth(source.path, truth)
    for frame in drive:
        found = truth.find(frame.camera, frame.stamp_ns)
        np.testing.assert_array_equal(found.depth, frame.depth)
        np.testing.assert_array_equal(found.motion, frame.motion)
    assert truth.unusable == {}


def test_topics_of_truth_are_checked(tmp_path: Path):
    source = open_input(write_truth_bag(tmp_path, names='1'), (), TOPICS)
    assert list(source.cameras.values()) == [('/image', IMAGE, 3)]  # the masks are no camera's
    assert find_truth(source, (), DEFAULT, tmp_path) is None
    assert find_truth(source, TOPICS, DEFAULT, tmp_path).maps == frozenset()
    with pytest.raises(DatasetError, match=r"no topic '/gt/masks'; there is: /gt/boxes, /gt/boxes/label_info"):
        find_truth(source, ('/gt/masks',), DEFAULT, tmp_path)
    with pytest.raises(DatasetError, match=r"'/gt/boxes/label_info' to be sensor_msgs.* it is vision_msgs/msg/LabelI"):
        find_truth(source, ('/gt/boxes/label_info',), DEFAULT, tmp_path)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labelled images whose names have stamps 0.1 s apart."""
    folder = tmp_path_factory.mktemp('cityscapes')
    label = np.full((48, 96), 7, np.uint8)
    for index in range(3):
        write_image(folder, f'front_{FIRST_NS // 10**9}_{index * 10**8:09d}', label, label.astype(np.uint16))
    return folder


def test_images_of_a_dataset_are_found_by_their_stamps(root: Path):
    dataset = Cityscapes(root=root, split='val', with_instances=True)
    truth = DatasetTruth(dataset, 'cityscapes sample', tolerance_ns=40_000_000)
    for stamp_ns, index in ((0, 0), (39_000_000, 0), (-40_000_000, 0), (61_000_000, 1), (240_000_000, 2)):
        found = truth.find('any', FIRST_NS + stamp_ns)
        assert found.image_id == f'front_1700000000_{index}00000000'
        assert (found.semantic == 0).all()
        assert found.boxes_xyxy.shape == (0, 4)
        assert not found.instances.any()
    for stamp_ns in (-FIRST_NS, -40_000_001, 50_000_000, 240_000_001):
        assert truth.find('', FIRST_NS + stamp_ns) is None
    assert truth.labels.semantic is not None
    assert truth.description == 'cityscapes sample'


def test_a_table_may_say_the_stamps(tmp_path: Path):
    dataset = Cityscapes(root=write_cityscapes(tmp_path / 'data'), split='val')
    with pytest.raises(DatasetError, match=r'none of the 3 images of sample has a stamp; .*--truth-stamps CSV'):
        DatasetTruth(dataset, 'sample')
    table = tmp_path / 'stamps.csv'
    table.write_text('stamp_ns,image_id\n77,aachen_000002_000019\n5,unknown\n')
    truth = DatasetTruth(dataset, 'sample', stamps=table, tolerance_ns=0)
    assert truth.find('', 77).image_id == 'aachen_000002_000019'
    assert truth.find('', 78) is None


def test_a_damaged_image_costs_only_its_own_frame(tmp_path: Path):
    label = np.full((48, 96), 7, np.uint8)
    for index in range(2):
        write_image(tmp_path, f'front_1700000000_{index:09d}', label, label.astype(np.uint16))
    [path] = (tmp_path / 'gtFine' / 'val').rglob('*_000000000_gtFine_labelIds.png')
    path.write_bytes(path.read_bytes()[:40])
    truth = DatasetTruth(Cityscapes(root=tmp_path, split='val'), 'sample', tolerance_ns=0)
    for _ in range(2):
        assert truth.find('', FIRST_NS) is None
    assert truth.find('', FIRST_NS + 1) is not None
    [(reason, count)] = truth.unusable.items()
    assert str(path) in reason
    assert count == 1


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'image_id is missing'),
        ('image_id\na\n', 'stamp_ns is missing'),
        ('image_id,stamp_ns\na,1.5\n', "whole nanoseconds: .*'1.5'"),
        ('image_id,stamp_ns\na\n', 'whole nanoseconds'),
        ('image_id,stamp_ns\na,\n', 'whole nanoseconds'),
        (f'image_id,stamp_ns\na,{2**63}\n', 'whole nanoseconds'),
        ('\ufeffimage_id,stamp_ns\n\udcff', 'whole nanoseconds'),
    ],
)
def test_a_table_of_another_kind_is_one_clear_error(tmp_path: Path, text, message):
    path = tmp_path / 'stamps.csv'
    path.write_bytes(text.encode('utf-8', 'surrogateescape'))
    with pytest.raises(ConfigError, match=message) as caught:
        read_stamps(path)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_table_that_is_not_there_is_one_clear_error(tmp_path: Path):
    with pytest.raises(ConfigError, match='No such file'):
        read_stamps(tmp_path / 'nowhere.csv')


def test_a_table_of_a_spreadsheet_is_read(tmp_path: Path):
    path = tmp_path / 'stamps.csv'
    path.write_bytes('\ufeffimage_id,stamp_ns\r\n"a, b",12\r\n'.encode())
    assert read_stamps(path) == {'a, b': 12}


@given(st.integers(0, 2**63 - 1), st.text('abc_-.', max_size=5), st.text('abc_-.', max_size=5))
def test_stamps_are_found_in_names(stamp_ns, before, after):
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    assert stamp_in_name(f'{before}{seconds}_{nanoseconds:09d}{after}') == stamp_ns
    if stamp_ns >= 10**15:
        assert stamp_in_name(f'{before}{stamp_ns}{after}') == stamp_ns


@given(st.text(st.sampled_from('0123456789_.-ab'), max_size=40))
def test_any_name_has_a_stamp_or_none(name):
    found = stamp_in_name(name)
    assert found is None or found >= 0


@pytest.mark.parametrize(
    'name',
    ['', 'aachen_000000_000019', '12345678901_000000000', '12345678901234567890', str(2**63), '9999999999_000000000'],
)
def test_names_without_stamps(name):
    assert stamp_in_name(name) is None


NAMES = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\x00\r\n'), min_size=1)


@given(st.dictionaries(NAMES, st.integers(-(2**63), 2**63 - 1)))
def test_tables_of_stamps_round_trip(tmp_path_factory, stamps):
    path = tmp_path_factory.mktemp('stamps') / 'stamps.csv'
    with path.open('w', encoding='utf-8', newline='') as file:
        csv.writer(file).writerows([('image_id', 'stamp_ns'), *stamps.items()])
    assert read_stamps(path) == stamps


