"""Replays in these tests are many and small: their pages, seconds each, are drawn where a test is about the page."""

from __future__ import annotations

import pytest


@pytest.fixture
def with_page() -> None:
    """Asked for by a test that wants report.html too."""


@pytest.fixture(autouse=True)
def pages_where_asked_for(request: pytest.FixtureRequest) -> None:
    if 'with_page' not in request.fixturenames:
        request.getfixturevalue('numbers_alone')
