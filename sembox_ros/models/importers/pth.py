"""Reading .pth files of other projects without executing anything in them."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sembox_ros.errors import CheckpointError

CONTAINER_KEYS = ('state_dict', 'model_state_dict', 'model')  # training scripts save more than the weights
PARALLEL_PREFIX = 'module.'  # of every key, left behind by DataParallel
MAX_EXPANSION = 2  # times the file's size that its records may claim


def read_pth(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a .pth file, on the CPU.

    Read with `weights_only=True`: a pickle that would call anything but torch's tensor constructors is refused.
    A dict around the state dict and DataParallel's prefix are taken off.

    Raises:
        CheckpointError: missing, not a torch file, hostile, or not a flat dict of tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f'weights: expected a .pth file, but {path} does not exist or is not a file')
    try:
        _refuse_expansion(path)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about the file's form; what matters is an error below
            content = torch.load(path, map_location='cpu', weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # the unpickler meets arbitrary bytes and lets almost anything through
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0][:200] if lines else type(error).__name__
        raise CheckpointError(f'{path}: not a file of plain weights that torch can read ({reason})') from error
    return _flat_state(path, content)


def _refuse_expansion(path: Path) -> None:
    """Torch stores records uncompressed; a small file that unpacks to gigabytes is not one of its own."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
        actual = path.stat().st_size
        if claimed > MAX_EXPANSION * actual:
            raise CheckpointError(f'{path}: {actual} bytes that would unpack to {claimed}; not a file that torch wrote')


def _flat_state(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, dict):
        inner = next((content[k] for k in CONTAINER_KEYS if isinstance(content.get(k), dict)), None)
        content = content if inner is None else inner
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f'{path}: expected a dict of tensors, got {type(content).__name__} without any')
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            shown = ' '.join(repr(key)[:80].split())
            raise CheckpointError(
                f'{path}: expected a flat dict of tensors, but {shown} is {type(value).__name__}; '
                "save the model's state_dict() alone"
            )
        if value.layout != torch.strided or value.is_quantized or value.device.type != 'cpu':
            raise CheckpointError(f"{path}: '{key[:80]}' is not a plain dense tensor")
    cut = len(PARALLEL_PREFIX) if all(key.startswith(PARALLEL_PREFIX) for key in content) else 0
    return {key[cut:]: value.detach() for key, value in content.items()}
