"""What the commands share: one-line errors, options of the network, starting ROS processes."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
from collections.abc import Callable

from sembox_ros.config import DetectionConfig, NodeConfig
from sembox_ros.errors import ConfigError, SemboxError
from sembox_ros.inference.predictor import Predictor
from sembox_ros.replay.processes import ros_command


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds defaults to the help, but not those that say nothing."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default in ('', False, []):
            return action.help
        return super()._get_help_string(action)


def run_command(
    args: list[str] | None,
    *,
    name: str,
    description: str | None,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int],
) -> int:
    """Parse the arguments and run; errors of ours become one line on stderr and status 1, Ctrl-C status 130."""
    parser = argparse.ArgumentParser(
        prog=f'python -m sembox_ros {name}',
        description=description,
        formatter_class=HelpFormatter,
    )
    add_arguments(parser)
    options = parser.parse_intermixed_args(args)
    try:
        return run(options)
    except SemboxError as error:
        print(f'{name}: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f'{name}: interrupted', file=sys.stderr)
        return 130


def add_config_options(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> None:
    """One option per named field of `NodeConfig`, with its description and default: --score-threshold and so on."""
    fields = {f.name: f for f in dataclasses.fields(NodeConfig)}
    for name in names:
        field = fields[name]
        parser.add_argument(
            f'--{name.replace("_", "-")}',
            type=type(field.default),
            default=field.default,
            choices=field.metadata['choices'] or None,
            help=field.metadata['description'],
        )


PREDICTOR_OPTIONS = ('checkpoint', 'device', 'engine', 'precision', 'threads')


def load_predictor(options: argparse.Namespace) -> Predictor:
    """The predictor that the options named `PREDICTOR_OPTIONS` ask for; says on stderr what runs it.

    Raises:
        SemboxError: the checkpoint is unusable, or an option asks for what is not to be had.
    """
    given = {name: getattr(options, name) for name in PREDICTOR_OPTIONS if name != 'checkpoint'}
    predictor = Predictor.from_checkpoint(options.checkpoint or None, **given)
    engine = f'{predictor.engine.name} {predictor.engine.precision}'
    compared = f' (of {", ".join(map(str, predictor.measured))})' if predictor.measured else ''
    print(f'{predictor.checkpoint.config.name} on {predictor.device} by {engine}{compared}', file=sys.stderr)
    return predictor


def detection_config(options: argparse.Namespace) -> DetectionConfig:
    """The thresholds among the parsed options.

    Raises:
        ConfigError: a value outside its limits.
    """
    return DetectionConfig(**{f.name: getattr(options, f.name) for f in dataclasses.fields(DetectionConfig)})


def parse_size(text: str) -> tuple[int, int]:
    """HxW to (height, width).

    Raises:
        ConfigError: another form.
    """
    match = re.fullmatch(r'(\d{1,5})[xX](\d{1,5})', text)
    if not match:
        raise ConfigError(f"size: expected HEIGHTxWIDTH such as 512x1024, got '{text}'")
    return int(match[1]), int(match[2])


def become_ros_process(module: str, args: list[str]) -> int:
    """Replace this process by a ROS executable, so that signals and the exit status are its own."""
    sys.stdout.flush()
    os.execv(sys.executable, ros_command(module, args))
