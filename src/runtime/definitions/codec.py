"""One type hint, and the JSON that its values are written as.

A journal and a model read the same types with different eyes. The journal is written and read by field
name, so that no alias of a pydantic model can lose a value. A model sees the JSON schema, and with it the
aliases. Both are read in pydantic's lax JSON mode: `"3"` and `3.0` are good integers.
"""

from __future__ import annotations

import inspect
import json
import re
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Annotated, Any, get_args, get_origin

from pydantic import ConfigDict, PydanticUserError, RootModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails, PydanticSerializationError

from outlast.core.errors import DefinitionError
from outlast.core.json import DEPTH_MAX, JSON, canonical, decode, encode
from outlast.runtime.definitions.json_schema import DEFINITIONS, without_titles

FAULTS_MAX = 20
RENDERED_CHARACTERS_MAX = 100

# JSON has no NaN and no infinity, so they are refused where a number comes in, not when it is written.
# ("constants" writes them, for `encode` to refuse; pydantic's own choice is a silent null.)
_CONFIG = ConfigDict(
    ser_json_bytes="base64", val_json_bytes="base64", allow_inf_nan=False, ser_json_inf_nan="constants"
)


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
        """Keep `hint`; `owner` says in messages where it stands ("parameter 'x' of 'f'")."""
        self.owner = owner
        self.untyped = hint is Any or hint is inspect.Parameter.empty
        self.hint, self.description = _without_description(Any if self.untyped else hint)

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """The pydantic adapter.

        Raises:
            DefinitionError: when pydantic cannot build one, or when the type hides its values.
        """
        try:
            try:
                adapter = TypeAdapter[Any](self.hint, config=_CONFIG)
            except PydanticUserError as error:
                if error.code != "type-adapter-config-unused":
                    raise
                adapter = TypeAdapter[Any](self.hint)  # A class with fields has its own configuration.
        except Exception as error:  # Whatever a hint raises here, its author must change the hint.
            raise self._definition_error(error) from error
        if _hides_values(adapter):
            raise DefinitionError(
                f"{self.owner} holds a secret ({_hint_name(self.hint)}), and arguments and results are "
                "journaled: read the secret inside the function instead"
            )
        return adapter

    def schema(self, *, prefix: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the JSON schema, and the definitions it refers to, their names beginning with `prefix`.

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

    def load(self, value: JSON, *, at: str = "", by_name: bool = True) -> Any:
        """Return the typed value that `value` stands for, sharing nothing with it.

        The fields of pydantic models go by name, or else by alias. `at` is the path of `value` in faults.

        Raises:
            Misfit: whatever is wrong with `value`.
        """
        try:
            text = encode(value, depth_max=DEPTH_MAX)
            if self.untyped:
                return decode(text)
            return self._read(text, by_name)
        except ValidationError as error:
            raise Misfit(_faults(error, at, value)) from error
        except DefinitionError:
            raise
        except Exception as error:  # A validator of the user's may raise anything over what a model sent.
            raise Misfit([_prefixed(at, f"cannot be read ({_reason(error)})")]) from error

    def dump(self, value: Any) -> JSON:
        """Return JSON that `load` reads as `value`; faults name places, and show no values.

        Raises:
            Misfit: when there is none.
        """
        text, _ = self._dumped(value)
        return decode(text)  # type: ignore[no-any-return]  # whatever JSON holds

    def dump_and_load(self, value: Any) -> tuple[JSON, Any]:
        """Return what `dump` returns, and what `load` would make of that.

        Raises:
            Misfit: as `dump`.
        """
        text, read = self._dumped(value)
        return decode(text), decode(text) if self.untyped else read

    def _dumped(self, value: Any) -> tuple[bytes, Any]:
        """Return the text of what `value` is written as, and what it is read as; None without a hint."""
        try:
            text = encode(self._serialised(value), depth_max=DEPTH_MAX)
            # What cannot be read again must fail here, at the call, and not in a replay.
            return text, None if self.untyped else self._read(text, by_name=True)
        except ValidationError as error:
            raise Misfit(
                [
                    _prefixed(_joined("", one["loc"]), _message(one))
                    for one in error.errors(include_input=False, include_url=False, include_context=False)
                ][:FAULTS_MAX]
            ) from error
        except DefinitionError:
            raise
        except Exception as error:  # Serialisers are user code too, as are the values they meet.
            raise Misfit([_reason(error)]) from error

    def _read(self, text: bytes, by_name: bool) -> Any:
        read = partial(
            self.adapter.validate_json, text, by_name=by_name or None, by_alias=False if by_name else None
        )
        try:
            # Strictly first, for the sake of unions: to be lenient, 1 is a moment in 1970 as well.
            return read(strict=True)
        except ValidationError:
            return read()

    def _serialised(self, value: Any) -> Any:
        try:
            return self._dump(value)
        except PydanticSerializationError:
            # Not of the type itself, but perhaps as good: a tuple for a list, a dict for a model.
            return self._dump(self.adapter.validate_python(value))

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


def render(value: Any) -> str:
    """Return `value` as JSON on one line of ASCII, cut where it gets long."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too big to show"
    return text if len(text) <= RENDERED_CHARACTERS_MAX else text[:RENDERED_CHARACTERS_MAX] + "..."


def _ordered(value: Any, written: Any) -> Any:
    """Return `written`, the JSON of `value`, with the items of its sets in an order that every process has.

    Strings hash differently in each process, and a replay compares what it writes with what was written.
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
