"""Rendered streets on disk: exact encodings, and the official Cityscapes tools run unchanged on them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as instance_tool  # noqa: N813
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as pixel_tool  # noqa: N813
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import id2label, name2label, trainId2label
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from cityscapesscripts.preparation.createTrainIdLabelImgs import main as create_train_ids
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import createLabelImage
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sembox_ros.data.cityscapes_layout import LABEL_IDS, FrameName, encode_labels, write_frame
from sembox_ros.data.streets import StreetFrame, render_street
from sembox_ros.data.streets import dataset as street_dataset
from sembox_ros.data.streets.dataset import (
    MAX_IMAGES,
    StreetSettings,
    frame_name,
    make_image,
    missing_images,
    open_folder,
    street_seed,
    write_images,
)
from sembox_ros.errors import ConfigError, DatasetError

SETTINGS = StreetSettings(seed=7, size_hw=(128, 256))
JOBS = [('train', 0), ('val', 0), ('val', 3), ('val', 104)]
ROAD, SKY, CAR = 0, 10, 13
KINDS = ('labelIds.png', 'instanceIds.png', 'labelTrainIds.png', 'color.png', 'polygons.json', 'leftImg8bit')


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('streets') / 'data'
    open_folder(folder, SETTINGS)
    assert list(write_images(folder, SETTINGS, JOBS, workers=1)) == JOBS
    return folder


@pytest.fixture(scope='module')
def stills() -> list[StreetFrame]:
    return [render_street(size_hw=SETTINGS.size_hw, seed=street_seed(7, *job)) for job in JOBS]


def load(root: Path, job: tuple[str, int], kind: str) -> np.ndarray:
    with Image.open(frame_name(*job).paths(root)[kind]) as picture:
        return np.array(picture)


def tool_args(tool: ModuleType, folder: Path, **changes: Any) -> Any:
    """The tool's own settings with its documented parameters changed, as its comments invite to."""
    args = copy.copy(tool.args)
    for name, value in {'quiet': True, 'exportFile': str(folder / 'result' / 'scores.json'), **changes}.items():
        assert hasattr(args, name)
        setattr(args, name, value)
    return args


def test_the_layout_is_that_of_cityscapes(root: Path) -> None:
    files = sorted(str(path.relative_to(root)) for path in root.rglob('*') if path.is_file())
    expected = ['streets.json']
    for split, stem in (
        ('train', 'streets00000_000000_000000'),
        ('val', 'streets10000_000000_000000'),
        ('val', 'streets10000_000003_000000'),
        ('val', 'streets10001_000104_000000'),
    ):
        city = stem.split('_')[0]
        expected.append(f'leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png')
        expected += [f'gtFine/{split}/{city}/{stem}_gtFine_{kind}' for kind in KINDS[:-1]]
    assert files == sorted(expected)


def test_files_hold_what_was_rendered(root: Path, stills: list[StreetFrame]) -> None:
    for job, still in zip(JOBS, stills, strict=True):
        np.testing.assert_array_equal(load(root, job, 'leftImg8bit'), still.image)
        train_ids, label_ids = load(root, job, 'labelTrainIds.png'), load(root, job, 'labelIds.png')
        np.testing.assert_array_equal(train_ids, still.semantic)
        for label_id in np.unique(label_ids).tolist():
            assert np.unique(still.semantic[label_ids == label_id]).tolist() == [id2label[label_id].trainId]
        np.testing.assert_array_equal(label_ids == name2label['ego vehicle'].id, still.ego)
        color = load(root, job, 'color.png')
        assert color.shape == (128, 256, 4)
        for label_id in np.unique(label_ids).tolist():
            found = np.unique(color[label_ids == label_id], axis=0).tolist()
            assert found == [[*id2label[label_id].color, 255]]


def test_instance_ids_are_the_tracks(root: Path, stills: list[StreetFrame]) -> None:
    things = 0
    for job, still in zip(JOBS, stills, strict=True):
        ids, label_ids = load(root, job, 'instanceIds.png'), load(root, job, 'labelIds.png')
        assert ids.dtype == np.uint16
        told_apart = still.track_ids[~still.is_crowd]
        counted = np.isin(still.instance, told_apart)
        np.testing.assert_array_equal(ids[~counted], label_ids[~counted])  # specks are groups
        pairs = np.unique(np.stack((ids, still.instance))[:, counted], axis=1).T
        assert len(pairs) == len(told_apart) == len(np.unique(pairs[:, 0]))  # one id for each track
        areas = np.bincount(still.instance.ravel())[still.track_ids]
        assert (still.is_crowd == (areas < 128 * 256 / 10_000)).all()
        numbers: dict[int, list[int]] = {}
        for instance_id, track in pairs.tolist():
            train_id = int(still.class_ids[still.track_ids == track][0])
            assert instance_id // 1000 == LABEL_IDS[train_id]
            numbers.setdefault(train_id, []).append(instance_id % 1000)
        assert all(sorted(found) == list(range(len(found))) for found in numbers.values())
        things += len(pairs)
    assert things > 40


@pytest.mark.parametrize(('seed', 'shown'), [(5, True), (4, False)])
def test_the_bonnet_is_known_and_unlabeled(seed: int, shown: bool) -> None:
    frame = render_street(size_hw=(64, 128), seed=seed)
    assert frame.ego.any() == frame.ego[-1].all() == shown
    assert (frame.semantic[frame.ego] == 255).all()


def test_the_table_of_label_ids_is_the_official_one() -> None:
    assert list(LABEL_IDS) == [trainId2label[train_id].id for train_id in range(19)]


def agreement(root: Path, job: tuple[str, int]) -> tuple[float, float]:
    annotation = Annotation()
    annotation.fromJsonFile(str(frame_name(*job).paths(root)['polygons.json']))
    label_ids = np.array(createLabelImage(annotation, 'ids'))
    instance_ids = np.array(createInstanceImage(annotation, 'ids'))
    return (
        float((label_ids == load(root, job, 'labelIds.png')).mean()),
        float((instance_ids == load(root, job, 'instanceIds.png')).mean()),
    )


def test_official_painting_of_the_polygons_gives_the_label_files(root: Path) -> None:
    for job in JOBS:
        assert min(agreement(root, job)) >= 0.98


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_polygons_of_any_blocks_paint_the_same_labels(data: st.DataObject) -> None:
    blocks = data.draw(st.lists(st.sampled_from([ROAD, SKY, CAR, 255]), min_size=12, max_size=12))
    semantic = np.kron(np.array(blocks, np.uint8).reshape(3, 4), np.ones((8, 8), np.uint8))
    instance = np.where(semantic == CAR, np.arange(32)[None, :] // 8 + 1, 0).astype(np.int32)  # a car per column
    ego = np.zeros(semantic.shape, bool)
    labels = encode_labels(semantic, instance, ego)
    annotation = Annotation()
    annotation.fromJsonText(json.dumps(labels.polygons))
    painted = np.array(createLabelImage(annotation, 'ids'))
    # Joining lines of a car in two pieces may stay visible: at most two of the 32 columns.
    assert (painted == labels.label_ids).mean() > 0.9
    tracks = len(np.unique(instance)) - (instance == 0).any()
    assert len(np.unique(labels.instance_ids[instance > 0])) == tracks


def test_single_pixels_are_painted() -> None:
    semantic = np.zeros((8, 8), np.uint8)
    semantic[4, 5], instance = CAR, np.zeros((8, 8), np.int32)
    instance[4, 5] = 9
    labels = encode_labels(semantic, instance, np.zeros((8, 8), bool))
    annotation = Annotation()
    annotation.fromJsonText(json.dumps(labels.polygons))
    np.testing.assert_array_equal(np.array(createInstanceImage(annotation, 'ids')), labels.instance_ids)
    assert labels.instance_ids[4, 5] == 26000


@pytest.mark.parametrize('train_id', [ROAD, 255])
def test_an_instance_must_be_a_thing(train_id: int) -> None:
    semantic, instance = np.full((4, 4), train_id, np.uint8), np.zeros((4, 4), np.int32)
    instance[1, 1] = 3
    with pytest.raises(DatasetError, match='instance 3'):
        encode_labels(semantic, instance, np.zeros((4, 4), bool))


def test_an_instance_has_one_class() -> None:
    semantic, instance = np.full((4, 4), CAR, np.uint8), np.full((4, 4), 3, np.int32)
    semantic[0] = 14
    with pytest.raises(DatasetError, match='instance 3'):
        encode_labels(semantic, instance, np.zeros((4, 4), bool))


def test_pixel_tool_gives_one_for_the_truth(root: Path, tmp_path: Path) -> None:
    args = tool_args(pixel_tool, tmp_path, evalInstLevelScore=False)
    truth = [str(frame_name(*job).paths(root)['labelIds.png']) for job in JOBS[1:]]
    scores = pixel_tool.evaluateImgLists(truth, truth, args)
    assert scores['averageScoreClasses'] == 1.0
    assert scores['classScores']['road'] == 1.0


def write_synthetic(root: Path) -> dict[str, Path]:
    """Ten rows of sky over ten of road, on it two cars of 15 x 8 px; the last row is the bonnet."""
    semantic = np.full((21, 40), ROAD, np.uint8)
    semantic[:10] = SKY
    instance, ego = np.zeros((21, 40), np.int32), np.zeros((21, 40), bool)
    instance[11:19, 2:17], instance[11:19, 22:37] = 5, 8
    semantic[instance > 0] = CAR
    semantic[20], ego[20] = 255, True
    name = FrameName('val', 'streets10000', 1)
    write_frame(root, name, np.zeros((21, 40, 3), np.uint8), encode_labels(semantic, instance, ego))
    return name.paths(root)


def test_pixel_tool_gives_the_hand_computed_score(tmp_path: Path) -> None:
    files = write_synthetic(tmp_path)
    guess = np.array(Image.open(files['labelIds.png']))
    guess[8:10] = 7  # 80 pixels of sky called road
    guess[20] = 23  # the bonnet called sky: not judged
    Image.fromarray(guess).save(tmp_path / 'guess.png')
    args = tool_args(pixel_tool, tmp_path, evalInstLevelScore=False)
    scores = pixel_tool.evaluateImgLists([str(tmp_path / 'guess.png')], [str(files['labelIds.png'])], args)
    # Sky 320 of 400; road: 10 * 40 - 240 = 160 hits, 80 too many; cars all.
    assert scores['classScores']['sky'] == pytest.approx(0.8)
    assert scores['classScores']['road'] == pytest.approx(160 / 240)
    assert scores['averageScoreClasses'] == pytest.approx((0.8 + 2 / 3 + 1) / 3)


@pytest.fixture
def _former_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two habits of older numpy that the instance tool (2.3.0) relies on; the tool itself stays as it is.

    `in1d` is called `isin` now, and `count_nonzero` gave an int, which the tool writes as JSON.
    """
    counted = np.count_nonzero
    monkeypatch.setattr(np, 'in1d', np.isin, raising=False)
    monkeypatch.setattr(np, 'count_nonzero', lambda array: int(counted(array)))


def predict_instances(instance_file: Path, folder: Path, *, skip: int | None = None) -> Path:
    """A prediction file of the instance tool with the true masks, without the instance `skip`."""
    folder.mkdir()
    ids = np.array(Image.open(instance_file))
    lines = []
    for instance_id in np.unique(ids[ids >= 1000]).tolist():
        if instance_id != skip:
            Image.fromarray(((ids == instance_id) * 255).astype(np.uint8)).save(folder / f'{instance_id}.png')
            lines.append(f'{instance_id}.png {instance_id // 1000} 0.9\n')
    (folder / 'predictions.txt').write_text(''.join(lines))
    return folder / 'predictions.txt'


@pytest.mark.usefixtures('_former_numpy')
@pytest.mark.parametrize(('skip', 'expected'), [(None, 1.0), (26001, 0.5)])
def test_instance_tool_gives_the_hand_computed_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skip: int | None, expected: float
) -> None:
    files = write_synthetic(tmp_path)
    monkeypatch.chdir(tmp_path)  # the tool leaves matches.json there
    args = tool_args(
        instance_tool, tmp_path, gtInstancesFile=str(tmp_path / 'truth.json'), predictionPath=str(tmp_path)
    )
    guess = predict_instances(files['instanceIds.png'], tmp_path / 'guess', skip=skip)
    scores = instance_tool.evaluateImgLists([str(guess)], [str(files['instanceIds.png'])], args)
    assert scores['averages']['classes']['car']['ap'] == pytest.approx(expected)
    assert scores['averages']['classes']['car']['ap50%'] == pytest.approx(expected)


@pytest.mark.usefixtures('_former_numpy')
def test_instance_tool_gives_one_for_a_rendered_street(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = tool_args(
        instance_tool, tmp_path, gtInstancesFile=str(tmp_path / 'truth.json'), predictionPath=str(tmp_path)
    )
    truth = frame_name(*JOBS[1]).paths(root)['instanceIds.png']
    guess = predict_instances(truth, tmp_path / 'guess')
    scores = instance_tool.evaluateImgLists([str(guess)], [str(truth)], args)
    assert scores['averages']['allAp'] == pytest.approx(1.0)


def test_panoptic_tool_finds_every_segment(root: Path, tmp_path: Path, stills: list[StreetFrame]) -> None:
    convert2panoptic(str(root / 'gtFine'), str(tmp_path), False, ['val'])
    made = json.loads((tmp_path / 'cityscapes_panoptic_val.json').read_text())
    assert [image['id'] for image in made['images']] == [
        'streets10000_000000_000000', 'streets10000_000003_000000', 'streets10001_000104_000000',
    ]  # fmt: skip
    for annotation, still in zip(made['annotations'], stills[1:], strict=True):
        things = [s for s in annotation['segments_info'] if s['id'] >= 1000]
        stuff = sorted(s['category_id'] for s in annotation['segments_info'] if s['id'] < 1000)
        told_apart = ~still.is_crowd
        corners = still.boxes_xyxy[told_apart].tolist()
        assert {tuple(s['bbox']) for s in things} == {(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in corners}
        counted = np.isin(still.instance, still.track_ids[told_apart])
        known = still.semantic[~counted & (still.semantic != 255)]
        assert stuff == sorted(LABEL_IDS[train_id] for train_id in np.unique(known).tolist())
        groups = {LABEL_IDS[class_id] for class_id in still.class_ids[still.is_crowd].tolist()}
        assert {s['category_id'] for s in annotation['segments_info'] if s['iscrowd']} == groups


def test_train_id_tool_paints_nearly_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_image(tmp_path, SETTINGS, *JOBS[1])
    before = load(tmp_path, JOBS[1], 'labelTrainIds.png')
    monkeypatch.setenv('CITYSCAPES_DATASET', str(tmp_path))
    create_train_ids()
    assert (load(tmp_path, JOBS[1], 'labelTrainIds.png') == before).mean() >= 0.98


def test_streets_are_never_shared() -> None:
    indices = [*range(2000), MAX_IMAGES - 1]
    seeds = [street_seed(seed, split, i) for seed in (0, 1, 2, 999) for split in ('train', 'val') for i in indices]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 2**33  # the demo's and the bench's seeds are small


@given(st.tuples(st.integers(0, 2**70), st.sampled_from(['train', 'val']), st.integers(0, MAX_IMAGES - 1)))
def test_a_street_seed_tells_which_image_it_was_for(job: tuple[int, str, int]) -> None:
    high, index = divmod(street_seed(*job), 2**32)
    assert (high // 2 - 1, ('train', 'val')[high % 2], index) == job


@pytest.mark.parametrize('job', [(-1, 'train', 0), (0, 'test', 0), (0, 'val', MAX_IMAGES), (0, 'val', -1)])
def test_wrong_street_seeds_are_refused(job: tuple[int, str, int]) -> None:
    with pytest.raises(ConfigError):
        street_seed(*job)


def test_an_image_does_not_depend_on_how_many_there_are(root: Path, tmp_path: Path) -> None:
    list(write_images(tmp_path, SETTINGS, [('val', 104), ('train', 0), ('train', 1)], workers=2))
    for job in (JOBS[0], JOBS[3]):
        for kind in KINDS:
            there, here = frame_name(*job).paths(root)[kind], frame_name(*job).paths(tmp_path)[kind]
            assert there.read_bytes() == here.read_bytes(), kind


def test_only_missing_images_are_made(tmp_path: Path) -> None:
    small = StreetSettings(seed=0, size_hw=(32, 64))
    for index in (0, 2):
        make_image(tmp_path, small, 'train', index)
    frame_name('train', 2).paths(tmp_path)['color.png'].unlink()
    assert missing_images(tmp_path, {'train': 4, 'val': 1}) == [('train', 1), ('train', 2), ('train', 3), ('val', 0)]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / 'gtFine').write_text('in the way')
    with pytest.raises(DatasetError, match=r'gtFine.* cannot be written'):
        make_image(tmp_path, StreetSettings(seed=0, size_hw=(32, 64)), 'val', 0)


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / 'holiday.jpg').write_bytes(b'')
    with pytest.raises(DatasetError, match=r'holiday\.jpg.*--out'):
        open_folder(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ['holiday.jpg']
    with pytest.raises(DatasetError, match='is a file'):
        open_folder(tmp_path / 'holiday.jpg', SETTINGS)


def test_other_settings_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_folder(tmp_path, SETTINGS)
    open_folder(tmp_path, SETTINGS)
    with pytest.raises(DatasetError, match='seed 7, not 8'):
        open_folder(tmp_path, StreetSettings(seed=8, size_hw=(128, 256)))
    with pytest.raises(DatasetError, match='size_hw'):
        open_folder(tmp_path, StreetSettings(seed=7, size_hw=(128, 512)))
    monkeypatch.setattr(street_dataset, 'renderer_fingerprint', lambda: 'of another version')
    with pytest.raises(DatasetError, match='renderer'):
        open_folder(tmp_path, SETTINGS)


@given(content=st.one_of(st.binary(max_size=60), st.just(b'[' * 5000), st.just(b'{"seed": 7}'), st.just(b'0' * 20000)))
@settings(max_examples=40, deadline=None)
def test_a_damaged_settings_file_is_named(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp('damaged')
    (folder / 'streets.json').write_bytes(content)
    with pytest.raises(DatasetError, match='damaged'):
        open_folder(folder, SETTINGS)


@pytest.mark.parametrize(('seed', 'size_hw'), [(-1, (64, 64)), (0, (16, 64)), (0, (64, 9000))])
def test_wrong_settings_are_refused(seed: int, size_hw: tuple[int, int]) -> None:
    with pytest.raises(ConfigError):
        StreetSettings(seed=seed, size_hw=size_hw)
