"""Everything that a run needs to go on as if it had never stopped, in one file without code in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from sembox_ros.atomic import whole_file
from sembox_ros.errors import CheckpointError


@dataclass
class RunState:
    """Where a run is.

    Attributes:
        step: steps done.
        best_rank: highest rank of a validation so far.
        best: what `metrics.json` says of it.
        last: the same of the last validation.
        validated: steps done before the last validation.
        seconds: training time so far, over all sessions.
        scaler: of fp16's loss scale; empty in other formats.
    """

    step: int = 0
    best_rank: float = -1.0
    best: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    validated: int = 0
    seconds: float = 0.0
    scaler: dict[str, Any] = field(default_factory=dict)


def save_state(
    path: Path,
    state: RunState,
    *,
    settings: Mapping[str, Any],
    modules: Mapping[str, Mapping[str, Tensor]],
    optimizer: Mapping[str, Any],
) -> None:
    """Write the state; the file appears whole or not at all.

    The order of the data, its augmentation and stochastic depth are functions of seed and step, so that no
    generator's state is needed.

    Args:
        path: file, replaced.
        state: numbers.
        settings: of the run, to notice when they change.
        modules: name -> state dict, of the network and its average.
        optimizer: its state dict.

    Raises:
        CheckpointError: it cannot be written.
    """
    tensors = {f'{name}/{key}': tensor for name, entries in modules.items() for key, tensor in entries.items()}
    for index, slots in optimizer['state'].items():
        tensors |= {f'optimizer/{index}/{slot}': torch.as_tensor(value) for slot, value in slots.items()}
    metadata = {'state': json.dumps(vars(state)), 'settings': json.dumps(settings)}
    try:
        with whole_file(path, CheckpointError) as draft:
            save_file({k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}, draft, metadata=metadata)
    except SafetensorError as error:
        raise CheckpointError(f'{path}: cannot be written: {error}') from error


class SavedRun(NamedTuple):
    """What `save_state` wrote.

    Attributes:
        state: numbers.
        settings: of the run.
        modules: name -> state dict.
        slots: number of the parameter -> the optimizer's state of it.
    """

    state: RunState
    settings: dict[str, Any]
    modules: dict[str, dict[str, Tensor]]
    slots: dict[int, dict[str, Tensor]]


def load_state(path: Path) -> SavedRun:
    """Read what `save_state` wrote.

    Raises:
        CheckpointError: missing or damaged.
    """
    modules: dict[str, dict[str, Tensor]] = {}
    slots: dict[int, dict[str, Tensor]] = {}
    try:
        data = path.read_bytes()
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], 'little')])['__metadata__']
        state, settings = RunState(**json.loads(metadata['state'])), {**json.loads(metadata['settings'])}
        for name, tensor in tensors.items():
            part, _, key = name.partition('/')
            if part == 'optimizer':
                index, _, slot = key.partition('/')
                slots.setdefault(int(index), {})[slot] = tensor
            else:
                modules.setdefault(part, {})[key] = tensor
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f'{path}: not the state of a run ({error}); start the run anew') from error
    return SavedRun(state, settings, modules, slots)
