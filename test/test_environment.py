"""The environment that `make env` builds: its messages, its failure lines and the choice of its world."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from environment_tree import BARE, BASE_PYTHON, REPO, copy_tree, load

MESSAGES = (
    'Point2D Pose2D BoundingBox2D BoundingBox2DArray BoundingBox3D BoundingBox3DArray ObjectHypothesis '
    'ObjectHypothesisWithPose Classification Detection2D Detection2DArray Detection3D Detection3DArray VisionClass '
    'LabelInfo VisionInfo'
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_tree(tmp_path)


@pytest.fixture
def env(tree: Path) -> ModuleType:
    return load(tree)


def make_env(tree: Path, **variables: str) -> subprocess.CompletedProcess:
    command = [*BARE, str(tree / 'underlay' / 'env.py'), 'build']
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60)


# ---------------------------------------------------------------------------------------------- the messages


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('Detection2DArray', 'RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968'),
        ('LabelInfo', 'RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783'),
    ],
)
def test_installed_messages_have_the_hash_of_the_public_interface(name: str, expected: str) -> None:
    index = pytest.importorskip('ament_index_python.packages', reason='needs ROS 2')
    share = Path(index.get_package_share_directory('vision_msgs'))
    description = json.loads((share / 'msg' / f'{name}.json').read_text())
    hashes = {entry['type_name']: entry['hash_string'] for entry in description['type_hashes']}
    assert hashes[f'vision_msgs/msg/{name}'] == expected


def test_underlay_has_the_messages_of_vision_msgs_and_builds_each() -> None:
    folder = REPO / 'underlay' / 'vision_msgs'
    assert sorted(file.stem for file in (folder / 'msg').glob('*.msg')) == sorted(MESSAGES.split())
    built = re.findall(r'msg/(\w+)\.msg', (folder / 'CMakeLists.txt').read_text())
    assert sorted(built) == sorted(MESSAGES.split())


# ------------------------------------------------------------------------------------------ the failure lines


@pytest.mark.parametrize('version', [(3, 9, 20), (3, 15, 0), (2, 7, 18)])
def test_python_without_wheels_is_named(env: ModuleType, version: tuple[int, ...]) -> None:
    problem = env.machine.python_problem(version, 'cpython')
    assert 'CPython 3.10 to 3.14' in problem
    assert f'cpython {version[0]}.{version[1]}' in problem


@pytest.mark.parametrize('version', [(3, 10, 0), (3, 14, 9)])
def test_python_with_wheels_is_accepted(env: ModuleType, version: tuple[int, ...]) -> None:
    assert env.machine.python_problem(version, 'cpython') == ''
    assert 'pypy' in env.machine.python_problem(version, 'pypy')


def test_build_without_compiler_ends_with_one_line(tree: Path, tmp_path: Path) -> None:
    result = make_env(tree, PATH=str(tmp_path), CXX='')
    assert result.returncode == 1
    assert result.stderr.count('\n') == 1
    assert 'no C++ compiler (c++, g++, clang++) on PATH' in result.stderr
    assert not (tree / '.venv').exists()


def test_build_refuses_an_environment_that_it_did_not_make(tree: Path) -> None:
    (tree / '.venv').mkdir()
    (tree / '.venv' / 'pyvenv.cfg').write_text('mine')
    result = make_env(tree)
    assert result.returncode == 1
    assert 'was not made by this program' in result.stderr
    assert (tree / '.venv' / 'pyvenv.cfg').read_text() == 'mine'


def test_run_before_build_says_so(tree: Path) -> None:
    command = [*BARE, str(tree / 'underlay' / 'env.py'), 'run', '--', 'true']
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert result.stderr == 'env: the environment is not complete: run `make env`\n'


def test_compiler_of_cxx_must_exist(env: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(env.EnvError, match='nonesuch'):
        env.machine.check_compiler({'PATH': os.environ['PATH'], 'CXX': 'nonesuch -m64'})
    compiler = tmp_path / 'clang++'
    compiler.write_text('#!/bin/sh\n')
    compiler.chmod(0o755)
    env.machine.check_compiler({'PATH': str(tmp_path)})


def test_missing_headers_name_the_package(env: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(env.EnvError, match='python3-dev'):
        env.machine.check_headers(tmp_path)
    (tmp_path / 'Python.h').touch()
    env.machine.check_headers(tmp_path)


def test_full_disk(env: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage._replace(free=7_900_000_000))
    with pytest.raises(env.EnvError, match=r'needs 8 GB .* 7\.9 GB are free'):
        env.machine.check_disk(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage._replace(free=8_100_000_000))
    env.machine.check_disk(tmp_path)


@pytest.mark.parametrize(
    ('system', 'machine', 'libc', 'installed', 'message'),
    [
        ('Darwin', 'arm64', 'glibc 2.36', True, 'this is Darwin on arm64'),
        ('Linux', 'riscv64', 'glibc 2.36', True, 'this is Linux on riscv64'),
        ('Linux', 'aarch64', 'glibc 2.36', False, 'no wheels for aarch64'),
        ('Linux', 'x86_64', 'glibc 2.27', False, 'this is glibc 2.27'),
        ('Linux', 'x86_64', 'another C library', False, 'this is another C library'),
        ('Linux', 'aarch64', 'glibc 2.39', True, ''),
        ('Linux', 'x86_64', 'glibc 2.28', False, ''),
    ],
)
def test_machine(
    env: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    machine: str,
    libc: str,
    installed: bool,
    message: str,
) -> None:
    monkeypatch.setattr(env.machine.platform, 'system', lambda: system)
    monkeypatch.setattr(env.machine.platform, 'machine', lambda: machine)
    monkeypatch.setattr(env.machine, 'c_library', lambda: libc)
    with pytest.raises(env.EnvError, match=message) if message else contextlib.nullcontext():
        env.machine.check_machine(installed)


def test_venv_falls_back_where_ensurepip_is_missing(env: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {'venv', 'ensurepip', 'virtualenv'}
    pip = [(23, 0)]
    monkeypatch.setattr(env.machine, 'usable', lambda name: name in there)
    monkeypatch.setattr(env.machine, 'outer_pip_version', lambda: pip[0])
    assert env.machine.venv_command(Path('/v'), True)[1:] == ['-m', 'venv', '--system-site-packages', '/v']
    there.remove('ensurepip')
    assert env.machine.venv_command(Path('/v'), False)[1:] == ['-m', 'venv', '--without-pip', '/v']
    pip[0] = (22, 2)  # has no --python yet
    assert env.machine.venv_command(Path('/v'), False)[1:] == ['-m', 'virtualenv', '/v']
    there.remove('virtualenv')
    with pytest.raises(env.EnvError, match='apt-get install python3-venv'):
        env.machine.venv_command(Path('/v'), False)


@pytest.mark.parametrize(
    ('log', 'code', 'expected'),
    [
        ('Collecting a\nERROR: No matching distribution found for a\n\n', 1, 'No matching distribution found for a'),
        ('2026-01-01T00:00:00,1 ERROR: [Errno 28] No space\n2026-01-01T00:00:00,2 bye', 1, '[Errno 28] No space'),
        ('WARNING: NewConnectionError\nERROR: gone', 1, 'no connection to the package index: gone'),
        ('ERROR: Cannot install a\nERROR: ResolutionImpossible: for help visit x', 1, 'Cannot install a'),
        ('/usr/bin/python: No module named pip\n', 1, '/usr/bin/python: No module named pip'),
        ('Collecting a\n', -9, 'pip was ended by signal 9'),
    ],
)
def test_failure_line_of_pip(env: ModuleType, log: str, code: int, expected: str) -> None:
    assert env.packages.pip_failure(log, code) == expected


def test_failed_download_ends_with_one_line_and_resumes(tree: Path, tmp_path: Path) -> None:
    module = load(tree)
    try:
        module.preflight(module.World(False, '', ''), ['venv', 'underlay', 'torch'])
    except module.EnvError as error:
        pytest.skip(f"this machine cannot build the wheels' world: {error}")
    offline = {'PIP_NO_INDEX': '1', 'PIP_FIND_LINKS': str(tmp_path), 'PIP_CONFIG_FILE': os.devnull}
    first = make_env(tree, **offline)
    assert first.returncode == 1
    assert first.stderr.count('\n') == 1
    assert 'ros-' in first.stderr.partition('env: ros: ')[2].partition('(log:')[0]
    assert 'it resumes' in first.stderr
    assert '[1/8] virtual environment: ' in first.stdout
    second = make_env(tree, **offline)
    assert second.returncode == 1
    assert 'virtual environment:' not in second.stdout
    assert '[1/7] ROS 2 from wheels' in second.stdout


# ------------------------------------------------------------------------------------------------ the worlds


def package(folder: Path, name: str, code: str = '') -> None:
    (folder / name / 'msg').mkdir(parents=True)
    (folder / name / '__init__.py').write_text(code)
    (folder / name / 'msg' / '__init__.py').touch()


def test_installed_ros_needs_code_of_both_packages(env: ModuleType, tmp_path: Path) -> None:
    package(tmp_path, 'rclpy')
    (tmp_path / 'vision_msgs').mkdir()  # like underlay/vision_msgs: messages, but no Python package
    rclpy = str(tmp_path / 'rclpy' / '__init__.py')
    assert env.machine.find_installed_ros([str(tmp_path)]) == (rclpy, '')
    (tmp_path / 'vision_msgs' / '__init__.py').touch()
    assert env.machine.find_installed_ros([str(tmp_path)])[1]


@pytest.mark.parametrize(
    ('code', 'installed', 'remark'), [('', True, ''), ('import nonesuch', False, "No module named 'nonesuch'")]
)
def test_installed_ros_counts_only_if_it_can_be_imported(
    env: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, installed: bool, remark: str
) -> None:
    package(tmp_path, 'rclpy', code)
    package(tmp_path, 'vision_msgs')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    monkeypatch.setattr(sys, 'executable', BASE_PYTHON)
    world, why = env.machine.detect_world({})
    assert world.installed is installed
    assert remark in why
    assert str(tmp_path) in world.seen
    monkeypatch.setattr(subprocess, 'run', None)  # nothing changed: the answer is known
    assert env.machine.detect_world(world._asdict()) == (world, '')


def test_half_an_installed_ros_names_the_missing_package(
    env: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, 'rclpy')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    monkeypatch.setenv('ROS_DISTRO', 'kilted')
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    monkeypatch.setattr(sys, 'executable', BASE_PYTHON)
    if subprocess.run([BASE_PYTHON, '-c', 'import vision_msgs'], cwd='/', capture_output=True).returncode == 0:
        pytest.skip('this interpreter has vision_msgs')
    world, why = env.machine.detect_world({})
    assert not world.installed
    assert 'ros-kilted-vision-msgs' in why


def test_variables_of_other_environments_do_not_reach_the_wheels(env: ModuleType, tmp_path: Path) -> None:
    other, ros, cuda = tmp_path / 'other', tmp_path / 'ros', tmp_path / 'cuda'
    for folder in (other, ros, cuda):
        (folder / 'lib').mkdir(parents=True)
    (other / 'pyvenv.cfg').touch()
    (ros / 'lib' / 'librcutils.so').touch()
    base = {
        'LD_LIBRARY_PATH': f'{other}/lib:{cuda}/lib:{ros}/lib:/x/ros_rcl.libs:',
        'AMENT_PREFIX_PATH': f'{ros}:{tmp_path}/overlay',
        'FASTDDS_BUILTIN_TRANSPORTS': 'LARGE_DATA',
        'PATH': '/bin',
        'PIP_INDEX_URL': 'mine',
    }
    leaks = ['PYTHONPATH', 'PYTHONHOME', '_ROS_WHEELS_BOOTSTRAP_COMPLETE', 'RMW_IMPLEMENTATION', 'PIP_USER']
    base.update(dict.fromkeys([*leaks, 'VIRTUAL_ENV', 'CMAKE_PREFIX_PATH'], str(other)))
    clean = env.machine.environment(tmp_path / 'venv', False, base)
    assert clean == {
        'LD_LIBRARY_PATH': f'{cuda}/lib',
        'AMENT_PREFIX_PATH': f'{tmp_path}/venv:{tmp_path}/overlay',
        'CMAKE_PREFIX_PATH': f'{tmp_path}/venv',
        'VIRTUAL_ENV': f'{tmp_path}/venv',
        'FASTDDS_BUILTIN_TRANSPORTS': 'LARGE_DATA',
        'PATH': f'{tmp_path}/venv/bin:/bin',
        'PIP_INDEX_URL': 'mine',
    }
    sourced = env.machine.environment(tmp_path / 'venv', True, base)
    for name in ('PYTHONPATH', 'LD_LIBRARY_PATH', 'AMENT_PREFIX_PATH', 'CMAKE_PREFIX_PATH', 'RMW_IMPLEMENTATION'):
        assert sourced[name] == base[name]
    assert 'PYTHONHOME' not in sourced
