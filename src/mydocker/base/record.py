"""Cheap frozen records for the start path.

`dataclass(frozen=True, slots=True)` costs about 1.5 ms of start-up for each ten classes, because it
imports `inspect` and compiles source text. `Record` gives what the start path needs of it: slots,
keyword-only construction, defaults, equality, a repr, and no assignment afterwards. It is typed
by `dataclass_transform` (PEP 681), so that type checkers see the same thing as with dataclasses.
"""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self, dataclass_transform
else:
    def dataclass_transform(**_: object):
        return lambda cls: cls


@dataclass_transform(kw_only_default=True, frozen_default=True)
class RecordMeta(type):
    """Turns annotated names of a class body into slots and collects their defaults."""

    _fields: tuple[str, ...]
    _defaults: dict[str, Any]

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> RecordMeta:
        own = tuple(body.get("__annotations__", ()))
        inherited: dict[str, Any] = {}
        fields: tuple[str, ...] = ()
        for base in bases:
            if isinstance(base, RecordMeta):
                fields += base._fields
                inherited.update(base._defaults)
        defaults = inherited | {field: body.pop(field) for field in own if field in body}
        body["__slots__"] = own
        cls = super().__new__(mcs, name, bases, body)
        cls._fields = fields + own
        cls._defaults = defaults
        return cls


class Record(metaclass=RecordMeta):
    """A frozen record: subclass it, annotate fields, give defaults (immutable ones) where wanted."""

    def __init__(self, **values: Any) -> None:
        cls = type(self)
        for field in cls._fields:
            if field in values:
                value = values.pop(field)
            elif field in cls._defaults:
                value = cls._defaults[field]
            else:
                raise TypeError(f"{cls.__name__}: missing field {field}")
            object.__setattr__(self, field, value)
        if values:
            raise TypeError(f"{cls.__name__}: no field {next(iter(values))}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in type(self)._fields)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, field) for field in type(self)._fields))

    def __repr__(self) -> str:
        inner = ", ".join(f"{field}={getattr(self, field)!r}" for field in type(self)._fields)
        return f"{type(self).__name__}({inner})"

    def replace(self, **changes: Any) -> Self:
        """Return a copy with the given fields changed."""
        return type(self)(**(self.as_dict() | changes))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, in order of declaration (one level, values as they are)."""
        return {field: getattr(self, field) for field in type(self)._fields}
