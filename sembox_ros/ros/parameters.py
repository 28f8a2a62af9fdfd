"""The node's parameters: declared from, and checked by, the dataclass `config.NodeConfig`."""

from __future__ import annotations

import array
import dataclasses
import sys
import typing
from collections.abc import Iterable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, ParameterType
from rclpy.node import Node
from rclpy.parameter import Parameter

from sembox_ros.config import NodeConfig, check_value, field_types, suggest
from sembox_ros.errors import ConfigError

# Parameters that rclpy itself declares or that qualify its entities.
_FOREIGN = ('use_sim_time', 'start_type_description_service', 'qos_overrides.')

_TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
    tuple[str, ...]: ParameterType.PARAMETER_STRING_ARRAY,
}


def declare_parameters(node: Node) -> NodeConfig:
    """Declare every field of `NodeConfig` and return the values given to the node.

    The node must have been built with ``automatically_declare_parameters_from_overrides=True``: only so does
    rclpy show the names that the user gave, which lets a misspelt one be refused instead of silently ignored.

    Raises:
        ConfigError: an unknown name, a wrong type, or a value outside its limits.
    """
    fields = {f.name: f for f in dataclasses.fields(NodeConfig)}
    for name in node.get_parameters_by_prefix(''):
        if name not in fields and not name.startswith(_FOREIGN):
            raise ConfigError(f"parameter '{name}' is unknown{suggest(name, fields)}; known: {', '.join(fields)}")
    kinds = field_types(NodeConfig)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        descriptor = _describe(field, kinds[name])
        if node.has_parameter(name):
            value = _plain_value(node.get_parameter(name))
            if value is None and _is_list(kinds[name]):
                value = ()  # rcl cannot tell the type of a list without elements and leaves it unset
            values[name] = check_value(field, kinds[name], value)
            node.set_descriptor(name, descriptor)
        else:
            values[name] = field.default
            node.declare_parameter(name, field.default, descriptor)
    config = NodeConfig(**values)
    lists = [name for name in fields if _is_list(kinds[name])]
    for name in lists:  # rclpy takes an empty list for one of bytes
        node.set_parameters([Parameter(name, Parameter.Type(_TYPES[kinds[name]]), list(values[name]))])
    return config


def change_config(config: NodeConfig, parameters: Iterable[Parameter], *, running: bool) -> NodeConfig:
    """The configuration with some parameters changed.

    Args:
        config: as it was.
        parameters: what is to change; names that are not the node's own are passed over.
        running: True once the node is configured; then only dynamic parameters may change.

    Raises:
        ConfigError: a value is refused, or its parameter cannot change now; the message is the reason.
    """
    fields = {f.name: f for f in dataclasses.fields(NodeConfig)}
    kinds = field_types(NodeConfig)
    changes: dict[str, Any] = {}
    for parameter in parameters:
        field = fields.get(parameter.name)
        if field is None:
            if parameter.name.startswith(_FOREIGN):
                continue
            raise ConfigError(f"parameter '{parameter.name}' is unknown{suggest(parameter.name, fields)}")
        value = check_value(field, kinds[field.name], _plain_value(parameter))
        if running and not field.metadata['dynamic'] and value != getattr(config, field.name):
            raise ConfigError(f'{field.name}: can only change while the node is unconfigured; run its cleanup first')
        changes[field.name] = value
    return dataclasses.replace(config, **changes)


def _is_list(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple


def _plain_value(parameter: Parameter) -> Any:
    """A parameter's value, lists of all types as tuples."""
    value = parameter.value
    return tuple(value) if isinstance(value, (list, array.array)) else value


def _describe(field: dataclasses.Field[Any], kind: Any) -> ParameterDescriptor:
    """ROS descriptor of one dataclass field."""
    limits = field.metadata
    choices = limits['choices']
    descriptor = ParameterDescriptor(
        type=_TYPES[kind],
        description=limits['description'],
        additional_constraints=f'one of: {", ".join(choices)}' if choices else '',
        # Lets a user write `score_threshold: 1`, and give an empty list, which ROS cannot tell the type of;
        # `check_value` still refuses anything but a number or a list.
        dynamic_typing=kind is float or _is_list(kind),
    )
    low, high = limits['minimum'], limits['maximum']
    if kind is float and low is not None:
        high = sys.float_info.max if high is None else high
        descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
    elif kind is int and low is not None:
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    return descriptor
