"""report.json and report.html: what a replay came to, for programs and for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sembox_ros.atomic import write_whole
from sembox_ros.errors import ConfigError, DatasetError
from sembox_ros.page import write_page
from sembox_ros.replay.report_page import render_page
from sembox_ros.replay.report_schema import check_report
from sembox_ros.replay.report_sections import build_page

JSON_NAME, PAGE_NAME = 'report.json', 'report.html'
MAX_REPORT_BYTES = 64_000_000


def write_report(report: Mapping[str, Any], folder: Path) -> None:
    """Write `report.json` and `report.html`; what was there stays whole until the new file is complete.

    Args:
        report: as docs/replay.md describes it.
        folder: the replay's folder, which holds the pictures that `worst` names.

    Raises:
        DatasetError: a file cannot be written, or a field is not as documented; report.json is written all the same.
    """
    write_json(report, folder / JSON_NAME)
    write_page(folder / PAGE_NAME, render_page(build_page(check_report(report, JSON_NAME), folder)))


def load_report(path: Path) -> dict[str, Any]:
    """Read a report, which may come from anywhere.

    Args:
        path: of report.json or of the folder that holds it.

    Returns:
        The report in which fields that may be null are there.

    Raises:
        ConfigError: there is no such file.
        DatasetError: it cannot be read, or it is no report of this version; names the field.
    """
    file = path / JSON_NAME if path.is_dir() else path
    try:
        size = file.stat().st_size
        if size > MAX_REPORT_BYTES:
            raise DatasetError(f'{file}: expected at most {MAX_REPORT_BYTES} bytes, got {size}')
        report = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise ConfigError(
            f'{file}: no such file; give the report.json, or its folder, that `python -m sembox_ros replay` wrote'
        ) from error
    except OSError as error:
        raise DatasetError(f'{file}: cannot be read: {error.strerror}') from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f'{file}: not JSON, it may be cut short ({str(error)[:100]}); replay the bag again'
        ) from error
    return check_report(report, str(file))


def write_json(record: Mapping[str, Any], path: Path) -> None:
    """Write a JSON file, wholly or not at all.

    Raises:
        DatasetError: it cannot be written.
    """
    write_whole(path, json.dumps(record, indent=1, allow_nan=False).encode(), DatasetError)
