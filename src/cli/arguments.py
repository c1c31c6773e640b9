"""The arguments of a workflow or a handler, from the words of a command line.

They come in three forms that can be mixed: words in the order of the parameters, `--arg NAME=VALUE`, and
`--input` with a JSON object. In the first two, a parameter of type `str` takes its word as it is, and any
other takes JSON of its type; a word that is not JSON is tried as text. `--input` holds JSON for all of them.
"""

from __future__ import annotations

import inspect
import json
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Any

from pydantic import TypeAdapter, ValidationError

from outlast.core.errors import DefinitionError
from outlast.core.json import JSON, decode
from outlast.ports.definitions import HandlerDefinition, WorkflowDefinition

_JSON_BEGINS = ("{", "[", '"')
"""The first characters of a word that is meant as JSON."""
_PLACED = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class WrongWords(ValueError):
    """The words do not fit the parameters."""


@dataclass(frozen=True, slots=True)
class Given:
    """Arguments as they were given."""

    words: Sequence[str] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    """Words by the name of their parameter."""
    document: Mapping[str, JSON] = field(default_factory=dict)
    """JSON by the name of its parameter."""


@dataclass(frozen=True, slots=True)
class Callee:
    """A callable that arguments are for, as messages name it."""

    title: str
    function: Callable[..., Any]

    @classmethod
    def entrypoint(cls, definition: WorkflowDefinition) -> Callee:
        """Return the entrypoint of a workflow."""
        return cls(f"workflow {definition.name!r}", getattr(definition.cls, definition.entrypoint))

    @classmethod
    def handler(cls, definition: WorkflowDefinition, sort: str, name: str) -> Callee:
        """Return a handler of a workflow: a "signal", a "query" or an "update".

        Raises:
            WrongWords: the workflow does not have it.
        """
        handlers: Mapping[str, Mapping[str, HandlerDefinition]] = {
            "signal": definition.signals,
            "query": definition.queries,
            "update": definition.updates,
        }
        if name not in handlers[sort]:
            known = ", ".join(sorted(handlers[sort])) or "none"
            raise WrongWords(f"workflow {definition.name!r} has no {sort} {name!r}; it has: {known}")
        return cls(f"{sort} {name!r}", getattr(definition.cls, handlers[sort][name].method))

    def parameters(self) -> Mapping[str, Parameter]:
        """Return the parameters, each with its type; raises `DefinitionError` if a type is not defined."""
        try:
            hints = typing.get_type_hints(self.function, include_extras=True)
        except NameError as error:
            raise DefinitionError(
                f"{self.title} has a type hint that names {error.name!r}, which is not defined"
            ) from error
        _, *parameters = inspect.signature(self.function).parameters.values()
        return {one.name: one.replace(annotation=hints.get(one.name, Any)) for one in parameters}


def given(words: Sequence[str] | None, named: Sequence[str] | None, document: str | None) -> Given:
    """Return what the arguments and options of a command give.

    Raises:
        WrongWords: one of them cannot be read.
    """
    by_name: dict[str, str] = {}
    for text in named or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise WrongWords(f"{text!r} is not NAME=VALUE")
        if name in by_name:
            raise WrongWords(f"{name} is given twice")
        by_name[name] = value
    return Given(words or (), by_name, {} if document is None else _object(document))


def arguments_for(callee: Callee | None, given: Given) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call: those that go by position, and those that go by name.

    Without the callee, each word is JSON if it can be read as JSON, else text.

    Raises:
        WrongWords: there are too few or too many, or one does not fit its parameter.
    """
    _check_names(given)
    if callee is None:
        named = {name: _json_or_text(word) for name, word in given.named.items()}
        return [*map(_json_or_text, given.words)], {**named, **given.document}
    parameters = callee.parameters()
    _check_against(callee, parameters, given)
    placed = [one for one in parameters.values() if one.kind in _PLACED]
    words = {**{one.name: word for one, word in zip(placed, given.words, strict=False)}, **given.named}
    values = {name: _from_word(name, _hint(parameters, name), word) for name, word in words.items()}
    values |= {
        name: _from_json(name, _hint(parameters, name), value) for name, value in given.document.items()
    }
    args: list[Any] = []
    for parameter in placed:
        if parameter.name not in values:
            break
        args.append(values.pop(parameter.name))
    return args, values


def _check_names(given: Given) -> None:
    for name in given.named.keys() & given.document.keys():
        raise WrongWords(f"{name} is given twice")


def _check_against(callee: Callee, parameters: Mapping[str, Parameter], given: Given) -> None:
    """Raise `WrongWords` unless each argument has a parameter, and no parameter lacks one."""
    declared = [one for one in parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
    is_open = len(declared) < len(parameters)
    takes = ", ".join(one.name for one in declared) or "no arguments"
    placed = [one.name for one in declared if one.kind in _PLACED]
    by_name = {*given.named, *given.document}
    filled = {*placed[: len(given.words)], *by_name}
    missing = [one.name for one in declared if one.default is one.empty and one.name not in filled]
    if len(given.words) > len(placed) or (missing and not by_name):
        raise WrongWords(f"{callee.title} takes {takes}; {len(given.words)} were given")
    if missing:
        raise WrongWords(f"{callee.title} takes {takes}; {', '.join(missing)} is missing")
    for name in by_name - {one.name for one in declared}:
        if not is_open:
            raise WrongWords(f"{callee.title} takes {takes}; it has no parameter {name!r}")
    for name in placed[: len(given.words)]:
        if name in by_name:
            raise WrongWords(f"{name} is given twice: by position and by name")


def _hint(parameters: Mapping[str, Parameter], name: str) -> Any:
    if name in parameters:
        return parameters[name].annotation
    rest = (one.annotation for one in parameters.values() if one.kind is Parameter.VAR_KEYWORD)
    return next(rest, Any)


def _object(text: str) -> dict[str, JSON]:
    try:
        value = decode(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise WrongWords("--input is not JSON") from error
    if not isinstance(value, dict):
        raise WrongWords("--input is not a JSON object with the arguments by name")
    return value


def _json_or_text(word: str) -> JSON:
    try:
        value: JSON = decode(word)
    except ValueError:
        if word.startswith(_JSON_BEGINS):
            raise WrongWords(f"{word!r} begins like JSON and is not JSON") from None
        return word
    return value


def _from_word(name: str, hint: Any, word: str) -> Any:
    if hint is str:
        return word
    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    try:
        return adapter.validate_json(word)
    except ValidationError as error:
        failed = error
    is_json = failed.errors()[0]["type"] != "json_invalid"
    if not is_json and not word.startswith(_JSON_BEGINS):
        try:
            return adapter.validate_python(word)
        except ValidationError as error:
            failed = error
    raise _misfit(name, failed)


def _from_json(name: str, hint: Any, value: JSON) -> Any:
    try:
        return TypeAdapter(hint).validate_json(json.dumps(value))
    except ValidationError as error:
        raise _misfit(name, error) from error


def _misfit(name: str, failed: ValidationError) -> WrongWords:
    faults = failed.errors(include_url=False, include_context=False, include_input=False)
    return WrongWords(
        "; ".join(f"{'.'.join(map(str, (name, *fault['loc'])))}: {fault['msg']}" for fault in faults)
    )
