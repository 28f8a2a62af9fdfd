"""Replays in these tests are many and small: their pages, seconds each, are drawn where a test is about the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sembox_ros.replay import session
from sembox_ros.replay.report import JSON_NAME, write_json
from sembox_ros.replay.report_schema import check_report


@pytest.fixture
def with_page() -> None:
    """Asked for by a test that wants report.html too."""


@pytest.fixture(autouse=True)
def numbers_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replays inside the test's process write report.json, checked as ever, and no page."""

    def write_numbers(report: Mapping[str, Any], folder: Path) -> None:
        write_json(check_report(report, JSON_NAME), folder / JSON_NAME)

    if 'with_page' not in request.fixturenames:
        monkeypatch.setattr(session, 'write_report', write_numbers)
