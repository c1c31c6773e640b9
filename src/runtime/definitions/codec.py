"""One type hint, and the JSON that its values are written as.

A journal and a model read the same types differently. The journal is written and read by field name, so that
no alias of a pydantic model can lose a value. A model sees the JSON schema, and with it the aliases. Both are
read in pydantic's lax JSON mode: `"3"` and `3.0` are valid integers. A person's answer to a question follows
its schema to the letter: if a slip of the pen became a yes, nobody would notice.
"""

from __future__ import annotations

import inspect
import json
import re
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from types import NoneType
from typing import Annotated, Any, TypedDict, cast, get_args, get_origin

from pydantic import (
    ConfigDict,
    GetCoreSchemaHandler,
    PydanticUserError,
    RootModel,
    TypeAdapter,
    ValidationError,
)
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import (
    ErrorDetails,
    PydanticSerializationError,
    SchemaSerializer,
    SchemaValidator,
    core_schema,
)

from outlast.core.errors import DefinitionError
from outlast.core.json import DEPTH_MAX, JSON, canonical, decode, encode
from outlast.runtime.definitions.core_schemas import (
    has_unreadable_literals,
    parts_of,
    with_readable_literals,
)
from outlast.runtime.definitions.json_schema import DEFINITIONS, without_titles
from outlast.runtime.definitions.round_trip import Lost, RoundTrip, check_taken

FAULTS_MAX = 20
RENDERED_CHARACTERS_MAX = 100

_PLAIN_TYPES: dict[Any, type[Any]] = {
    str: str,
    int: int,
    float: float,
    bool: bool,
    NoneType: NoneType,
    None: NoneType,
}
"""Hints whose values are JSON, each with the class of its values."""
_WIDE = 2**63

# JSON cannot show NaN and infinities, so they are refused where a number comes in, not when it is written.
# ("constants" writes them, so that `encode` refuses them; by default pydantic silently writes null.)
_CORE_CONFIG = core_schema.CoreConfig(
    ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False, ser_json_inf_nan="constants"
)
_CONFIG = cast(ConfigDict, _CORE_CONFIG)


class Misfit(Exception):
    """A value does not fit a type hint; `faults` has one line for each thing that is wrong."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class QuietJsonSchema(GenerateJsonSchema):
    """pydantic's generator, without warnings about defaults that JSON cannot show."""

    ignored_warning_kinds = frozenset({"skipped-choice", "non-serializable-default"})  # type: ignore[assignment]  # a set there


class Codec:
    """Values of one type hint, to JSON and back; without a hint JSON stays as it is."""

    def __init__(self, hint: Any, *, owner: str) -> None:
        """Keep `hint`; `owner` names its place in messages ("parameter 'x' of 'f'")."""
        self.owner = owner
        self.untyped = hint is Any or hint is inspect.Parameter.empty
        self.hint, self.description = _without_description(Any if self.untyped else hint)
        self._plain_type = _PLAIN_TYPES.get(self.hint) if isinstance(self.hint, Hashable) else None

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """The pydantic adapter.

        Raises:
            DefinitionError: when pydantic cannot build one, or when no value of the type should be written.
        """
        try:
            try:
                adapter = TypeAdapter[Any](self.hint, config=_CONFIG)
            except PydanticUserError as error:
                if error.code != "type-adapter-config-unused":
                    raise
                # A class with fields may have a configuration of its own; this is for hints without one.
                adapter = TypeAdapter[Any](Annotated[Any, _Within(self.hint)], config=_CONFIG)
            _mend_literals(adapter)
        except Exception as error:  # For any exception here, the author must change the hint.
            raise self._definition_error(error) from error
        if any(part["type"] == "generator" for part in parts_of(adapter.core_schema)):
            raise DefinitionError(
                f"{self.owner} has the type {_hint_name(self.hint)}, whose items may be there only once; "
                "use list[...] instead"
            )
        if _hides_values(adapter):
            raise DefinitionError(
                f"{self.owner} holds a secret ({_hint_name(self.hint)}), and arguments and results are "
                "journaled: read the secret inside the function instead"
            )
        return adapter

    def schema(self, *, prefix: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the JSON schema, and the definitions it refers to, whose names begin with `prefix`.

        Raises:
            DefinitionError: when the hint has no JSON schema.
        """
        try:
            schema = self.adapter.json_schema(
                schema_generator=QuietJsonSchema, ref_template=f"{DEFINITIONS}{prefix}{{model}}"
            )
        except PydanticUserError as error:
            raise self._definition_error(error) from error
        schema = without_titles(schema)
        return schema, {f"{prefix}{name}": one for name, one in schema.pop("$defs", {}).items()}

    def load(self, value: JSON, *, at: str = "", by_name: bool = True, strict: bool = False) -> Any:
        """Return the typed value that `value` stands for, sharing nothing with it.

        The fields of pydantic models go by name, or else by alias. `at` is the path of `value` in faults.
        With `strict`, nothing is converted that the JSON schema does not allow: `"on"` is not a bool.

        Raises:
            Misfit: `value` does not fit; the error has all faults.
        """
        if self._is_plain(value):
            return value
        try:
            text = encode(value, depth_max=DEPTH_MAX)
            if self.untyped:
                return decode(text)
            return self._read(text, by_name, strict=strict)
        except ValidationError as error:
            raise Misfit(_faults(error, at, value)) from error
        except DefinitionError:
            raise
        except Exception as error:  # A user's validator may raise anything when it gets a model's input.
            raise Misfit([_prefixed(at, f"cannot be read ({_reason(error)})")]) from error

    def dump(self, value: Any) -> JSON:
        """Return JSON that `load` reads as `value`; faults name places, and do not show values.

        Raises:
            Misfit: when no such JSON exists.
        """
        return self._dumped(value)[0]

    def dump_and_load(self, value: Any) -> tuple[JSON, Any]:
        """Return the JSON of `dump`, and the value that `load` would make of it.

        Raises:
            Misfit: in the same cases as `dump`.
        """
        written, back = self._dumped(value)
        return written, self.load(written) if self.untyped else back

    def _dumped(self, value: Any) -> tuple[JSON, Any]:
        """Return the JSON of `value`, and the value that is read from it."""
        if self._is_plain(value):
            return cast(JSON, value), value
        try:
            try:
                return self._dumped_as_json(value)
            except _NotJson:
                return self._dumped_by_type(value)
        except ValidationError as error:
            raise Misfit(
                [
                    _prefixed(_joined("", one["loc"]), _message(one))
                    for one in error.errors(include_input=False, include_url=False, include_context=False)
                ][:FAULTS_MAX]
            ) from error
        except Lost as lost:
            raise Misfit([_prefixed(_joined("", lost.path), lost.problem)]) from lost
        except DefinitionError:
            raise
        except Exception as error:  # Serialisers are user code, and so are the values they get.
            raise Misfit([_reason(error)]) from error

    def _is_plain(self, value: Any) -> bool:
        """Return whether `value` is JSON and is read back unchanged, so that no conversion is needed."""
        kind = type(value)
        if kind is not self._plain_type:
            return False
        if kind is str:
            return _is_whole(value)
        if kind is int:
            return bool(-_WIDE < value < _WIDE)
        return kind is not float or isfinite(value)

    def _dumped_as_json(self, value: Any) -> tuple[JSON, Any]:
        """Return the JSON of a value that is JSON already, at the speed of writing and reading it.

        Raises:
            _NotJson: the value is not JSON, or the hint makes another value of its JSON.
        """
        try:
            text = encode(value, depth_max=DEPTH_MAX)
        except (TypeError, ValueError) as error:
            raise _NotJson from error
        written: JSON = decode(text)
        if written != value:
            raise _NotJson
        if self.untyped:
            return written, written
        try:
            back = self._read(text, by_name=True)
            if back == value:
                return written, back
        except DefinitionError:
            raise
        except Exception as error:  # The value is not of the type, or cannot be compared.
            raise _NotJson from error
        raise _NotJson

    def _dumped_by_type(self, value: Any) -> tuple[JSON, Any]:
        try:
            return self._checked(value)
        except (PydanticSerializationError, ValidationError, Lost):
            # The value may still stand for one of the type: a tuple for a list, a dict for a model.
            taken = self.adapter.validate_python(value, by_name=True, by_alias=True)
            if taken is value:
                raise
            check_taken(value, taken)
            return self._checked(taken)

    def _checked(self, value: Any) -> tuple[JSON, Any]:
        """Return the JSON of a value of the type, and the value read back; raise `Lost` if that is less."""
        text = encode(self._dump(value), depth_max=DEPTH_MAX)
        back = decode(text) if self.untyped else self._read(text, by_name=True)
        self._round_trip.check(value, back)
        return decode(text), back

    @cached_property
    def _round_trip(self) -> RoundTrip:
        return RoundTrip(self.adapter.core_schema)

    def _read(self, text: bytes, by_name: bool, strict: bool = False) -> Any:
        adapter = self.adapter
        names: _Names = {"by_name": by_name or None, "by_alias": False if by_name else None}
        try:
            # Strict mode comes first, because of unions: in lenient mode, 1 is also a moment in 1970.
            return adapter.validate_json(text, strict=True, **names)
        except ValidationError as error:
            if strict and not _is_unreadable(error):
                raise
            try:
                return adapter.validate_json(text, **names)
            except ValidationError as error:
                if not by_name or not _is_unreadable(error):
                    raise
        # pydantic's parser does not accept half a character; Python's does.
        return adapter.validate_python(decode(text), **names)

    def _dump(self, value: Any) -> Any:
        written = self.adapter.dump_python(
            value, mode="json", by_alias=False, round_trip=True, warnings="error"
        )
        return _ordered(value, written)

    def _definition_error(self, error: Exception) -> DefinitionError:
        return DefinitionError(
            f"{self.owner} has the type {_hint_name(self.hint)}, which cannot be written as JSON "
            f"({_reason(error)}); use plain types, dataclasses, TypedDicts or pydantic models"
        )


def _is_unreadable(error: ValidationError) -> bool:
    return error.errors(include_url=False)[0]["type"] == "json_invalid"


def _is_whole(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


class _Names(TypedDict):
    by_name: bool | None
    by_alias: bool | None


class _NotJson(Exception):
    """A value is not JSON as it is, or its JSON stands for another value."""


@dataclass(frozen=True)
class _Within:
    """Puts a type in a place where it takes on the configuration around it."""

    hint: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return handler.generate_schema(self.hint)


def _mend_literals(adapter: TypeAdapter[Any]) -> None:
    if has_unreadable_literals(adapter.core_schema):
        adapter.core_schema = with_readable_literals(adapter.core_schema)
        adapter.validator = SchemaValidator(adapter.core_schema, _CORE_CONFIG)
        adapter.serializer = SchemaSerializer(adapter.core_schema, _CORE_CONFIG)


def render(value: Any) -> str:
    """Return `value` as JSON on one line of ASCII, cut if it is long."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too big to show"
    return text if len(text) <= RENDERED_CHARACTERS_MAX else text[:RENDERED_CHARACTERS_MAX] + "..."


def _ordered(value: Any, written: Any) -> Any:
    """Return `written`, the JSON of `value`, with the items of its sets in the same order in every process.

    Strings hash differently in each process, and a replay compares the JSON that it writes with the journal.
    """
    match written:
        case list() | dict() if isinstance(value, RootModel):
            return _ordered(value.root, written)
        case list() if isinstance(value, (set, frozenset, list, tuple, deque)) and len(value) == len(written):
            items = list(map(_ordered, value, written))
            return sorted(items, key=canonical) if isinstance(value, (set, frozenset)) else items
        case dict() if isinstance(value, Mapping):
            # Keys that are not text are written differently, but in the same place.
            placed = value.values() if len(value) == len(written) else [None] * len(written)
            return {
                key: _ordered(value.get(key, other), one)
                for (key, one), other in zip(written.items(), placed, strict=True)
            }
        case dict():
            return {key: _ordered(getattr(value, key, None), one) for key, one in written.items()}
    return written


def _without_description(hint: Any) -> tuple[Any, str | None]:
    """Return `hint` without the fields that only describe, and the last description.

    pydantic writes the description of an annotated recursive model into the model itself, and so into
    every other place where the model stands.
    """
    if get_origin(hint) is not Annotated:
        return hint, None
    bare, *metadata = get_args(hint)
    descriptions = [one.description for one in metadata if isinstance(one, FieldInfo) and one.description]
    kept = [one for one in metadata if not (isinstance(one, FieldInfo) and _only_describes(one))]
    return (Annotated[bare, *kept] if kept else bare), descriptions[-1] if descriptions else None


def _only_describes(info: FieldInfo) -> bool:
    return not info.metadata and info.asdict()["attributes"].keys() <= {"description"}


def _hides_values(adapter: TypeAdapter[Any]) -> bool:
    try:
        schema = adapter.json_schema(schema_generator=QuietJsonSchema)
    except PydanticInvalidForJsonSchema:
        return False
    return '"writeOnly": true' in json.dumps(schema, default=str)


def _hint_name(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def _reason(error: Exception) -> str:
    """Return the first line of an error's text, without the value that pydantic quotes."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        return "it has half a character (a lone surrogate) in a key of a dict"
    if isinstance(error, UnicodeDecodeError):
        return (
            "it has bytes that are not text, in a class that writes them as text: give it a model_config "
            'with ser_json_bytes="base64" and val_json_bytes="base64"'
        )
    lines = [line for line in str(error).splitlines() if line.strip() and "serializer warnings" not in line]
    text = re.sub(r" ?\[input_value=.*", "", lines[0].strip()) if lines else ""
    return text if isinstance(error, (ValueError, PydanticUserError)) else f"{type(error).__name__}: {text}"


def _faults(error: ValidationError, at: str, value: JSON) -> list[str]:
    """Return one line for each place that is wrong: a union's members complain about the same place."""
    places: dict[str, list[ErrorDetails]] = {}
    for one in error.errors(include_url=False, include_context=False):
        missing = one["loc"][-1:] if one["type"] == "missing" else ()
        places.setdefault(_path(at, one["loc"], value, missing), []).append(one)
    lines = []
    for path, errors in list(places.items())[:FAULTS_MAX]:
        messages = " or ".join(dict.fromkeys(_message(one) for one in errors))
        shows_input = errors[0]["type"] not in ("missing", "json_invalid")
        lines.append(
            _prefixed(path, f"{messages}; got {render(errors[0]['input'])}" if shows_input else messages)
        )
    if len(places) > FAULTS_MAX:
        lines.append(f"and {len(places) - FAULTS_MAX} more of the kind")
    return lines


def _message(error: ErrorDetails) -> str:
    match error["type"]:
        case "missing":
            return "missing, and it is required"
        case "json_invalid":
            return (
                "cannot be read: it holds half a surrogate pair, a number of thousands of digits, "
                "or lists and objects nested too deeply"
            )
    message = " ".join(error["msg"].split())
    return message.replace("Input should be ", "expected ", 1).removeprefix("Value error, ")


def _path(at: str, location: Sequence[str | int], value: Any, missing: Sequence[str | int] = ()) -> str:
    """Return where `location` is in `value`, leaving out pydantic's names for the members of a union."""
    steps: list[str | int] = []
    for step in location[: len(location) - len(missing)]:
        if isinstance(value, Mapping) and step in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            continue
        steps.append(step)
    return _joined(at, [*steps, *missing])


def _joined(at: str, steps: Sequence[str | int]) -> str:
    path = at + "".join(
        f".{one}" if isinstance(one, str) and one.isidentifier() else f"[{render(one)}]" for one in steps
    )
    return path.removeprefix(".")


def _prefixed(path: str, text: str) -> str:
    return f"{path}: {text}" if path else text
