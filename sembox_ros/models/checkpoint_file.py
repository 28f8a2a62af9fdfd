"""The outside of a checkpoint: a .safetensors header, checked in plain Python before any tensor or model is made.

The layout (github.com/huggingface/safetensors): 8 bytes with the header's length, little-endian; the header, a JSON
object that maps each tensor's name to its dtype, shape and byte range; the tensors' bytes. Reading it here rather
than through the library's memory map keeps three promises: a file that declares more than it holds is refused before
anything is allocated, a tensor is held at most once beside its raw bytes, and a file that is overwritten while the
node runs cannot reach into the running network.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor

from sembox_ros.errors import CheckpointError

MAX_HEADER_BYTES = 2 * 2**20  # ten times what the largest model of the zoo needs
MAX_JSON_ITEMS = 100_000  # bounds what parsing may allocate: some 100 bytes an item
MAX_DIMENSIONS = 8

# What a network's state consists of. Eight-bit numbers would grow more than twofold on loading.
DTYPES: Mapping[str, torch.dtype] = {
    'F64': torch.float64,
    'F32': torch.float32,
    'F16': torch.float16,
    'BF16': torch.bfloat16,
    'I64': torch.int64,
}

# First bytes of what people rename to .safetensors, or get in place of it.
FOREIGN_KINDS: tuple[tuple[bytes, str], ...] = (
    (b'PK\x03\x04', 'it is a zip archive, such as torch.save writes; use `python -m sembox_ros import-weights`'),
    (b'\x80', 'it is a Python pickle, such as torch.save writes; use `python -m sembox_ros import-weights`'),
    (b'version https://git-lfs', 'it is a Git LFS pointer; fetch the file itself with `git lfs pull`'),
    (b'<', 'it is a web page; the download failed'),
)


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies.

    Attributes:
        dtype: its number format, a key of `DTYPES`.
        shape: its shape.
        start: its first byte, counted from the start of the file.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def size_bytes(self) -> int:
        """How many bytes it takes."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class FileHeader:
    """What a file says of itself.

    Attributes:
        file_bytes: size of the file.
        metadata: its text metadata.
        tensors: name -> where it lies; together they cover the file from the header to the end.
    """

    file_bytes: int
    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorEntry]

    @property
    def numbers(self) -> int:
        """How many numbers all tensors hold together."""
        return sum(math.prod(entry.shape) for entry in self.tensors.values())


def printable(value: object, *, limit: int = 400) -> str:
    """Text from a file made fit for one line of a terminal: no control characters, bounded length."""
    text = str(value)[: 4 * limit]
    text = ''.join(c if c.isprintable() else '?' for c in ' '.join(text.split()))
    return text if len(text) <= limit else f'{text[: limit - 1]}…'


def read_header(file: BinaryIO) -> FileHeader:
    """Read and check the header; allocates no more than a small multiple of `MAX_HEADER_BYTES`.

    Raises:
        CheckpointError: not such a file, or it declares other bytes than it holds.
    """
    file_bytes = os.fstat(file.fileno()).st_size
    start = file.read(64)
    length = int.from_bytes(start[:8], 'little')
    if start[8:9] != b'{' or length > file_bytes - 8:
        raise _unreadable(_other_kind(start, length, file_bytes))
    if length > MAX_HEADER_BYTES:
        raise _unreadable(f'its header of {length} bytes is longer than {MAX_HEADER_BYTES}')
    file.seek(8)
    try:
        header = parse_json(file.read(length).decode())
    except ValueError as error:
        raise _unreadable(f'its header is not JSON: {error}') from error
    metadata = header.pop('__metadata__', {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _unreadable('its header is not an object with text metadata')
    tensors = {name: _entry(name, value, 8 + length, file_bytes) for name, value in header.items()}
    _check_coverage(tensors, 8 + length, file_bytes)
    return FileHeader(file_bytes, metadata, tensors)


def read_tensor(file: BinaryIO, entry: TensorEntry) -> Tensor:
    """One tensor in memory of its own.

    Raises:
        CheckpointError: the file ends before it, as it may when it is being overwritten.
    """
    tensor = torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    file.seek(entry.start)
    if file.readinto(tensor.reshape(-1).view(torch.uint8).numpy()) != entry.size_bytes:  # type: ignore[attr-defined]
        raise _unreadable('it became shorter while it was read')
    return tensor


class TensorDigest:
    """sha256 over names, dtypes, shapes and bytes of tensors that are added in the order of their names."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, name: str, tensor: Tensor) -> None:
        """Take in the next tensor."""
        tensor = tensor.contiguous()
        self._hash.update(f'{name}:{tensor.dtype}:{tuple(tensor.shape)};'.encode())
        self._hash.update(tensor.reshape(-1).view(torch.uint8).numpy().data)

    def hexdigest(self) -> str:
        """The digest of what was added so far."""
        return self._hash.hexdigest()


def digest_metadata(metadata: Mapping[str, str]) -> str:
    """sha256 over all metadata but its own entry, `sha256_metadata`."""
    rest = {key: value for key, value in metadata.items() if key != 'sha256_metadata'}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def parse_json(text: str) -> Any:
    """JSON of bounded complexity, in which no name occurs twice.

    Raises:
        ValueError: it is not.
    """
    if sum(text.count(mark) for mark in ',[{') > MAX_JSON_ITEMS:
        raise ValueError(f'more than {MAX_JSON_ITEMS} items')
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError('nested too deeply') from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError('a name occurs twice')
    return found


def _unreadable(reason: str) -> CheckpointError:
    return CheckpointError(f'not a readable .safetensors file ({printable(reason, limit=200)}); copy it again')


def _other_kind(start: bytes, length: int, file_bytes: int) -> str:
    """Why a file that does not start as it should is none of ours."""
    if len(start) < 9:
        return f'it has only {file_bytes} bytes'
    for first, meaning in FOREIGN_KINDS:
        if start.startswith(first) and start[8:9] != b'{':
            return meaning
    if length > file_bytes - 8:
        return f'it declares a header of {length} bytes and has {file_bytes}; truncated?'
    return 'it does not start with a JSON header'


def _entry(name: str, value: Any, data_start: int, file_bytes: int) -> TensorEntry:
    """One tensor's entry of the header, checked against the size of the file."""
    try:
        dtype, shape, (begin, end) = value['dtype'], value['shape'], value['data_offsets']
        whole = len(shape) <= MAX_DIMENSIONS and all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (TypeError, KeyError, ValueError) as error:
        raise _unreadable(f'tensor {printable(name, limit=80)!r} lacks dtype, shape or offsets') from error
    if not whole or len(value) != 3:
        raise _unreadable(f'tensor {printable(name, limit=80)!r} has an impossible shape or offset')
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise CheckpointError(
            f'tensor {printable(name, limit=80)!r}: expected one of the formats {", ".join(DTYPES)}, '
            f'got {printable(dtype, limit=20)}'
        )
    entry = TensorEntry(dtype, tuple(shape), data_start + begin)
    if end - begin != entry.size_bytes or data_start + end > file_bytes:
        raise _unreadable(
            f'tensor {printable(name, limit=80)!r} of {entry.size_bytes} bytes does not fit its place; truncated?'
        )
    return entry


def _check_coverage(tensors: Mapping[str, TensorEntry], data_start: int, file_bytes: int) -> None:
    """Tensors must lie side by side and fill the file, or something hides between them or is missing."""
    position = data_start
    for entry in sorted(tensors.values(), key=lambda e: (e.start, e.size_bytes)):
        if entry.start != position:
            raise _unreadable('its tensors overlap or leave gaps')
        position += entry.size_bytes
    if position != file_bytes:
        raise _unreadable(f'its tensors end at byte {position} of {file_bytes}')
