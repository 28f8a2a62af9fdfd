"""The stages of `make env`: what they install, when they run again, and what the Makefile passes on."""

import ast
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import ModuleType

import pytest
from environment_tree import BARE, BASE_PYTHON, REPO, copy_tree, load


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_tree(tmp_path)


@pytest.fixture
def env(tree: Path) -> ModuleType:
    return load(tree)


# ---------------------------------------------------------------------------------- what is installed, and how


def test_every_package_is_pinned_for_every_python(env: ModuleType) -> None:
    text = (REPO / 'underlay' / 'constraints.txt').read_text()
    for name in [*env.packages.ROS, *env.packages.EVERYTHING]:
        lines = env.packages.pins([name], text)
        lines = [line for line in lines if env.packages.canonical(line) == env.packages.canonical(name)]
        assert all(re.fullmatch(r'[\w.-]+==[\w.]+(; python_version (<|>=) "3\.11")?', line) for line in lines), lines
        marks = [line.partition('; ')[2] for line in lines]
        assert marks in ([''], ['python_version < "3.11"', 'python_version >= "3.11"']), name


def test_everything_that_setup_asks_for_is_installed(env: ModuleType) -> None:
    calls = [node for node in ast.walk(ast.parse((REPO / 'setup.py').read_text())) if isinstance(node, ast.keyword)]
    required = ast.literal_eval(next(node.value for node in calls if node.arg == 'install_requires'))
    tests = ast.literal_eval(next(node.value for node in calls if node.arg == 'extras_require'))['test']
    assert {*required, *tests} <= set(env.packages.EVERYTHING)


def test_pins_beside_an_installed_ros_leave_what_is_there(env: ModuleType) -> None:
    text = '# note\nnumpy==9; python_version < "3.11"\ntorch==2.14.1\nPyYAML==6\nsetuptools==79\n'
    lines = env.packages.local_constraints(text, ['numpy', 'yaml', 'setuptools'], '1.26.4').splitlines()
    assert lines == ['torch==2.14.1', 'setuptools==79', 'numpy==1.26.4']


def test_build_machine_paths_are_replaced(env: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / 'share' / 'rclpy' / 'cmake'
    folder.mkdir(parents=True)
    old = '"/opt/python/cp312-cp312/include/python3.12;/opt/python/cp313-cp313t/lib/python3.13t/site-packages/numpy"'
    (folder / 'a.cmake').write_text(f'set(x {old})\nset(y "/opt/ros/include")\n')
    (folder / 'b.cmake').write_text('set(y "/usr/include")\n')
    untouched = (folder / 'b.cmake').stat().st_mtime_ns
    assert env.packages.rewrite_paths(tmp_path / 'share', '/inc\\1', '/a b/site') == 1
    assert (folder / 'a.cmake').read_text() == 'set(x "/inc\\1;/a b/site/numpy")\nset(y "/opt/ros/include")\n'
    assert (folder / 'b.cmake').stat().st_mtime_ns == untouched
    assert env.packages.rewrite_paths(tmp_path / 'share', '/inc\\1', '/a b/site') == 0


def test_half_installed_packages_are_installed_again(env: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    site = env.site_packages()
    for name in ('whole', 'half'):
        (site / f'{name}-1.dist-info').mkdir(parents=True)
    (site / 'whole-1.dist-info' / 'INSTALLER').touch()
    builder = env.Builder(env.World(False, '', ''), -1)
    commands: list[list[str]] = []
    monkeypatch.setattr(builder, 'run', lambda command, **_: commands.append(command) or 0)
    builder.pip(['half'], Path('pins'))
    assert [info.name for info in site.iterdir()] == ['whole-1.dist-info']
    assert commands[0][-3:] == ['--constraint', 'pins', 'half']
    assert '--python' in commands[0]  # this environment has no pip of its own


# ------------------------------------------------------------------------------------------------- the stamp


def keys(root: Path, world: tuple = (False, '', '')) -> dict[str, str]:
    module = load(root)
    return {stage.name: stage.key for stage in module.Builder(module.World(*world), -1).stages()}


def changed(root: Path, before: dict[str, str]) -> set[str]:
    after = keys(root)
    return {name for name in after if before.get(name) != after[name]}


def test_only_stages_whose_inputs_changed_run(tree: Path) -> None:
    before = keys(tree)
    assert list(before) == ['venv', 'ros', 'underlay', 'torch', 'packages', 'tools', 'alone', 'package']
    assert changed(tree, before) == set()
    message = tree / 'underlay' / 'vision_msgs' / 'msg' / 'Point2D.msg'
    message.write_text(message.read_text() + '# more\n')
    assert changed(tree, before) == {'underlay'}
    before = keys(tree)
    message.rename(message.with_name('Point3D.msg'))
    assert changed(tree, before) == {'underlay'}
    before = keys(tree)
    pins = tree / 'underlay' / 'constraints.txt'
    pins.write_text(re.sub(r'(?m)^pytest==.*', 'pytest==1', pins.read_text()))
    assert changed(tree, before) == {'tools'}
    before = keys(tree)
    pins.write_text(re.sub(r'(?m)^ros-fastdds==.*', 'ros-fastdds==1', pins.read_text()))
    assert changed(tree, before) == {'ros', 'underlay'}
    before = keys(tree)
    with (tree / 'underlay' / 'machine.py').open('a') as file:
        file.write('\n')
    assert changed(tree, before) == set(before) - {'venv'}


def test_another_folder_or_an_installed_ros_needs_another_environment(tree: Path) -> None:
    here = keys(tree)
    moved = tree.rename(tree.with_name('elsewhere'))
    assert keys(moved)['venv'] != here['venv']
    installed = keys(moved, (True, '/opt/ros/rclpy', ''))
    assert list(installed) == ['venv', 'torch', 'packages', 'tools', 'alone', 'package']
    assert installed['venv'] != keys(moved)['venv']


def test_interrupted_stage_runs_again_and_complete_ones_do_not(env: ModuleType) -> None:
    calls: list[str] = []
    stop = [True]

    def second() -> None:
        calls.append('second')
        if stop[0]:
            raise KeyboardInterrupt

    stages = [env.Stage('first', '', 'k1', lambda: calls.append('first')), env.Stage('second', '', 'k2', second)]
    builder = env.Builder(env.World(False, '', ''), -1)
    stamp = {'stages': {'second': 'an older key'}}
    with pytest.raises(KeyboardInterrupt):
        env.perform(builder, stages, stamp)
    done = env.read_stamp()['stages']
    assert done == {'first': 'k1'}
    stop[0] = False
    env.perform(builder, [stage for stage in stages if done.get(stage.name) != stage.key], {'stages': done})
    assert env.read_stamp()['stages'] == {'first': 'k1', 'second': 'k2'}
    assert calls == ['first', 'second', 'second']


@pytest.mark.parametrize('content', ['', '[]', '{"stages": 1}', '{'])
def test_damaged_stamp_means_nothing_is_done(env: ModuleType, content: str) -> None:
    env.VENV.mkdir()
    (env.VENV / 'stamp.json').write_text(content)
    assert env.read_stamp() == {}


def test_next_build_waits_for_what_a_killed_one_left_running(tree: Path) -> None:
    code = (
        'import sys; sys.path.insert(0, "underlay"); import env\n'
        '(env.VENV / "logs").mkdir(parents=True)\n'
        'with env.locked() as lock:\n'
        '    builder = env.Builder(env.World(False, "", ""), lock)\n'
        '    builder.run(["sh", "-c", "echo $$ > pid; exec sleep 30"])\n'
    )
    build = subprocess.Popen([*BARE, '-c', code], cwd=tree)
    pid = tree / '.venv' / 'pid'
    deadline = time.monotonic() + 10
    while not (pid.exists() and pid.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    build.kill()
    build.wait()
    handle = os.open(tree, os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(int(pid.read_text()), signal.SIGKILL)
        fcntl.flock(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def test_terminated_build_ends_its_programs(tree: Path) -> None:
    code = (
        'import signal, sys; sys.path.insert(0, "underlay"); import env\n'
        '(env.VENV / "logs").mkdir(parents=True)\n'
        'signal.signal(signal.SIGTERM, env.interrupt)\n'
        'with env.locked() as lock:\n'
        '    builder = env.Builder(env.World(False, "", ""), lock)\n'
        '    builder.run(["sh", "-c", "sleep 30 & echo $$ > pid; wait"])\n'
    )
    build = subprocess.Popen([*BARE, '-c', code], cwd=tree, stderr=subprocess.DEVNULL)
    pid = tree / '.venv' / 'pid'
    deadline = time.monotonic() + 10
    while not (pid.exists() and pid.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    build.terminate()
    assert build.wait(10) != 0
    handle = os.open(tree, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held by whatever is left of the process group
    finally:
        os.close(handle)


# ---------------------------------------------------------------------------------------------- the Makefile


@pytest.fixture
def recorder(tree: Path) -> Path:
    """A python3 that writes down how it is called."""
    if not shutil.which('make'):
        pytest.skip('needs make')
    (tree / 'bin').mkdir()
    script = tree / 'bin' / 'python3'
    note = 'import json, os, sys; print(json.dumps([os.getcwd(), os.environ.get("CI"), *sys.argv[1:]]), file=open'
    script.write_text(f'#!/bin/sh\nexec "{BASE_PYTHON}" -c \'{note}("calls", "a"))\' "$@"\n')
    script.chmod(0o755)
    return tree


def calls(command: list[str], tree: Path, cwd: Path) -> list[list]:
    path = os.pathsep.join([str(tree / 'bin'), os.environ['PATH']])
    variables = {k: v for k, v in os.environ.items() if k not in ('MAKEFLAGS', 'MFLAGS', 'PYTHON', 'CI')}
    subprocess.run(command, cwd=cwd, env={**variables, 'PATH': path}, check=True, timeout=30, stdin=subprocess.DEVNULL)
    return [json.loads(line) for line in (tree / 'calls').read_text().splitlines()]


def test_demo_passes_file_names_on_as_they_are(recorder: Path) -> None:
    name = 'my bag\'s $(shell touch pwned) $HOME `touch pwned`"; touch pwned; "'
    build, demo = calls(['make', '-s', 'demo', f'BAG={name}'], recorder, recorder)
    assert build[2:] == ['underlay/env.py', 'build']
    assert demo[2:] == ['underlay/env.py', 'run', '--', 'python', '-m', 'sembox_ros', 'demo', '--bag', name]
    assert not (recorder / 'pwned').exists()


def test_demo_without_files_and_with_another_python(recorder: Path, tmp_path: Path) -> None:
    other = tmp_path / 'other python'
    (recorder / 'bin' / 'python3').rename(other)
    build, demo = calls(['make', '-s', 'demo', 'IMAGES=a b', f'PYTHON={other}'], recorder, recorder)
    assert build[2:] == ['underlay/env.py', '--chosen', 'build']
    assert demo[-2:] == ['--images', 'a b']
    assert '--bag' not in demo


def test_ci_runs_the_tests_from_anywhere(recorder: Path, tmp_path: Path) -> None:
    build, tests = calls([str(recorder / '.ci' / 'run')], recorder, tmp_path)
    assert build[:2] == tests[:2] == [str(recorder), 'true']
    assert tests[2:9] == ['underlay/env.py', 'run', '--', 'python', '-m', 'pytest', '-q']
    assert tests[-3:] == ['--dist', 'loadfile', 'test']


def test_make_lists_every_target(tree: Path) -> None:
    if not shutil.which('make'):
        pytest.skip('needs make')
    output = subprocess.run(['make', '-s'], cwd=tree, capture_output=True, text=True, check=True, timeout=30).stdout
    phony = re.search(r'^\.PHONY: (.*)$', (tree / 'Makefile').read_text(), re.MULTILINE)
    assert phony
    listed = dict(re.findall(r'^  make (\S+) +(\S.*)$', output, re.MULTILINE))
    assert set(listed) == set(phony[1].split())
    assert {'env', 'demo', 'test', 'test-all', 'lint', 'clean'} <= set(listed)
