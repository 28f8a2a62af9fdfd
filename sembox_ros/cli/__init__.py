"""The commands behind `python -m sembox_ros`. To add one: write its file here, add its line to `COMMANDS`."""

from __future__ import annotations

import importlib
import sys

from sembox_ros.config import suggest

# Command -> what it is for. Each is a module here (with _ for -) with a function `main(args) -> int`, which setup.py
# also installs under the command's name for `ros2 run sembox_ros COMMAND`.
COMMANDS = {
    'demo': 'a street through the real node: bag in, masks and boxes out, pictures and a summary',
    'predict': 'masks, overlays and boxes for images, folders and videos; needs no ROS',
    'classify': 'what images show, in the words of ImageNet, by an imported EfficientNet; needs no ROS',
    'replay': 'a bag in; metrics, a report, an annotated bag and a video out; --online through the real node',
    'evaluate': 'mIoU and AP of a checkpoint on a labeled dataset; needs no ROS',
    'compare': 'two replay reports against each other; exits 1 if the second one is worse',
    'train': 'train a network on a dataset, resumable, with a summary of curves and pictures',
    'list-models': 'every network by name: parameters, multiply-adds and what its publisher says of it',
    'info': 'parameters, multiply-adds and feature shapes of a model, or what a checkpoint holds',
    'export': 'a checkpoint as ONNX, OpenVINO or TorchScript file, in fp32, fp16 or int8, verified',
    'import-weights': 'a published .pth file of another project to a checkpoint',
    'verify-import': 'is an imported network the same function as the original? compares with reference outputs',
    'streets': 'rendered streets with exact labels, as a dataset in the Cityscapes layout',
    'export-dataset': 'objects and segments of a dataset as COCO json files for other projects',
    'params': 'the node parameters as a commented YAML file',
    'node': 'run the node (arguments as for `ros2 run sembox_ros sembox_node`)',
    'play': 'play a bag into ROS topics',
    'record': 'record ROS topics to an mcap bag',
}


def main(args: list[str] | None = None) -> int:
    """Run the command that the first argument names; returns its exit status."""
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ('-h', '--help', 'help'):
        print('usage: python -m sembox_ros COMMAND [options]\n\ncommands:')
        for name, purpose in COMMANDS.items():
            print(f'  {name:<15} {purpose}')
        print('\n`python -m sembox_ros COMMAND --help` explains each.')
        return 0
    if args[0] not in COMMANDS:
        print(
            f"sembox_ros: unknown command '{args[0]}'{suggest(args[0], COMMANDS)}; one of: {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    module = importlib.import_module(f'sembox_ros.cli.{args[0].replace("-", "_")}')
    status: int = module.main(args[1:])
    return status
