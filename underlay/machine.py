"""What this machine offers to env.py: an interpreter, an installed ROS 2, a compiler, room on the disk."""

import importlib.machinery
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

OLDEST, NEWEST = (3, 10), (3, 14)  # the versions that have ROS 2 wheels
NEEDED_BYTES = 8e9
HERE = Path(__file__).resolve().parent


def python_problem(version: tuple, implementation: str) -> str:
    """Return what is wrong with this interpreter, '' if nothing."""
    if implementation == 'cpython' and OLDEST <= tuple(version[:2]) <= NEWEST:
        return ''
    wanted = 'CPython {}.{} to {}.{}'.format(*OLDEST, *NEWEST)
    this = '{} {}.{}'.format(implementation, *version[:2])
    return f'env: needs {wanted}, this is {this}: select another one, for example make env PYTHON=python3.12'


# Here, before any annotation below is evaluated: an old Python shall end with this line, not with a traceback.
if python_problem(sys.version_info, sys.implementation.name):
    sys.exit(python_problem(sys.version_info, sys.implementation.name))


class EnvError(Exception):
    """Ends the build with one line."""


class World(NamedTuple):
    """Where ROS 2 comes from.

    Attributes:
        installed: True if an installed one is used, False for wheels.
        seen: The files of the installed rclpy and vision_msgs, as far as there are any.
        python: The interpreter that looked.
    """

    installed: bool
    seen: str
    python: str


def find_installed_ros(path: list[str]) -> tuple[str, str]:
    """Return the files of rclpy and vision_msgs on this path, '' for a missing one; a mere folder does not count."""
    specs = [importlib.machinery.PathFinder.find_spec(name, path) for name in ('rclpy', 'vision_msgs')]
    rclpy, vision_msgs = ((spec.origin or '') if spec else '' for spec in specs)
    return rclpy, vision_msgs


def detect_world(known: dict) -> tuple[World, str]:
    """Find an installed ROS 2.

    Args:
        known: The `World` of the last build as a dict; the real import, which takes a second, is tried only where
            something changed since.

    Returns:
        The world, and why an installed ROS 2 that was found is not used ('' mostly).
    """
    rclpy, vision_msgs = find_installed_ros([entry for entry in sys.path if entry and Path(entry).resolve() != HERE])
    seen = os.pathsep.join((rclpy, vision_msgs)) if rclpy else ''
    if (known.get('seen'), known.get('python')) == (seen, sys.executable):
        return World(**known), ''
    if not seen:
        return World(False, seen, sys.executable), ''
    command = [sys.executable, '-c', 'import rclpy, vision_msgs.msg']
    check = subprocess.run(command, cwd='/', stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if not check.returncode:
        return World(True, seen, sys.executable), ''
    why = (check.stderr.strip().splitlines() or ['the import crashes'])[-1]
    if not vision_msgs:
        why += f'; on Ubuntu: sudo apt-get install ros-{os.environ.get("ROS_DISTRO", "<distribution>")}-vision-msgs'
    return World(False, seen, sys.executable), f'not using the ROS 2 of {Path(rclpy).parent}: {why}'


def environment(venv: Path, installed: bool, base: dict[str, str]) -> dict[str, str]:
    """Return the variables for programs inside the virtual environment: none of another one may reach the wheels."""
    env = {k: v for k, v in base.items() if k not in ('PYTHONHOME', 'PIP_TARGET', 'PIP_PREFIX', 'PIP_USER', 'DESTDIR')}
    env['VIRTUAL_ENV'] = str(venv)
    env['PATH'] = os.pathsep.join([str(venv / 'bin'), base.get('PATH', os.defpath)])
    if installed:
        return env
    # The wheels' bootstrapper sets the library path once per process tree; the guard of another tree would stop it.
    # They bring one middleware only, so a choice made for another installation would end every node.
    for name in ('PYTHONPATH', '_ROS_WHEELS_BOOTSTRAP_COMPLETE', 'RMW_IMPLEMENTATION', 'LD_LIBRARY_PATH'):
        env.pop(name, None)
    libraries = [p for p in base.get('LD_LIBRARY_PATH', '').split(os.pathsep) if p and not holds_ros(Path(p))]
    if libraries:
        env['LD_LIBRARY_PATH'] = os.pathsep.join(libraries)
    prefixes = [p for p in base.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p and not holds_ros(Path(p, 'lib'))]
    env['AMENT_PREFIX_PATH'] = os.pathsep.join([str(venv), *prefixes])
    env['CMAKE_PREFIX_PATH'] = str(venv)
    return env


def holds_ros(folder: Path) -> bool:
    """Tell whether a library folder belongs to a ROS 2 installation or to a virtual environment."""
    return (
        folder.name.startswith('ros_')
        or (folder.parent / 'pyvenv.cfg').exists()
        or next(folder.glob('librcutils.so*'), None) is not None
    )


def check_machine(installed: bool) -> None:
    """Reject machines that have no wheels."""
    system, machine = platform.system(), platform.machine()
    if system != 'Linux' or machine not in ('x86_64', 'aarch64'):
        raise EnvError(f'needs Linux on x86_64 or aarch64, this is {system} on {machine}')
    if not installed and machine == 'aarch64':
        raise EnvError('ROS 2 has no wheels for aarch64: install ROS 2 with vision_msgs, source it and run this again')
    libc = c_library()
    version = re.fullmatch(r'glibc (\d+)\.(\d+)', libc)
    if not version or (int(version[1]), int(version[2])) < (2, 28):
        raise EnvError(f'needs glibc 2.28 or newer, this is {libc}')


def c_library() -> str:
    """Return name and version of the C library."""
    try:
        return os.confstr('CS_GNU_LIBC_VERSION') or 'another C library'
    except (ValueError, OSError):
        return 'another C library'


def check_compiler(env: dict[str, str]) -> None:
    """Reject a machine without a compiler that CMake would find."""
    wanted = shlex.split(env.get('CXX', ''))[:1] or ['c++', 'g++', 'clang++']
    if not any(shutil.which(name, path=env.get('PATH', os.defpath)) for name in wanted):
        names = ', '.join(wanted)
        raise EnvError(f'no C++ compiler ({names}) on PATH; on Debian or Ubuntu: sudo apt-get install g++')


def check_headers(include: Path) -> None:
    """Reject an interpreter without headers: the interfaces are Python extensions."""
    if not (include / 'Python.h').is_file():
        package = 'python{}.{}-dev'.format(*sys.version_info[:2])
        hint = f'on Debian or Ubuntu: sudo apt-get install python3-dev (or {package})'
        raise EnvError(f'no Python.h in {include}, so vision_msgs cannot be built; {hint}')


def check_disk(folder: Path) -> None:
    """Reject a full disk: PyTorch and its CUDA libraries are the bulk."""
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise EnvError(f'needs {NEEDED_BYTES / 1e9:.0f} GB on the disk of {folder}, {free / 1e9:.1f} GB are free')


def venv_command(venv: Path, installed: bool) -> list[str]:
    """Return how this Python makes a virtual environment; Debian ships it without ensurepip."""
    flags = ['--system-site-packages'] if installed else []
    if usable('venv') and usable('ensurepip'):
        return [sys.executable, '-m', 'venv', *flags, str(venv)]
    if usable('venv') and outer_pip_version() >= (22, 3):  # the first one with --python
        return [sys.executable, '-m', 'venv', '--without-pip', *flags, str(venv)]
    if usable('virtualenv'):
        return [sys.executable, '-m', 'virtualenv', *flags, str(venv)]
    hint = 'on Debian or Ubuntu: sudo apt-get install python3-venv'
    raise EnvError(f'{sys.executable} cannot make virtual environments (no ensurepip, pip or virtualenv); {hint}')


def usable(module: str) -> bool:
    """Tell whether a module of this interpreter is there; an empty folder of that name is not."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def outer_pip_version() -> tuple[int, ...]:
    """Return the version of the pip of this interpreter, () without one."""
    spec = importlib.util.find_spec('pip')
    text = Path(spec.origin).read_text() if spec and spec.origin else ''
    version = re.search(r"__version__ = ['\"](\d+)\.(\d+)", text)
    return tuple(int(number) for number in version.groups()) if version else ()
