"""Parameters of a running node."""

from typing import Any

import yaml
from rcl_interfaces.msg import ParameterDescriptor, ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters, SetParameters
from rclpy.parameter import Parameter, parameter_value_to_python

from vexkd_model.errors import UserError, did_you_mean
from vexkd_ros.remote.session import Session

DOUBLES = ParameterType.PARAMETER_DOUBLE, ParameterType.PARAMETER_DOUBLE_ARRAY


def get_parameters(session: Session, node: str) -> dict[str, Any]:
    """Return all parameters of a node by name, None for one that is not set."""
    names = sorted(session.call(ListParameters, f"{node}/list_parameters", ListParameters.Request()).result.names)
    answer = session.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=names))
    return {name: _plain(parameter_value_to_python(value)) for name, value in zip(names, answer.values, strict=True)}


def get_parameter(session: Session, node: str, name: str) -> Any:
    """Return one parameter; UserError where the node does not have it."""
    values = get_parameters(session, node)
    if name not in values:
        raise UserError(f"{node}: has no parameter {name}{did_you_mean(name, values)}")
    return values[name]


def set_parameter(session: Session, node: str, name: str, text: str) -> Any:
    """Set a parameter to a value as YAML writes it; return it. UserError where the node refuses it, with its reason."""
    get_parameter(session, node, name)
    kind = Parameter.Type(describe_parameter(session, node, name).type)
    try:
        value = text if kind is Parameter.Type.STRING else yaml.safe_load(text)
        if kind.value in DOUBLES:
            value = [float(one) for one in value] if isinstance(value, list) else float(value)
        parameter = Parameter(name, kind, value) if kind is not Parameter.Type.NOT_SET else Parameter(name, value=value)
    except (TypeError, ValueError, yaml.YAMLError):
        raise UserError(f"{node}: {name} takes a value of type {kind.name.lower()}, not {text!r}") from None
    request = SetParameters.Request(parameters=[parameter.to_parameter_msg()])
    (result,) = session.call(SetParameters, f"{node}/set_parameters", request).results
    if not result.successful:
        raise UserError(f"{node}: {name} stays as it was; {' '.join(result.reason.split()) or 'no reason is given'}")
    return value


def describe_parameter(session: Session, node: str, name: str) -> ParameterDescriptor:
    """Return description, type and ranges of a parameter; UserError where the node does not have it."""
    get_parameter(session, node, name)
    request = DescribeParameters.Request(names=[name])
    return session.call(DescribeParameters, f"{node}/describe_parameters", request).descriptors[0]


def description(descriptor: ParameterDescriptor) -> str:
    """Write a descriptor as one line: type, range, what it is for."""
    ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
    limits = "".join(f", {one.from_value:g} … {one.to_value:g}" for one in ranges)
    fixed = ", read only" if descriptor.read_only else ""
    kind = Parameter.Type(descriptor.type).name.lower()
    return f"{descriptor.name} ({kind}{limits}{fixed}): {descriptor.description}"


def parameter_file(node: str, values: dict[str, Any]) -> str:
    """Write parameters as the YAML that `--ros-args --params-file` reads."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *folders, last = name.split(".")
        place = nested
        for folder in folders:
            place = place.setdefault(folder, {})
        if value is not None:
            place[last] = value
    return yaml.safe_dump({node: {"ros__parameters": nested}}, allow_unicode=True)


def _plain(value: Any) -> Any:
    """Make lists of arrays and tuples."""
    return list(value) if not isinstance(value, str | bytes) and hasattr(value, "__iter__") else value
