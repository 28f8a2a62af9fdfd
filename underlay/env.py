#!/usr/bin/env python3
"""Builds and enters the environment of this repository, with nothing but the standard library.

    python3 underlay/env.py build          what `make env` runs: instant when nothing changed, resumes when interrupted
    python3 underlay/env.py run -- CMD     CMD inside that environment
    python3 underlay/env.py status         which stages are done and which pending

There are two worlds. Where this Python can import an installed (sourced) ROS 2 with vision_msgs, the virtual
environment sees it and only the missing Python packages are added. Elsewhere ROS 2 comes from wheels, and the
interface package that has no wheel, vision_msgs, is built into the virtual environment.

Every stage leaves a key in .venv/stamp.json: a hash of all that it depends on. A stage runs when its key differs,
and loses its key before it starts, so that an interrupted build goes on where it stopped.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import machine  # noqa: E402 - first of all, for it ends an interpreter that is too old
import packages  # noqa: E402
from machine import EnvError, World  # noqa: E402

sys.path.remove(str(HERE))  # the folder vision_msgs in it is no Python package

REPO = HERE.parent
VENV = REPO / '.venv'
INTERFACES = HERE / 'vision_msgs'
RESUME = 'run the same command again: it resumes'


class Stage(NamedTuple):
    """One step of the build."""

    name: str
    title: str
    key: str
    action: Callable[[], None]


def digest(*parts: object) -> str:
    """Hash values and files shortly; a folder counts with the names and contents of all that is in it."""
    total = hashlib.sha256()
    for part in parts:
        inside = sorted(part.rglob('*')) if isinstance(part, Path) and part.is_dir() else []
        for item in (part, *inside):
            data = item.read_bytes() if isinstance(item, Path) and item.is_file() else b''
            total.update(f'{item}\0{len(data)}\0'.encode() + data)
    return total.hexdigest()[:16]


def read_stamp() -> dict:
    """Return what the last build left, {} if nothing useful."""
    try:
        stamp = json.loads((VENV / 'stamp.json').read_text())
        return stamp if isinstance(stamp.get('stages'), dict) else {}
    except (OSError, ValueError, AttributeError):
        return {}


def write_stamp(stamp: dict) -> None:
    """Replace the stamp in one step."""
    temporary = VENV / 'stamp.json.new'
    temporary.write_text(json.dumps(stamp, indent=1) + '\n')
    temporary.replace(VENV / 'stamp.json')


def site_packages() -> Path:
    """Return where pip puts packages in the virtual environment."""
    return VENV / 'lib' / 'python{}.{}'.format(*sys.version_info[:2]) / 'site-packages'


class Builder:
    """The stages of one build, and the programs that they start."""

    def __init__(self, world: World, lock: int) -> None:
        self.world = world
        self.lock = lock
        self.stage = ''
        self.python = str(VENV / 'bin' / 'python')
        self.constraints = HERE / 'constraints.txt'

    def stages(self) -> list[Stage]:
        """List what this world needs, in the order that finds failures early."""
        text = self.constraints.read_text()
        me = [digest(HERE / name) for name in ('env.py', 'machine.py', 'packages.py')]
        interpreter = os.path.realpath(getattr(sys, '_base_executable', sys.executable))
        seen = self.world.seen if self.world.installed else ''
        venv_key = digest(str(VENV), interpreter, sys.version_info[:2], platform.machine(), seen)
        ros_pins = packages.pins(packages.ROS, text)

        def pip_stage(name: str, title: str, chosen: dict[str, str], *options: str) -> Stage:
            key = digest(*me, *packages.pins(list(chosen), text))
            return Stage(name, title, key, lambda: self.install_packages(chosen, *options))

        stages = [Stage('venv', 'virtual environment', venv_key, self.make_venv)]
        if not self.world.installed:
            stages += [
                Stage('ros', 'ROS 2 from wheels', digest(*me, *ros_pins), self.install_ros),
                Stage('underlay', 'vision_msgs', digest(*me, *ros_pins, INTERFACES), self.build_underlay),
            ]
        return [
            *stages,
            pip_stage('torch', 'PyTorch (some 3 GB)', packages.TORCH),
            pip_stage('packages', 'Python packages', packages.PACKAGES),
            pip_stage('tools', 'test and lint tools', packages.TOOLS),
            pip_stage('alone', 'tools without their dependencies', packages.ALONE, '--no-deps'),
            Stage('package', 'sembox_ros itself', digest(*me), self.link_package),
        ]

    def run(self, command: list[str], venv: Path = VENV, progress: bool = False) -> int:
        """Run a program with its output in the stage's log; pip shows its own bars on a terminal."""
        log = VENV / 'logs' / f'{self.stage}.log'
        terminal = progress and sys.stdout.isatty()
        with log.open('ab', buffering=0) as out:
            out.write(f'$ {shlex.join(command)}\n'.encode())
            # A process group of its own, to end pip's or ninja's children too. The lock goes with it: should this
            # process be killed alone, then the next build waits for what it left running.
            child = subprocess.Popen(
                [*command, '--log', str(log)] if terminal else command,
                stdin=subprocess.DEVNULL,
                stdout=None if terminal else out,
                stderr=out,
                env=machine.environment(venv, self.world.installed, dict(os.environ)),
                cwd=VENV,
                start_new_session=True,
                pass_fds=[self.lock],
            )
            try:
                return child.wait()
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGTERM)
                child.wait()
                raise

    def make_venv(self) -> None:
        """Create the virtual environment in an emptied .venv (which may be a link to another disk)."""
        for item in VENV.iterdir():
            if item.name not in ('stamp.json', 'logs'):
                shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
        if self.run(machine.venv_command(VENV, self.world.installed)):
            raise EnvError(f'making the virtual environment failed, see {VENV}/logs/venv.log; {RESUME}')
        if self.world.installed and sys.prefix != sys.base_prefix:
            # System packages of a virtual environment are its base's: without this the one that has ROS 2 is skipped.
            parents = {sysconfig.get_path(kind) for kind in ('purelib', 'platlib')}
            (site_packages() / 'parent_environment.pth').write_text('\n'.join(sorted(parents)) + '\n')

    def pip(self, names: list[str], constraints: Path, *more: str) -> None:
        """Install packages, repairing what an interrupted installation left."""
        for info in site_packages().glob('*.dist-info'):
            if not (info / 'INSTALLER').exists():  # written last: pip would take half a package for a whole one
                shutil.rmtree(info)
        inside = (site_packages() / 'pip').is_dir()
        pip = [self.python, '-m', 'pip'] if inside else [sys.executable, '-m', 'pip', '--python', self.python]
        options = ['--no-input', '--disable-pip-version-check', '--constraint', str(constraints), *more]
        code = self.run([*pip, 'install', *options, *names], progress=True)
        if code:
            log = VENV / 'logs' / f'{self.stage}.log'
            why = packages.pip_failure(log.read_text(errors='replace'), code)
            raise EnvError(f'{self.stage}: {why} (log: {log}); {RESUME}')

    def install_ros(self) -> None:
        """Install the wheels, and make their CMake files fit for this machine."""
        self.pip(packages.ROS, self.constraints)
        packages.rewrite_paths(VENV / 'share', sysconfig.get_path('include'), str(site_packages()))

    def install_packages(self, chosen: dict[str, str], *options: str) -> None:
        """Install all of them, or beside an installed ROS 2 only those that cannot be imported yet."""
        if not self.world.installed:
            self.pip(list(chosen), self.constraints, *options)
            return
        env = machine.environment(VENV, True, dict(os.environ))
        probe = [self.python, '-c', packages.PROBE, *packages.EVERYTHING.values()]
        found = json.loads(subprocess.run(probe, env=env, cwd=VENV, check=True, stdout=subprocess.PIPE).stdout)
        missing = [name for name, module in chosen.items() if module not in found['modules']]
        if not missing:
            return
        constraints = VENV / 'constraints.txt'
        text = packages.local_constraints(self.constraints.read_text(), found['modules'], found['numpy'])
        constraints.write_text(text)
        self.pip(missing, constraints, *options)

    def build_underlay(self) -> None:
        """Build vision_msgs into the virtual environment, in place of what an earlier build installed there."""
        manifest = VENV / 'underlay_files.txt'
        for name in manifest.read_text().splitlines() if manifest.exists() else []:
            (VENV / name).unlink(missing_ok=True)
        shutil.rmtree(VENV / 'build', ignore_errors=True)
        # rosidl's CMake code fails in a folder whose name has a space: it gets to see plain names only.
        with tempfile.TemporaryDirectory(prefix='sembox-') as folder:
            venv, source = Path(folder, 'venv'), Path(folder, 'vision_msgs')
            venv.symlink_to(VENV)
            source.symlink_to(INTERFACES)
            self.compile(venv, source)
            installed = (VENV / 'build' / 'install_manifest.txt').read_text().splitlines()
            names = [os.path.relpath(name, venv) for name in installed]
            manifest.write_text('\n'.join(names) + '\n')
            for file in (VENV / name for name in names if name.endswith(('.cmake', '.sh'))):
                file.write_text(file.read_text().replace(str(venv), str(VENV)))
        shutil.rmtree(VENV / 'build')

    def compile(self, venv: Path, source: Path) -> None:
        """Run CMake."""
        cmake, build = str(venv / 'bin' / 'cmake'), str(venv / 'build')
        settings = {
            'CMAKE_INSTALL_PREFIX': venv,
            'CMAKE_BUILD_TYPE': 'Release',
            'CMAKE_MAKE_PROGRAM': venv / 'bin' / 'ninja',
            'BUILD_TESTING': 'OFF',
            'Python3_EXECUTABLE': venv / 'bin' / 'python',
            'PYTHON_INSTALL_DIR': site_packages().relative_to(VENV),
        }
        configure = [cmake, '-S', str(source), '-B', build, '-G', 'Ninja']
        configure += [f'-D{name}={value}' for name, value in settings.items()]
        for command in (configure, [cmake, '--build', build, '--target', 'install']):
            if self.run(command, venv):
                raise EnvError(f'building vision_msgs failed, see {VENV}/logs/underlay.log; {RESUME}')

    def link_package(self) -> None:
        """Make the working tree importable, and known to ROS's resource index, without copying it."""
        (site_packages() / 'sembox_ros.pth').write_text(f'{REPO}\n')
        share = VENV / 'share' / 'sembox_ros'
        index = VENV / 'share' / 'ament_index' / 'resource_index' / 'packages'
        for folder in (share, index):
            folder.mkdir(parents=True, exist_ok=True)
        (index / 'sembox_ros').touch()
        for name in ('package.xml', 'launch', 'config', 'weights'):
            with contextlib.suppress(FileExistsError):
                (share / name).symlink_to(REPO / name)


def say(text: str) -> None:
    """One line for the person who waits."""
    print(f'env: {text}', flush=True)


@contextlib.contextmanager
def locked() -> Iterator[int]:
    """Let one build at a time into this working tree; the folder itself is the lock file."""
    handle = os.open(REPO, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say('another build is at work in this folder: waiting for it')
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def choose_interpreter(chosen: bool) -> None:
    """Start again with the interpreter that an earlier build was told to use, and never with the one inside .venv."""
    own = VENV.exists() and os.path.samefile(sys.prefix, VENV)
    base, recorded = getattr(sys, '_base_executable', sys.executable), read_stamp().get('chosen', '')
    if own and base != sys.executable:
        os.execv(base, [base, *sys.argv])
    if not own and not chosen and recorded and recorded != sys.executable and os.access(recorded, os.X_OK):
        os.execv(recorded, [recorded, sys.argv[0], '--chosen', *sys.argv[1:]])


def preflight(world: World, pending: list[str]) -> None:
    """Find what would fail later, before anything long starts."""
    machine.check_machine(world.installed)
    if 'venv' in pending:
        machine.venv_command(VENV, world.installed)
        inside = {item.name for item in VENV.iterdir()} if VENV.exists() else set()
        if 'stamp.json' not in inside and inside - {'logs'}:
            raise EnvError(f'{VENV} was not made by this program: move it away first')
    if 'underlay' in pending:
        machine.check_compiler(dict(os.environ))
        machine.check_headers(Path(sysconfig.get_path('include')))
    if 'torch' in pending:
        machine.check_disk(VENV if VENV.exists() else REPO)


def examine(lock: int) -> tuple[Builder, list[Stage], dict[str, str]]:
    """Find out which world this is; return the builder, the pending stages and the keys of the complete ones."""
    stamp = read_stamp()
    world, remark = machine.detect_world(stamp.get('world', {}))
    builder = Builder(world, lock)
    stages, done = builder.stages(), stamp.get('stages', {})
    if done.get('venv') != stages[0].key:
        remark = remark or ('.venv was made for another interpreter, folder or ROS 2' if done else '')
        done = {}
    pending = [stage for stage in stages if done.get(stage.name) != stage.key]
    if pending:
        say(describe(world) + (f' ({remark})' if remark else ''))
    return builder, pending, done


def build(chosen: bool) -> None:
    """Run the stages whose inputs changed."""
    choose_interpreter(chosen)
    with locked() as lock:
        builder, pending, done = examine(lock)
        stamp = {'world': builder.world._asdict(), 'chosen': sys.executable if chosen else '', 'stages': done}
        if pending:
            preflight(builder.world, [stage.name for stage in pending])
            perform(builder, pending, stamp)
        elif stamp != read_stamp():
            write_stamp(stamp)


def perform(builder: Builder, pending: list[Stage], stamp: dict) -> None:
    """Run stages, and note in the stamp which ones are complete."""
    (VENV / 'logs').mkdir(parents=True, exist_ok=True)
    for number, stage in enumerate(pending, 1):
        stamp['stages'].pop(stage.name, None)
        write_stamp(stamp)
        (VENV / 'logs' / f'{stage.name}.log').unlink(missing_ok=True)
        say(f'[{number}/{len(pending)}] {stage.title} ...')
        started = time.monotonic()
        builder.stage = stage.name
        stage.action()
        stamp['stages'][stage.name] = stage.key
        write_stamp(stamp)
        say(f'[{number}/{len(pending)}] {stage.title}: {time.monotonic() - started:.1f} s')


def describe(world: World) -> str:
    """Say in a line which world it is."""
    version = 'Python {}.{}'.format(*sys.version_info[:2])
    if world.installed:
        return f'{version} with the installed ROS 2 ({Path(world.seen.split(os.pathsep)[0]).parent})'
    return f'{version}, no installed ROS 2 with vision_msgs: ROS 2 comes from wheels into .venv'


def status(chosen: bool) -> None:
    """Print what `build` would do."""
    choose_interpreter(chosen)
    _, pending, done = examine(-1)
    names = [stage.name for stage in pending]
    complete = [name for name in done if name not in names]
    say(f'done: {" ".join(complete) or "nothing"}; pending: {" ".join(names) or "nothing"}')


def enter(command: list[str]) -> None:
    """Replace this process by a command inside the environment."""
    stamp = read_stamp()
    if 'package' not in stamp.get('stages', {}):
        raise EnvError('the environment is not complete: run `make env`')
    env = machine.environment(VENV, stamp['world']['installed'], dict(os.environ))
    try:
        os.execvpe(command[0], command, env)
    except OSError as error:
        raise EnvError(f'{command[0]}: {error.strerror}') from error


def interrupt(*_: object) -> NoReturn:
    """End like Ctrl-C."""
    raise KeyboardInterrupt


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--chosen', action='store_true', help='keep this interpreter for later builds')
    parser.add_argument('command', choices=('build', 'run', 'status'))
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help='of run: the command to run')
    options = parser.parse_args()
    words = options.arguments[1:] if options.arguments[:1] == ['--'] else options.arguments
    signal.signal(signal.SIGTERM, interrupt)
    try:
        if options.command == 'run':
            enter(words or [os.environ.get('SHELL', '/bin/sh')])
        elif options.command == 'status':
            status(options.chosen)
        else:
            build(options.chosen)
    except (EnvError, OSError, subprocess.CalledProcessError) as error:
        print(f'env: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'env: interrupted; {RESUME}', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
