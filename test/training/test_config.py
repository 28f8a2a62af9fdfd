from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sembox_ros.config import from_mapping
from sembox_ros.data.datasets import load_dataset
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.losses.semantic import REGIONS
from sembox_ros.models.zoo import find_model
from sembox_ros.training.config import LossConfig, TrainConfig, load_train_config, write_train_config

RECIPES = sorted((Path(__file__).parents[2] / 'config').glob('*/*.yaml'))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / 'run.yaml'
    path.write_text(
        'name: x\nmodel_options: {neck_cells: 2}\nfreeze: [encoder]\ninput: {size_hw: [256, 512], resize: stretch}\n'
        'data:\n  root: /data\n  train: {split: train, limit: 7}\noptimizer:\n  lr: 1e-3\n'
    )
    return path


def test_values_of_the_file_and_defaults(file: Path):
    config = load_train_config(file)
    assert (config.name, config.freeze, config.model_options) == ('x', ('encoder',), {'neck_cells': 2})
    assert (config.input.size_hw, config.input.resize) == ((256, 512), 'stretch')
    assert config.data.options(config.data.train) == {'root': '/data', 'split': 'train', 'limit': 7}
    assert config.data.options(config.data.val) == {'root': '/data', 'split': 'val'}
    assert config.optimizer.lr == 0.001
    assert (config.epochs, config.optimizer.name, config.input.channel_order) == (100, 'adamw', 'rgb')
    assert config.folder == Path('runs/x')


def test_overrides_are_yaml_and_change_one_value_each(file: Path):
    config = load_train_config(
        file,
        [
            'epochs=3', 'optimizer.lr=5e-4', 'input.size_hw=[128,256]', 'freeze=[encoder, box_head]', 'out=/a=b',
            'loss.hard_pixels=true', 'data.train.limit=9', 'optimizer.clip_norm=5', 'model_options.box_head_depth=1',
        ],
    )  # fmt: skip
    assert config.epochs == 3
    assert config.optimizer.lr == 0.0005
    assert (config.input.size_hw, config.input.resize) == ((128, 256), 'stretch')
    assert config.freeze == ('encoder', 'box_head')
    assert config.folder == Path('/a=b')
    assert config.loss.hard_pixels is True
    assert config.data.train == {'split': 'train', 'limit': 9}
    assert (config.optimizer.clip_norm, type(config.optimizer.clip_norm)) == (5.0, float)
    assert config.model_options == {'neck_cells': 2, 'box_head_depth': 1}


@pytest.mark.parametrize(
    ('override', 'message'),
    [
        ('epoch=3', "TrainConfig: unknown option 'epoch' (did you mean epochs?)"),
        ('optimizer.l_r=3', "optimizer.OptimizerConfig: unknown option 'l_r' (did you mean lr?)"),
        ('optimizer.lr=fast', "optimizer.lr: expected float, got str 'fast'"),
        ('optimizer.lr=-1', 'optimizer.lr: expected a value in 0.0..100.0, got -1.0'),
        ('optimizer.lr=.nan', 'optimizer.lr: expected a finite number, got nan'),
        ('optimizer.name=adamx', "optimizer.name: expected one of adamw, adam, sgd; got 'adamx' (did you mean adam"),
        ('optimizer.milestones=[0.4, 80]', 'optimizer.milestones: expected shares of the run between 0 and 1'),
        ('optimizer={schedule: exponential, final_lr_ratio: 0}', 'optimizer.final_lr_ratio: expected more than 0'),
        ('augment.crop_hw=[100,256]', 'augment.crop_hw: expected multiples of 128 up to 8192, got (100, 256)'),
        ('augment.crop_hw=[128]', 'augment.crop_hw: expected two whole numbers (height, width), got (128,)'),
        ('epochs=2.5', 'epochs: expected int, got float 2.5'),
        ('epochs=0', 'epochs: expected a value in 1..inf, got 0'),
        ('epochs=true', 'epochs: expected int, got bool True'),
        ('epochs=null', 'epochs: expected int, got NoneType None'),
        ('input.size_hw=[100,256]', 'input.size_hw: expected multiples of 128 up to 8192, got (100, 256)'),
        ('input=5', 'input: expected InputConfig, got int 5'),
        ('data.train=val', "data.train: expected dict, got str 'val'"),
        ('augment.scale_min=3', 'augment.scale_min: expected at most scale_max = 2.0, got 3.0'),
        ('best_by=miou+fps', "best_by: expected one of miou, ap, pq, delta1, motion_miou, or a sum such as"),
        ('freeze=[[encoder]]', "freeze: expected names of parts, got ['encoder']"),
        ('freeze=encoder', "freeze: expected list or tuple, got str 'encoder'"),
        ('seed=1' + 30 * '0', 'seed: expected a value in 0..9223372036854775807'),
        ('epochs', "override: expected key=value such as epochs=3, got 'epochs'"),
    ],
)
def test_wrong_names_and_values(file: Path, override: str, message: str):
    with pytest.raises(ConfigError) as error:
        load_train_config(file, [override])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[1, 2]', 'expected names and values, got a list'),
        ('3', 'cannot be read as a training configuration'),
        ('a: [', 'cannot be read as a training configuration'),
        ('\xff', 'cannot be read as a training configuration'),
        ('1: 2', "unknown option '1'"),
        ('just words', "unknown option 'just words'"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, message: str):
    path = tmp_path / 'bad.yaml'
    path.write_bytes(text.encode('latin-1'))
    with pytest.raises(ConfigError) as error:
        load_train_config(path, ['epochs=2'])
    assert message in str(error.value)
    with pytest.raises(ConfigError):
        load_train_config(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r'absent\.yaml: cannot be read'):
        load_train_config(tmp_path / 'absent.yaml')


def test_an_empty_file_gives_the_defaults(tmp_path: Path):
    (tmp_path / 'empty.yaml').write_text('# nothing\n')
    assert load_train_config(tmp_path / 'empty.yaml') == TrainConfig()


def test_a_file_says_what_differs_from_its_base(file: Path, tmp_path: Path):
    folder = tmp_path / 'models'
    folder.mkdir()
    own = folder / 'own.yaml'
    own.write_text('base: ../run.yaml\nname: own\ndata: {train: {limit: 3}}\nfreeze: [box_head]\n')
    config = load_train_config(own, ['optimizer.lr=2e-3'])
    assert (config.name, config.freeze, config.optimizer.lr) == ('own', ('box_head',), 2e-3)
    assert config.data.train == {'split': 'train', 'limit': 3}
    assert (config.input, config.model_options) == (load_train_config(file).input, {'neck_cells': 2})
    write_train_config(config, folder / 'config.yaml')
    file.unlink()  # what a run keeps needs no base
    assert load_train_config(folder / 'config.yaml') == config


@pytest.mark.parametrize(
    ('base', 'message'),
    [
        ('absent.yaml', r'absent\.yaml: cannot be read as a training configuration'),
        ('other.yaml', r'own\.yaml: base: expected a file without a base of its own, got other\.yaml'),
        ('own.yaml', r'own\.yaml: base: expected a file without a base of its own, got own\.yaml'),
        ('list.yaml', r'list\.yaml: expected names and values, got a list'),
        ('.', 'cannot be read as a training configuration'),
        ('/etc/hostname', "base: expected the path of another file, relative to this one, got '/etc/hostname'"),
        ('""', "base: expected the path of another file, relative to this one, got ''"),
        ('3', 'base: expected the path of another file, relative to this one, got 3'),
        ('[run.yaml]', 'base: expected the path of another file, relative to this one, got .*run.yaml'),
    ],
)
def test_a_base_that_cannot_be_one(file: Path, base: str, message: str):
    file.with_name('own.yaml').write_text(f'base: {base}\n')
    file.with_name('other.yaml').write_text('base: run.yaml\n')
    file.with_name('list.yaml').write_text('[1]\n')
    with pytest.raises(ConfigError, match=message):
        load_train_config(file.with_name('own.yaml'))


def test_a_base_cannot_be_set_on_the_command_line(file: Path):
    with pytest.raises(ConfigError, match="unknown option 'base'"):
        load_train_config(file, ['base=run.yaml'])


def test_nothing_is_taken_from_the_environment(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('SECRET', 'leaked')
    file.write_text('name: "${oc.env:SECRET}"\nout: "${name}"\n')
    config = load_train_config(file, ['start_from=${oc.env:SECRET}'])
    file.with_name('own.yaml').write_text('base: "${oc.env:SECRET}"\n')
    with pytest.raises(ConfigError, match=r'\$\{oc\.env:SECRET'):
        load_train_config(file.with_name('own.yaml'))
    assert config.name == '${oc.env:SECRET}'
    assert (config.out, config.start_from) == ('${name}', '${oc.env:SECRET}')
    write_train_config(config, file.with_name('again.yaml'))
    assert 'leaked' not in file.with_name('again.yaml').read_text()
    assert load_train_config(file.with_name('again.yaml')) == config


def test_what_is_written_is_read_again(file: Path):
    config = load_train_config(file, ['optimizer.lr=1e-7', 'augment.hue=0.1', 'name="a: b # ü"', 'data.val.limit=2'])
    write_train_config(config, file.with_name('config.yaml'))
    assert load_train_config(file.with_name('config.yaml')) == config
    written = yaml.safe_load(file.with_name('config.yaml').read_text())
    assert set(written) == {f.name for f in dataclasses.fields(TrainConfig)}


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_the_recipes_load(path: Path):
    config = load_train_config(path, ['data.root=/data'])
    assert find_model(config.model).config.name == config.model
    assert config.data.root == '/data'


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_the_recipes_name_data_that_can_be_had(path: Path, tmp_path: Path):
    data = load_train_config(path, [f'data.root={tmp_path}']).data
    for part in (data.train, data.val):
        with pytest.raises(DatasetError, match=re.escape(str(tmp_path))):  # no ConfigError: all options are known
            load_dataset(data.dataset, data.options(part))


def test_there_are_recipes():
    assert 'sembox_b1_streets' in [path.stem for path in RECIPES]


def test_the_region_losses_are_those_that_exist():
    field = next(f for f in dataclasses.fields(LossConfig) if f.name == 'region_kind')
    assert set(field.metadata['choices']) == set(REGIONS)


# A busy machine is slow, which is not what is tested.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3), max_leaves=6
)
NAMES = st.sampled_from([f.name for f in dataclasses.fields(TrainConfig)])


@PATIENT
@given(values=st.dictionaries(NAMES, VALUES, max_size=4))
def test_anything_else_is_a_config_error(values: dict[str, Any]):
    try:
        config = from_mapping(TrainConfig, values)
    except ConfigError:
        return
    assert all(isinstance(part, str) for part in config.freeze)
    assert config.epochs >= 1


@PATIENT
@given(name=NAMES | st.just('optimizer.lr') | st.text(max_size=6), value=st.text(max_size=12))
def test_any_override_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str, value: str):
    path = tmp_path_factory.getbasetemp() / 'fuzz.yaml'
    path.write_text('epochs: 3\noptimizer: {lr: 0.1}\n')
    try:
        config = load_train_config(path, [f'{name}={value}'])
    except ConfigError:
        return
    assert isinstance(config, TrainConfig)


@PATIENT
@given(text=st.text(max_size=40))
def test_any_file_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str):
    path = tmp_path_factory.getbasetemp() / 'fuzz_file.yaml'
    path.write_text(text)
    try:
        config = load_train_config(path)
    except ConfigError:
        return
    assert isinstance(config, TrainConfig)
