"""The types of fields that an answer may tell in odd ways, for pydantic.

An answer to a paid request must not be lost to an odd date or a missing cost: what can't be read was not told. The left
of each type is what is told as a rule, read without a call of ours; the right makes the best of anything else.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, TypeAlias

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

_INTEGER = TypeAdapter[int | None](int | None, config=ConfigDict(defer_build=True))
_NO = frozenset({"", "false", "no", "0"})


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and math.isfinite(value) else value


def _truth(value: Any) -> bool:
    return value.strip().lower() not in _NO if isinstance(value, str) else bool(value)


def _text(value: Any) -> str | None:
    """Numbers as text; what else is no text was not told."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _int(value: Any) -> int | None:
    if type(value) is int:
        return value
    try:
        return _INTEGER.validate_python(_whole(value))
    except ValidationError:
        return None


def _count(value: Any) -> int | None:
    number = _int(value)
    return None if number is None or number < 0 else number


def _urls(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    return tuple(url for url in value if isinstance(url, str) and url) if isinstance(value, list | tuple) else ()


def _nothing(_: Any) -> None:
    """What can't be read."""


LEFT_FIRST = Field(union_mode="left_to_right")
LenientInt: TypeAlias = Annotated[StrictInt | Annotated[int | None, PlainValidator(_int)], LEFT_FIRST]
LenientCount: TypeAlias = Annotated[
    Annotated[StrictInt, Field(ge=0)] | Annotated[int | None, PlainValidator(_count)], LEFT_FIRST
]
LenientStr: TypeAlias = Annotated[StrictStr | Annotated[str | None, PlainValidator(_text)], LEFT_FIRST]
LenientTime: TypeAlias = Annotated[datetime | Annotated[None, PlainValidator(_nothing)], LEFT_FIRST]
Url: TypeAlias = Annotated[StrictStr, Field(min_length=1)]
Urls: TypeAlias = Annotated[tuple[Url, ...] | Annotated[tuple[str, ...], BeforeValidator(_urls)], LEFT_FIRST]
Flag: TypeAlias = Annotated[StrictBool | Annotated[bool, BeforeValidator(_truth)], LEFT_FIRST]
Whole: TypeAlias = Annotated[int, BeforeValidator(_whole)]
