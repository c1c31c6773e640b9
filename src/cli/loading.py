"""Workflows and their arguments, from the words of a command line."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import typing
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from outlast.core.errors import ConfigurationError, DefinitionError, OutlastError
from outlast.ports.definitions import WorkflowDefinition
from outlast.runtime.definitions.workflow import definition_of

_JSON_BEGINS = ("{", "[", '"')
"""The first characters of a word that is meant as JSON."""


def workflows_in(targets: Iterable[str]) -> list[WorkflowDefinition]:
    """Import each `MODULE` or `MODULE:NAME` and return the workflows there, each once.

    A name is that of the workflow or of its class. Modules in the working directory are found.

    Raises:
        ConfigurationError: a module cannot be imported, or has no such workflow.
    """
    found: dict[str, WorkflowDefinition] = {}
    for target in targets:
        module, _, name = target.partition(":")
        found |= {definition.name: definition for definition in _workflows_of(module, name)}
    return list(found.values())


def workflow_called(target: str, module: str | None) -> WorkflowDefinition:
    """Return the workflow `MODULE:NAME`, or the one called `target` in `module`.

    Raises:
        ConfigurationError: nobody says which module it is in, or it is not there.
    """
    if module is None:
        module, colon, target = target.partition(":")
        if not colon:
            raise ConfigurationError(
                f"where is workflow {module!r} defined? Write MODULE:{module}, or give --module MODULE"
            )
    return _workflows_of(module, target)[0]


def arguments_of(definition: WorkflowDefinition, words: Sequence[str]) -> list[Any]:
    """Return the arguments of a workflow from the words of a command line.

    A parameter of type `str` takes its word as it is. Any other takes JSON of its type; a word that is no
    JSON is tried as text.

    Raises:
        ValueError: there are too few or too many, or one does not fit its parameter.
    """
    method = getattr(definition.cls, definition.entrypoint)
    hints = typing.get_type_hints(method, include_extras=True)
    _, *parameters = inspect.signature(method).parameters.values()
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    if not len(required) <= len(words) <= len(parameters):
        takes = ", ".join(parameter.name for parameter in parameters) or "no arguments"
        raise ValueError(f"workflow {definition.name!r} takes {takes}; {len(words)} were given")
    return [
        _value(parameter.name, hints[parameter.name], word)
        for parameter, word in zip(parameters, words, strict=False)
    ]


def _workflows_of(module: str, name: str) -> list[WorkflowDefinition]:
    defined = _defined_in(_imported(module))
    if not defined:
        raise ConfigurationError(
            f"module {module!r} has no workflow; decorate a class with @workflow.define(name=...)"
        )
    if not name:
        return defined
    named = [one for one in defined if name in (one.name, one.cls.__name__)]
    if not named:
        known = ", ".join(one.name for one in defined)
        raise ConfigurationError(f"module {module!r} has no workflow {name!r}; it has: {known}")
    return named


def _defined_in(module: ModuleType) -> list[WorkflowDefinition]:
    definitions = []
    for value in vars(module).values():
        if isinstance(value, type):
            try:
                definitions.append(definition_of(value))
            except DefinitionError:
                continue  # An ordinary class.
    return definitions


def _imported(module: str) -> ModuleType:
    if module.endswith(".py") or os.sep in module:
        dotted = module.removesuffix(".py").replace(os.sep, ".").strip(".")
        raise ConfigurationError(f"{module!r} is a file; give the module's name, such as {dotted}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(module)
    except OutlastError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise ConfigurationError(
                f"module {module!r} was not found in the working directory or among the installed packages"
            ) from error
        raise ConfigurationError(f"module {module!r} cannot be imported: {error}") from error
    except SystemExit as error:
        raise ConfigurationError(
            f"module {module!r} ends the process (SystemExit) when it is imported; "
            'put what it runs as a script below `if __name__ == "__main__":`'
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"module {module!r} cannot be imported: {reason}") from error


def _value(name: str, hint: Any, word: str) -> Any:
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
    faults = failed.errors(include_url=False, include_context=False, include_input=False)
    reason = "; ".join(f"{'.'.join(map(str, (name, *fault['loc'])))}: {fault['msg']}" for fault in faults)
    raise ValueError(reason) from failed
