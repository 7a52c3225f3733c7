"""JSON of strangers -> frozen dataclasses, checked field by field against the annotations."""

from __future__ import annotations

import dataclasses
import types
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from splat.core.foreign import shown

T = TypeVar("T")
MAX_NUMBER = 1e12
"""Of any coordinate or size. What is larger is a mistake, and squares of it would leave float32."""
MAX_ITEMS = 100_000
"""Of one list."""


class MalformedMessage(ValueError):
    """What arrived is not what its type says. The text names the field."""


def decode(kind: type[T], data: Any, name: str = "message") -> T:
    """`data` (of `json.loads`) as an instance of the dataclass `kind`.

    Understands float, int, bool, str, Literal, tuples of fixed or any length, X | None, nested dataclasses, and unions
    of dataclasses that are told apart by a field `kind: Literal[...]`. Fields with a default may be absent; unknown
    ones are errors. Raises MalformedMessage for everything else, numbers that are not finite included.
    """
    value: T = _decode(kind, data, name)
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _decode(kind: Any, data: Any, name: str) -> Any:
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _record(kind, data, name)
    if origin in (Union, types.UnionType):
        return _union(get_args(kind), data, name)
    if origin is Literal:
        if not isinstance(data, str) or data not in get_args(kind):
            raise MalformedMessage(f"{name} must be one of {', '.join(map(str, get_args(kind)))}")
        return data
    if origin is tuple:
        return _tuple(get_args(kind), data, name)
    if kind is bool:
        if not isinstance(data, bool):
            raise MalformedMessage(f"{name} must be true or false")
        return data
    if kind is str:
        if not isinstance(data, str) or len(data) > 1000:
            raise MalformedMessage(f"{name} must be a short text")
        return data
    return _number(kind, data, name)


def _number(kind: Any, data: Any, name: str) -> Any:
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise MalformedMessage(f"{name} must be a number")
    if not abs(data) <= MAX_NUMBER:  # false for NaN; of integers too large for a float it can be asked
        raise MalformedMessage(f"{name} must be a finite number")
    if kind is int:
        if int(data) != data:
            raise MalformedMessage(f"{name} must be a whole number")
        return int(data)
    return float(data)


def _tuple(parts: tuple[Any, ...], data: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(data, list) or len(data) > MAX_ITEMS:
        raise MalformedMessage(f"{name} must be a list")
    if parts[-1] is Ellipsis:
        return tuple(_decode(parts[0], value, f"{name}[{i}]") for i, value in enumerate(data))
    if len(data) != len(parts):
        raise MalformedMessage(f"{name} must have {len(parts)} values")
    return tuple(_decode(part, value, f"{name}[{i}]") for i, (part, value) in enumerate(zip(parts, data)))


def _union(members: tuple[Any, ...], data: Any, name: str) -> Any:
    if data is None and type(None) in members:
        return None
    rest = [m for m in members if m is not type(None)]
    if len(rest) == 1:
        return _decode(rest[0], data, name)
    kinds = {get_args(_hints(m)["kind"])[0]: m for m in rest}
    found = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(found, str) or found not in kinds:
        raise MalformedMessage(f"{name} must be an object whose kind is one of {', '.join(kinds)}")
    return _record(kinds[found], data, name)


def _record(kind: Any, data: Any, name: str) -> Any:
    if not isinstance(data, dict):
        raise MalformedMessage(f"{name} must be an object")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := data.keys() - fields.keys():
        raise MalformedMessage(f"{name} has no field {shown(min(unknown))[:40]}")
    values = {}
    for field, about in fields.items():
        if field in data:
            values[field] = _decode(_hints(kind)[field], data[field], f"{name}.{field}")
        elif about.default is dataclasses.MISSING:
            raise MalformedMessage(f"{name} lacks {field}")
    try:
        return kind(**values)
    except ValueError as e:
        raise MalformedMessage(f"{name}: {e}") from None
