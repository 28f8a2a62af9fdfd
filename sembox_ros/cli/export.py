"""`python -m sembox_ros export`: a checkpoint as ONNX, OpenVINO or TorchScript file, verified against PyTorch.

ONNX and OpenVINO files carry the checkpoint's description: `predict`, `evaluate` and the node run them like it,
unless they were written with --preprocessing, --argmax or more than one image at a time. Letterboxing stays outside.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from sembox_ros.cli.common import parse_size, run_command
from sembox_ros.cli.dataset_arguments import add_dataset_arguments, dataset_options
from sembox_ros.config import InputConfig
from sembox_ros.data.datasets import load_dataset, part_options
from sembox_ros.data.sample import Dataset
from sembox_ros.errors import ConfigError
from sembox_ros.inference.export import (
    SUFFIXES,
    ExportOptions,
    check_export,
    describe_export,
    exported_input,
    make_onnx,
    save_openvino,
    save_torchscript,
    set_metadata,
)
from sembox_ros.inference.preprocess import Preprocessor
from sembox_ros.inference.quantize import quantize
from sembox_ros.inference.verification import Difference, verify_export
from sembox_ros.models.checkpoint import BUNDLED, Checkpoint, load_bundled, load_checkpoint
from sembox_ros.ops.placement import place_image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('checkpoint', nargs='?', default='', help='.safetensors file; the bundled one if left out')
    parser.add_argument('--format', default='onnx', choices=tuple(SUFFIXES), help='torchscript is written, never read')
    parser.add_argument('--out', type=Path, help="file to write; the checkpoint's name, here, if left out")
    parser.add_argument('--size', metavar='HxW', help='the one canvas that it takes; any divisible by 128 if left out')
    parser.add_argument('--batch', type=int, default=0, help='images that it takes at a time; 0: any number')
    parser.add_argument(
        '--half', action='store_true', help='weights and arithmetic in float16; inputs and outputs stay float32'
    )
    parser.add_argument(
        '--preprocessing', action='store_true',
        help='take uint8 (B, H, W, 3) rgb of the canvas size and normalise in the graph; scaling and padding are yours '
        '(pad with the mean colour)',
    )  # fmt: skip
    parser.add_argument(
        '--argmax', action='store_true', help='give uint8 class ids (B, H, W) instead of semantic logits'
    )
    parser.add_argument('--verify', action='store_true', help='compare with PyTorch; a wrong file is not left behind')
    group = parser.add_argument_group('int8 for CPUs')
    group.add_argument(
        '--int8', action='store_true', help='quantise, with ranges that training learnt, or of images of the dataset'
    )
    group.add_argument('--calibration-images', type=int, default=32, help='spread over the dataset')
    add_dataset_arguments(parser, split='train')


def export_options(options: argparse.Namespace) -> ExportOptions:
    """What the command line says about the file.

    Raises:
        ConfigError: options that exclude each other, or a value out of range.
    """
    if options.int8 and options.half:
        raise ConfigError('--int8 and --half: choose one')
    return ExportOptions(
        format=options.format,
        size_hw=parse_size(options.size) if options.size else None,
        batch=options.batch,
        precision='int8' if options.int8 else 'fp16' if options.half else 'fp32',
        preprocessing=options.preprocessing,
        argmax=options.argmax,
    )


def calibration_batches(dataset: Dataset, config: InputConfig, limit: int) -> Iterator[np.ndarray]:
    """Up to `limit` images, spread over the dataset, as the network gets them, (1, C, H, W) float32 each."""
    preprocess = Preprocessor(config, device=torch.device('cpu'), dtype=torch.float32)
    count = min(limit, len(dataset))
    for index in tqdm(range(count), desc='calibrate', unit='image', disable=None):
        sample = dataset[index * len(dataset) // count]
        placement = place_image((sample.image.shape[0], sample.image.shape[1]), config.size_hw, config.resize)
        flows = None if sample.flow is None else [sample.flow]
        yield preprocess([sample.image], [placement], flows).contiguous().numpy().copy()


def write_files(checkpoint: Checkpoint, path: Path, options: ExportOptions, batches: Iterator[np.ndarray]) -> None:
    """Write the export to `path`, in the format of the options; `batches` are for int8 alone.

    Raises:
        ConfigError: a library is missing, or the options do not suit the network.
    """
    if options.format == 'torchscript':
        save_torchscript(checkpoint, path, options)
        return
    if options.precision == 'int8' and not checkpoint.quantization:
        model = quantize(make_onnx(checkpoint, dataclasses.replace(options, precision='fp32')), batches)
        set_metadata(model, describe_export(checkpoint, options))
    else:
        model = make_onnx(checkpoint, options)
    if options.format == 'openvino':
        save_openvino(model, path)
    else:
        path.write_bytes(model.SerializeToString())


def export(
    checkpoint: Checkpoint,
    out: Path,
    options: ExportOptions,
    batches: Iterator[np.ndarray],
    *,
    verify: bool,
    picture: np.ndarray | None = None,
) -> list[Difference]:
    """Write, verify if asked to, and only then put the files in their place; returns what was compared.

    Raises:
        SemboxError: it cannot be exported that way, or computes something else.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f'.{out.name}.') as folder:
            path = Path(folder) / out.name
            print(f'exporting {checkpoint.config.name} to {options.format} {options.precision}', file=sys.stderr)
            write_files(checkpoint, path, options, batches)
            if verify:
                print('comparing it with PyTorch', file=sys.stderr)
            differences = verify_export(path, checkpoint, options, picture) if verify else []
            for file in sorted(Path(folder).iterdir()):  # .bin before .xml, which is what readers look for
                os.replace(file, out.parent / file.name)
    except OSError as error:
        raise ConfigError(f'{out}: cannot be written: {error}') from error
    return differences


def run(options: argparse.Namespace) -> int:
    """Export and say what came out."""
    asked, suffix = export_options(options), SUFFIXES[options.format]
    out = options.out or Path(Path(options.checkpoint or BUNDLED).stem + suffix)
    if out.suffix != suffix:
        raise ConfigError(f'--out: {options.format} needs a name ending in {suffix}, got {out}')
    if options.calibration_images < 1:
        raise ConfigError(f'--calibration-images: expected at least 1, got {options.calibration_images}')
    checkpoint = load_checkpoint(options.checkpoint) if options.checkpoint else load_bundled()
    asked = check_export(checkpoint, asked)
    batches: Iterator[np.ndarray] = iter(())
    picture: np.ndarray | None = None
    if options.int8 and not checkpoint.quantization:
        taken = part_options(options.dataset, needed=[name for name in checkpoint.config.inputs if name != 'image'])
        dataset = load_dataset(options.dataset, {**taken, **dataset_options(options)})
        batches = calibration_batches(dataset, exported_input(checkpoint, asked), options.calibration_images)
        picture = dataset[0].image if len(dataset) else None
    differences = export(checkpoint, out, asked, batches, verify=options.verify, picture=picture)
    for difference in differences:
        print(difference)
    verified = 'agrees with PyTorch' if options.verify else 'not verified, --verify does it'
    print(f'{out}: {checkpoint.config.name} as {options.format} {asked.precision}; {verified}')
    if not checkpoint.trained:
        print('the weights are UNTRAINED', file=sys.stderr)
    return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='export', description=__doc__, add_arguments=add_arguments, run=run)
