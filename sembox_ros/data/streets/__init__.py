"""Procedural driving scenes with exact labels: `render_sequence` and `render_street`."""

from __future__ import annotations

from sembox_ros.data.streets.renderer import StreetFrame, render_sequence, render_street

__all__ = ['StreetFrame', 'render_sequence', 'render_street']
