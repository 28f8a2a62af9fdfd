"""The folder of a replay: new, to be gone on with, finished, or somebody else's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.replay.parts import finished_parts, read_records, writing
from sembox_ros.replay.report import load_report

IDENTITY, PARTS = 'replay.json', 'parts'
OUTPUTS = ('bag', 'worst', 'masks', 'coco', 'panoptic', 'ground_truth', PARTS)  # folders that a replay makes
FILES = ('report.json', 'report.html', 'frames.csv', 'grade.npz', 'played.csv', 'recorded.csv')


class ReplayFolder:
    """Where one bag's replay goes.

    Args:
        path: the folder.
        identity: everything that the results depend on, as plain JSON.
        overwrite: begin anew where a replay is there already.

    Attributes:
        path: the folder.
        parts: folder of the finished parts.
        done_frames: image messages that earlier calls finished; above 0, this one goes on.
        done_parts: how many parts they are in.

    Raises:
        ConfigError: the folder holds something else, or a replay with another identity.
        DatasetError: it cannot be written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path, self.parts = path, path / PARTS
        marker = path / IDENTITY
        if path.exists() and not path.is_dir():
            raise ConfigError(f'--out: {path} is a file; name a folder')
        if path.is_dir() and any(path.iterdir()) and not marker.is_file():
            raise ConfigError(f'--out: {path} is not empty and no replay made it; name another folder')
        if marker.is_file():
            if overwrite:
                remove_replay(path)
            elif finished_parts(self.parts) or (path / 'report.json').exists():  # otherwise there is nothing to lose
                _check_identity(marker, identity)
        with writing(path):
            self.parts.mkdir(parents=True, exist_ok=True)
            marker.write_text(json.dumps(identity, indent=1))
        done = finished_parts(self.parts)
        self.done_parts = len(done)
        self.done_frames = sum(len(read_records(part)) for part in done)

    def finished_report(self) -> dict[str, Any] | None:
        """The report of a replay that was finished earlier, None for one that was not."""
        if not (self.path / 'report.json').is_file():
            return None
        report = load_report(self.path)
        return report if report['partial'] is None else None

    def remove_parts(self) -> None:
        """Remove what only an unfinished replay needs.

        Raises:
            DatasetError: it cannot be removed.
        """
        with writing(self.parts):
            shutil.rmtree(self.parts)


def remove_replay(path: Path) -> None:
    """Remove what a replay wrote to its folder, and nothing else.

    Raises:
        DatasetError: it cannot be removed.
    """
    with writing(path):
        for name in OUTPUTS:
            if (path / name).is_dir():
                shutil.rmtree(path / name)
        for file in (*path.glob('overlay*.mp4'), *(path / name for name in FILES), path / IDENTITY):
            file.unlink(missing_ok=True)


def _check_identity(marker: Path, identity: Mapping[str, Any]) -> None:
    try:
        before = json.loads(marker.read_text())
        if not isinstance(before, dict):
            raise TypeError('not an object')
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DatasetError(f'{marker}: damaged ({error}); --overwrite begins anew') from error
    # Through JSON, so that tuples and lists are the same.
    now = json.loads(json.dumps(identity))
    differing = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if differing:
        shown = '; '.join(f'{n} was {_short(before.get(n))}, is {_short(now.get(n))}' for n in differing[:3])
        raise ConfigError(
            f'--out: {marker.parent} holds a replay with other settings ({shown}); '
            'name another folder, or --overwrite replaces it'
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
