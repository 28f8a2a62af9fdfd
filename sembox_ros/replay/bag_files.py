"""What is wrong with a bag that cannot be opened, told from its files."""

from __future__ import annotations

from pathlib import Path

import yaml

from sembox_ros.errors import DatasetError

_METADATA = 'metadata.yaml'
_MCAP_MAGIC = b'\x89MCAP0\r\n'
_SIGNATURES = {'.mcap': _MCAP_MAGIC, '.db3': b'SQLite format 3\0', '.bag': b'#ROSBAG V2.0'}
_EXPECTED = 'expected a rosbag2 folder, or an .mcap, .db3 or ROS 1 .bag file'

# A thousand files and a hundred topics are a third of it. Parsing takes seconds per megabyte, so it must end somewhere.
_MAX_METADATA_BYTES = 2**20
_MAX_DEPTH = 16


def check_bag(path: Path) -> None:
    """Refuse what is not a bag, or one whose files are visibly incomplete.

    Raises:
        DatasetError: says what it is, what was expected and what to do.
    """
    try:
        if path.is_dir():
            _check_folder(path)
        elif path.exists():
            if path.suffix not in _SIGNATURES:
                raise DatasetError(f'bag: {path} is no bag by its name; {_EXPECTED}')
            _check_file(path)
        else:
            raise DatasetError(f'bag: {path} does not exist')
    except OSError as error:
        raise DatasetError(f'bag: {path} cannot be read: {error.strerror or error}') from error


def explain_failure(path: Path, error: Exception) -> str:
    """One line for an error that opening a bag raised; names the file to blame if it can be told."""
    if path.is_dir():
        try:
            for file in sorted(path.iterdir()):
                if file.suffix in _SIGNATURES:
                    _check_file(file)
        except DatasetError as known:
            return str(known)
        except OSError:
            pass  # then what was raised first is all there is to say
    return f'bag: {path} cannot be read: {shorten(error)}'


def shorten(error: Exception) -> str:
    """An error of a library as one line of bounded length, with its type where its text says little."""
    text = ' '.join(str(error).split())[:300]
    return text if ' ' in text else f'{type(error).__name__} {text}'.strip()


def _check_file(path: Path) -> None:
    size = path.stat().st_size
    if not size:
        raise DatasetError(f'bag: {path} is empty')
    signature = _SIGNATURES[path.suffix]
    with path.open('rb') as file:
        start = file.read(len(signature))
        file.seek(-min(size, len(_MCAP_MAGIC)), 2)
        end = file.read()
    if start != signature:
        raise DatasetError(f'bag: {path} cannot be read: it is no {path.suffix} file, it starts with {start!r}')
    if path.suffix == '.mcap' and end != _MCAP_MAGIC:
        raise DatasetError(
            f'bag: {path} cannot be read: it is truncated, its index at the end is missing; '
            '`mcap recover` writes a file with what is there'
        )


def _check_folder(path: Path) -> None:
    metadata = path / _METADATA
    if not metadata.is_file():
        if any(file.suffix in ('.mcap', '.db3') for file in path.iterdir()):
            remedy = '`ros2 bag reindex` writes it, or name one of its files'
            raise DatasetError(f'bag: {path} has no {_METADATA}; {remedy}')
        raise DatasetError(f'bag: {path} is a folder without {_METADATA}; {_EXPECTED}')
    size = metadata.stat().st_size
    if not 0 < size <= _MAX_METADATA_BYTES:
        raise DatasetError(f'bag: {metadata}: expected 1 to {_MAX_METADATA_BYTES} bytes, got {size}')
    # Looked at event by event before rosbags builds it: neither deep nesting nor references that multiply get there.
    depth, loader = 0, getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    try:
        for event in yaml.parse(metadata.read_text('utf-8'), Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _MAX_DEPTH:
                raise DatasetError(f'bag: {metadata} is not what rosbag2 writes; `ros2 bag reindex` writes it anew')
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DatasetError(f'bag: {metadata} is not readable: {shorten(error)}') from error
