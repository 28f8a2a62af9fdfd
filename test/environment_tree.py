"""A copy of what builds the environment, for tests that build, break or change it."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

REPO = Path(__file__).resolve().parents[1]
BASE_PYTHON = getattr(sys, '_base_executable', sys.executable)
BARE = [BASE_PYTHON, '-I', '-S']  # sees no installed package, so no installed ROS 2 either


def load(root: Path) -> ModuleType:
    """Import underlay/env.py of this tree, with its own copies of the modules beside it."""
    for name in ('machine', 'packages'):
        sys.modules.pop(name, None)
    spec = importlib.util.spec_from_file_location('sembox_env', root / 'underlay' / 'env.py')
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ('machine', 'packages'):
        sys.modules.pop(name, None)
    return module


def copy_tree(folder: Path) -> Path:
    """Copy the files into a folder whose name has a space."""
    root = folder / 'a clone'
    shutil.copytree(REPO / 'underlay', root / 'underlay', ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copytree(REPO / '.ci', root / '.ci')
    shutil.copy(REPO / 'Makefile', root)
    return root
