"""Checks schemas of a server, and values against them, with bounded work.

A schema is a program that a stranger wrote. A few lines of references to references stand for more subschemas
than any process could visit, and one regular expression can take longer than the age of the universe, in
code that no other thread can interrupt. So

- `problem_of_schema` refuses schemas that are too large, are not valid, or stand for too much when their
  references are written out. It runs in a thread.
- `Checker` counts its work, and gives up after some 50 ms: then the value counts as fitting. It runs in the
  event loop.
- No regular expression of a schema is compiled or run, no document is fetched, and keywords whose cost cannot
  be counted are not checked. The server makes its own check of the arguments of a call; ours helps the model
  to correct them sooner.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import cache
from itertools import islice
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no types
from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]  # it ships no types
from jsonschema.validators import extend, validator_for  # type: ignore[import-untyped]  # it ships no types
from referencing import Registry

from outlast.adapters.mcp import limits
from outlast.core.json import DEPTH_MAX, encode

logger = logging.getLogger("outlast.mcp")

FAULTS_MAX = 10
FAULT_CHARACTERS_MAX = 300
NO_DOCUMENTS: Registry[Any] = Registry()
"""An empty registry of other documents, so that no schema of a server makes this process fetch one."""

Schema = dict[str, Any]

_UNCHECKED = ("pattern", "patternProperties", "uniqueItems", "unevaluatedItems", "unevaluatedProperties")
"""Keywords that run a regular expression, or whose work grows faster than their size."""
_IN_PLACE = frozenset(
    (
        *("$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"),
        *("dependentSchemas", "dependencies"),
    )
)
"""Keywords whose subschemas apply to the same value, not to a part of it."""
_BY_NAME = frozenset(("properties", "patternProperties", "dependentSchemas", "dependencies"))
"""Keywords whose subschemas have names."""
_NOT_FOLLOWED = frozenset(("$defs", "definitions", "const", "enum", "default", "examples"))
"""Keywords that hold data, or subschemas that apply only where a reference leads to them."""


# Schemas


def problem_of_schema(schema: Schema) -> str | None:
    """Return why `schema` cannot be used; None if it can."""
    try:
        encode(schema, depth_max=DEPTH_MAX)
        if values_in(schema, limits.SCHEMA_VALUES_MAX) > limits.SCHEMA_VALUES_MAX:
            return f"its schema has more than {limits.SCHEMA_VALUES_MAX} values"
        _version_of(schema).check_schema(schema, format_checker=None)
        _Expansion(schema).size_of(schema)
    except SchemaError as error:
        return f"its schema is not valid: {error.message[:FAULT_CHARACTERS_MAX]}"
    except _TooMuch as problem:
        return str(problem)
    except RecursionError:
        return "the references in its schema lead too deep"
    except (ValueError, TypeError) as error:
        return f"its schema cannot be stored: {error}"
    return None


class _TooMuch(Exception):
    """A schema, or a check, is more than we do for a server."""


class _Expansion:
    """Counts the subschemas of a schema when every reference is written out.

    A reference back to a subschema that the count is inside of is not followed. If all keywords in between
    apply to the same value, a check would never end.
    """

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._sizes: dict[int, int] = {}
        self._open: list[int] = []
        """The subschemas that the count is inside of, by their ids."""
        self._in_place: list[bool] = []
        """For each of them, whether it applies to the same value as the one before."""

    def size_of(self, schema: Any, in_place: bool = False) -> int:
        if isinstance(schema, list):
            return sum(self.size_of(one, in_place) for one in schema)
        if not isinstance(schema, dict):
            return 0
        this = id(schema)
        if this in self._sizes:
            return self._sizes[this]
        if this in self._open:
            if in_place and all(self._in_place[self._open.index(this) + 1 :]):
                raise _TooMuch("the references in its schema lead back to themselves")
            return 1
        self._open.append(this)
        self._in_place.append(in_place)
        size = 1 + sum(self._size_at(keyword, value) for keyword, value in schema.items())
        self._open.pop()
        self._in_place.pop()
        if size > limits.SCHEMA_EXPANDED_MAX:
            raise _TooMuch(
                "its schema has references that multiply: written out, it would have more than "
                f"{limits.SCHEMA_EXPANDED_MAX} subschemas"
            )
        self._sizes[this] = size
        return size

    def _size_at(self, keyword: str, value: Any) -> int:
        if keyword in _NOT_FOLLOWED:
            return 0
        in_place = keyword in _IN_PLACE
        if keyword == "$ref" and isinstance(value, str):
            return self.size_of(self._at(value), in_place)
        if keyword in _BY_NAME and isinstance(value, dict):
            return sum(self.size_of(one, in_place) for one in value.values())
        return self.size_of(value, in_place)

    def _at(self, reference: str) -> Any:
        """Return the subschema that a JSON pointer leads to; None for any other reference."""
        first, *names = reference.split("/")
        found: Any = self._root if first == "#" else None
        for name in names:
            name = unquote(name).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict):
                found = found.get(name)
            elif isinstance(found, list) and name.isdecimal() and int(name[:9]) < len(found):
                found = found[int(name[:9])]
            else:
                return None
        return found


# Values


class Checker:
    """Checks values against one schema, which `problem_of_schema` has accepted."""

    def __init__(self, schema: Schema) -> None:
        checking = _checking(_version_of(schema))
        self._validator = checking(_without_versions(schema), registry=NO_DOCUMENTS)

    def faults_of(self, value: Any) -> Sequence[str]:
        """Return what is wrong with `value`, a line for each fault; nothing if it fits, or nobody can say."""
        cost = _Cost(value)
        if cost.is_too_much:
            return []
        token = _cost.set(cost)
        try:
            found = list(islice(self._validator.iter_errors(value), FAULTS_MAX + 1))
        except _TooMuch:
            return []
        except Exception as error:
            # References may lead anywhere, so that a check may meet whatever else is in the document.
            logger.debug("a schema breaks the check of a value, which is left out: %r", error)
            return []
        finally:
            _cost.reset(token)
        rest = ["and more"] if len(found) > FAULTS_MAX else []
        return [*(_fault(error) for error in found[:FAULTS_MAX]), *rest]


def _version_of(schema: Schema) -> Any:
    """Return the validator class for the version that the schema names; the latest one if nobody knows it."""
    return validator_for(schema, default=Draft202012Validator)


def _without_versions(schema: Any) -> Any:
    """Return a copy without versions: the library checks a subschema that has one with another class."""
    if isinstance(schema, list):
        return [_without_versions(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        keyword: _without_versions(value)
        for keyword, value in schema.items()
        if keyword != "$schema" or isinstance(value, dict)  # An object is the schema of a property.
    }


class _Cost:
    """The work of one check: each keyword costs what it looks at in the schema and in the value.

    (A message of the library has the `repr` of the value, also where the message is not used.)
    """

    def __init__(self, value: Any) -> None:
        self._left = limits.CHECK_COST_MAX
        self._sizes: dict[int, int] = {}
        self.is_too_much = self._size_of(value) > limits.CHECKED_VALUES_MAX

    def _size_of(self, value: Any) -> int:
        size = 1
        if isinstance(value, str):
            return 1 + len(value) // 1000
        if isinstance(value, dict):
            size += sum(self._size_of(one) + len(key) // 1000 for key, one in value.items())
        elif isinstance(value, list):
            size += sum(map(self._size_of, value))
        else:
            return 1
        self._sizes[id(value)] = size
        return size

    def add(self, keyword: str, value: Any, instance: Any) -> None:
        if keyword in ("const", "enum"):
            size = values_in(value, self._left)
        elif isinstance(value, str):
            size = len(value) // 10
        else:
            size = len(value) if isinstance(value, dict | list) else 1
        known = 1 + len(instance) // 1000 if isinstance(instance, str) else 1
        self._left -= 5 + size + self._sizes.get(id(instance), known)
        if self._left < 0:
            raise _TooMuch


_cost: ContextVar[_Cost] = ContextVar("cost")
"""The work of the check that is being made."""


@cache
def _checking(known: Any) -> Any:
    """Return a validator class like `known`, whose keywords count their work."""
    checks = {keyword: _counted(keyword, check) for keyword, check in known.VALIDATORS.items()}
    return extend(known, {**checks, **dict.fromkeys(_UNCHECKED, _unchecked)})


def _counted(keyword: str, check: Callable[..., Any]) -> Callable[..., Any]:
    def counted(validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]) -> Iterable[Any]:
        _cost.get().add(keyword, value, instance)
        if keyword == "additionalProperties" and "patternProperties" in schema:
            return ()  # Which properties are additional, only the patterns say.
        return check(validator, value, instance, schema) or ()

    return counted


def _unchecked(*_: Any) -> Iterable[Any]:
    return ()


def values_in(value: Any, enough: float = math.inf) -> int:
    """Return the number of values in a JSON value, or a number above `enough` if there are more."""
    count = 0
    waiting: list[Iterator[Any]] = [iter([value])]
    while waiting and count <= enough:
        for one in waiting[-1]:
            count += 1
            if isinstance(one, dict | list):
                waiting.append(iter(one.values() if isinstance(one, dict) else one))
                break
            if count > enough:
                break
        else:
            waiting.pop()
    return count


def _fault(error: Any) -> str:
    place = ".".join(str(part) for part in error.absolute_path) or "arguments"
    message: str = error.message
    if len(message) > FAULT_CHARACTERS_MAX:
        message = message[:FAULT_CHARACTERS_MAX] + "…"
    return f"{place}: {message}"
