"""Installs sembox_ros as an ament_python package (colcon build) or with pip."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = 'sembox_ros'
COMMANDS = (
    'demo', 'predict', 'classify', 'replay', 'evaluate', 'compare', 'train', 'list-models', 'info', 'export',
    'import-weights', 'verify-import', 'streets', 'export-dataset', 'params', 'node', 'play', 'record',
)  # fmt: skip


def shared(folder: str) -> tuple[str, list[str]]:
    """(install folder below the prefix, files) of one folder that ships beside the code."""
    return f'share/{PACKAGE}/{folder}', sorted(str(p) for p in Path(folder).glob('*') if p.is_file())


setup(
    name=PACKAGE,
    version='0.1.0',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        *(shared(f'config/{folder}') for folder in ('train', 'recipes', 'models')),
        *(shared(folder) for folder in ('launch', 'config', 'weights')),
    ],
    install_requires=[
        'av',
        'efficientnet_pytorch',
        'Jinja2',
        'lightning-fabric',
        'lz4',
        'matplotlib',
        'numpy',
        'omegaconf',
        'opencv-python-headless',
        'pillow',
        'psutil',
        'pycocotools',
        'PyYAML',
        'rich',
        'rosbags',
        'rosbags-image',
        'safetensors',
        'setuptools',
        'tensorboard',
        'torch',
        'torchvision',
        'tqdm',
    ],
    extras_require={
        'cluster': ['ray'],
        'engines': ['onnx', 'onnxruntime', 'onnxscript', 'openvino'],
        'qat': ['torchao'],
        'test': ['cityscapesScripts', 'hypothesis', 'pytest', 'pytest-timeout', 'pytest-xdist', 'torchmetrics'],
    },
    zip_safe=True,
    maintainer='sembox_ros developers',
    maintainer_email='maintainers@sembox-ros.invalid',
    description='Camera images to semantic segmentation and boxes with one network, as a ROS 2 node and offline.',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            f'sembox_node = {PACKAGE}.ros.node:main',
            *(f'{name} = {PACKAGE}.cli.{name.replace("-", "_")}:main' for name in COMMANDS),
        ],
    },
)
