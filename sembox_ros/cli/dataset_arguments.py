"""How commands are told which dataset to read: --dataset, --root, --split, --dataset-option."""

from __future__ import annotations

import argparse
import json
from typing import Any

from sembox_ros.data.datasets import DATASETS
from sembox_ros.errors import ConfigError


def add_dataset_arguments(parser: argparse._ActionsContainer, *, split: str | None = None) -> None:
    """The options that `dataset_options` reads; `split` is the default of --split."""
    parser.add_argument('--dataset', default='cityscapes', choices=sorted(DATASETS), help='kind of dataset')
    parser.add_argument('--root', help='its folder')
    parser.add_argument('--split', default=split, help='its part, such as val')
    parser.add_argument(
        '--dataset-option', action='append', default=[], metavar='NAME=VALUE',
        help='any other option of the dataset, VALUE as JSON or plain text; may be repeated',
    )  # fmt: skip


def dataset_options(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says about the dataset.

    Raises:
        ConfigError: a --dataset-option is not NAME=VALUE.
    """
    found = {name: value for name in ('root', 'split') if (value := getattr(options, name)) is not None}
    for text in options.dataset_option:
        name, equals, value = text.partition('=')
        if not (name and equals):
            raise ConfigError(f"--dataset-option: expected NAME=VALUE such as classes=19, got '{text}'")
        try:
            found[name] = json.loads(value)
        except (ValueError, RecursionError):
            found[name] = value
    return found
