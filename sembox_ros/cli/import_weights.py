"""`python -m sembox_ros import-weights`: a published .pth file becomes one safe self-describing checkpoint."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from pathlib import Path

from sembox_ros.cli.common import run_command
from sembox_ros.config import suggest
from sembox_ros.errors import ConfigError
from sembox_ros.labels import LABEL_SETS, SceneLabels, load_label_set
from sembox_ros.models.checkpoint import save_checkpoint
from sembox_ros.models.importers import IMPORTERS, find_plan, import_state, read_pth
from sembox_ros.models.zoo import find_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument('file', type=Path, help='weights of another project (.pth)')
    parser.add_argument(
        '--from', dest='source', required=True, metavar='SOURCE', help=f'what it holds, one of: {", ".join(IMPORTERS)}'
    )
    parser.add_argument(
        '--model', default='', metavar='NAME',
        help='network of list-models that gets the encoder of an ImageNet classifier; without, one is chosen',
    )  # fmt: skip
    parser.add_argument('--out', type=Path, required=True, help='checkpoint to write (.safetensors)')
    parser.add_argument(
        '--labels',
        metavar='NAME',
        help='what it was trained on, if not on what was published: a label set of the boxes, or of masks and boxes '
        f'as MASKS+BOXES; sets: {", ".join(LABEL_SETS)}',
    )
    parser.add_argument(
        '--channel-order',
        choices=('rgb', 'bgr'),
        help='what the weights are fed, if not what their published inference feeds them; '
        'semanticboxnet was trained on bgr, its inference uses rgb (the default)',
    )


def choose_labels(name: str, published: SceneLabels) -> SceneLabels:
    """The label sets that the user named, linked as far as their names agree.

    Args:
        name: BOXES, or MASKS+BOXES.
        published: gives the masks' set where only the boxes' is named.

    Raises:
        ConfigError: unknown label set, or masks for a network that only detects.
    """
    masks, plus, boxes = name.rpartition('+')
    for part in (boxes, masks) if plus else (boxes,):
        if part not in LABEL_SETS:
            raise ConfigError(f"labels: '{part}' is unknown{suggest(part, LABEL_SETS)}; known: {', '.join(LABEL_SETS)}")
    if plus and published.semantic is None:
        raise ConfigError(f"labels: this network only detects, it has no masks for '{masks}'; use --labels {boxes}")
    semantic = load_label_set(masks) if plus else published.semantic
    return SceneLabels.linked_by_name(semantic, load_label_set(boxes))


def run(options: argparse.Namespace) -> int:
    """Read, check, convert, write."""
    if options.out.suffix != '.safetensors':
        raise ConfigError(f'out: expected a name ending in .safetensors, got {options.out}')
    plan = find_plan(options.source, options.model)
    labels = choose_labels(options.labels, plan.labels) if options.labels else None
    state = read_pth(options.file)
    checkpoint = import_state(state, options.source, labels, options.model)
    with options.file.expanduser().open('rb') as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    recipe = {**checkpoint.recipe, 'imported_file': options.file.name, 'imported_sha256': digest.hexdigest()}
    order = options.channel_order or checkpoint.input.channel_order
    fed = dataclasses.replace(checkpoint.input, channel_order=order)
    save_checkpoint(dataclasses.replace(checkpoint, recipe=recipe, input=fed), options.out)
    part = f', its {plan.part} only: the rest is untrained' if plan.part else ''
    print(f'{options.out}: {checkpoint.config.name} from {len(state)} tensors of {options.source}{part}')
    if plan.part and plan.config.encoder != find_model(plan.config.name).config.encoder:
        print(f'to train it as the function that it is, give train model_options.encoder={plan.config.encoder}')
    return 0


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return run_command(args, name='import-weights', description=__doc__, add_arguments=add_arguments, run=run)
