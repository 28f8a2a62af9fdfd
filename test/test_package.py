"""The ROS package: what it declares and what it installs."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from sembox_ros.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
# rosdep keys of the Python modules that have one.
ROSDEP_KEYS = {
    'PIL': 'python3-pil',
    'cv2': 'python3-opencv',
    'jinja2': 'python3-jinja2',
    'lz4': 'python3-lz4',
    'matplotlib': 'python3-matplotlib',
    'numpy': 'python3-numpy',
    'psutil': 'python3-psutil',
    'rich': 'python3-rich',
    'rosbags': 'python3-rosbags-pip',
    'torch': 'python3-torch',
    'torchvision': 'python3-torchvision',
    'tqdm': 'python3-tqdm',
    'yaml': 'python3-yaml',
}
# Without them the node runs on PyTorch, and bags are replayed one by one.
OPTIONAL = {'onnx', 'onnxruntime', 'onnxscript', 'openvino', 'ray', 'torchao'}
WITHOUT_KEY = {
    'av', 'efficientnet_pytorch', 'lightning-fabric', 'omegaconf', 'pycocotools', 'safetensors', 'tensorboard',
}  # fmt: skip

LAUNCH_FILES = ('launch/sembox.launch.py', 'launch/replay.launch.py')


def imported_packages() -> set[str]:
    found = set()
    for file in [*(ROOT / 'sembox_ros').rglob('*.py'), *(ROOT / 'launch').glob('*.py')]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split('.')[0])
    return found - set(sys.stdlib_module_names) - {'sembox_ros'}


def test_every_import_is_declared():
    declared = {e.text for e in ElementTree.parse(ROOT / 'package.xml').getroot().iter('exec_depend')}
    readme = (ROOT / 'README.md').read_text()
    pip_line = re.search(r'pip install ([\w -]+?) {2,}#', readme)
    assert pip_line is not None
    assert all(f' {package}' in readme.split('# optional')[0].rsplit('pip install', 1)[1] for package in OPTIONAL)
    needed = imported_packages() - OPTIONAL - {'triton'}  # torch's CUDA builds bring triton
    for package in (name.replace('lightning_', 'lightning-') for name in needed):
        if package in WITHOUT_KEY:
            assert package in pip_line[1].split(), package
        else:
            assert ROSDEP_KEYS.get(package, package) in declared, package


def test_the_manifest_is_format_3_and_apache():
    root = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert root.attrib['format'] == '3'
    assert root.findtext('license') == 'Apache-2.0'
    assert root.findtext('export/build_type') == 'ament_python'


def test_the_resource_index_knows_the_package():
    from ament_index_python.packages import get_package_share_directory

    share = Path(get_package_share_directory('sembox_ros'))
    for name in ('package.xml', *LAUNCH_FILES, 'config/sembox_node.yaml', 'config/sembox.rviz'):
        assert (share / name).is_file(), name


def test_colcon_builds_installs_and_tests_it(tmp_path: Path):
    colcon = [sys.executable, '-m', 'colcon', '--log-base', str(tmp_path / 'log')]
    places = ['--build-base', str(tmp_path / 'build'), '--install-base', str(tmp_path / 'install')]
    env = {**os.environ, 'PYTHONPATH': ''}
    subprocess.run([*colcon, 'build', '--paths', str(ROOT), *places], check=True, env=env, cwd=tmp_path)
    prefix = tmp_path / 'install' / 'sembox_ros'
    assert {p.name for p in (prefix / 'lib' / 'sembox_ros').iterdir()} == {'sembox_node', *COMMANDS}
    for name in (*LAUNCH_FILES, 'config/sembox_node.yaml', 'config/sembox.rviz', 'weights/README.md'):
        assert (prefix / 'share' / 'sembox_ros' / name).is_file(), name
    assert (prefix / 'share' / 'ament_index' / 'resource_index' / 'packages' / 'sembox_ros').is_file()
    script = f'. {tmp_path}/install/setup.sh && {prefix}/lib/sembox_ros/info sembox_b0 --size 128x128'
    printed = subprocess.run(['sh', '-c', script], check=True, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert 'semantic_head' in printed.stdout
    tested = ['--pytest-args', 'test/test_labels.py', 'test/test_types.py', 'test/ros/test_conversions.py']
    subprocess.run([*colcon, 'test', '--paths', str(ROOT), *places, *tested], check=True, env=env, cwd=tmp_path)
    result = subprocess.run(
        [*colcon, 'test-result', '--test-result-base', str(tmp_path / 'build')],
        check=True, env=env, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    summary = re.search(r'(\d+) tests, 0 errors, 0 failures', result.stdout)
    assert summary is not None, result.stdout
    assert int(summary[1]) > 100
