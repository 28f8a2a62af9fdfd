"""`python -m sembox_ros play`: run the bag player."""

from __future__ import annotations

import sys

from sembox_ros.cli.common import become_ros_process


def main(args: list[str] | None = None) -> int:
    """Entry point of the command."""
    return become_ros_process('player', sys.argv[1:] if args is None else args)
