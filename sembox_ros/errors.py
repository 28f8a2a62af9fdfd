"""Every error that sembox_ros raises on purpose.

A message names the argument, what was expected, what came, and the remedy, in one line.
"""


class SemboxError(Exception):
    """Base of all errors that a user can cause and can mend."""


class ConfigError(SemboxError):
    """A parameter, option or configuration file is wrong."""


class CheckpointError(SemboxError):
    """A checkpoint file is missing, malformed or does not fit."""


class InputError(SemboxError):
    """An image or a message cannot be used."""


class DatasetError(SemboxError):
    """A dataset or a bag is missing, half there or malformed."""


class TrainingError(SemboxError):
    """A training run cannot go on."""
