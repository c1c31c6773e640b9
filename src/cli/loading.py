"""Workflows, from the words of a command line.

A workflow is named `MODULE:NAME`, or by its name alone together with `--module`. An installed package makes
the name alone enough, by an entry point of that name in the group `outlast.workflows`:

    [project.entry-points."outlast.workflows"]
    deal_analysis = "deals.workflows:DealAnalysis"
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Final

from outlast.core.errors import ConfigurationError, DefinitionError, OutlastError
from outlast.ports.definitions import WorkflowDefinition
from outlast.runtime.definitions.known_workflows import definition_of

ENTRY_POINTS: Final = "outlast.workflows"


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
    """Return the workflow `MODULE:NAME`, or the one called `target` in `module` or an installed package.

    Raises:
        ConfigurationError: nobody says which module it is in, or it is not there.
    """
    if ":" in target:
        module, _, target = target.partition(":")
    if module is None:
        definition = _installed(target)
        if definition is None:
            raise ConfigurationError(
                f"where is workflow {target!r} defined? Write MODULE:{target}, or give --module MODULE"
            )
        return definition
    return _workflows_of(module, target)[0]


def known_workflow(name: str, module: str | None) -> WorkflowDefinition | None:
    """Return the workflow of that name: that of `module` or, without one, of an installed package if any.

    Raises:
        ConfigurationError: the module cannot be imported, or does not have the workflow.
    """
    return _installed(name) if module is None else _workflows_of(module, name)[0]


def attribute_of(target: str) -> Any:
    """Return the object `MODULE:NAME`.

    Raises:
        ConfigurationError: the module cannot be imported, or has nothing of that name.
    """
    module, _, name = target.partition(":")
    if not name:
        raise ConfigurationError(f"{target!r} names no object of a module; write MODULE:NAME")
    found = vars(_imported(module))
    if name not in found:
        raise ConfigurationError(f"module {module!r} has nothing called {name!r}")
    return found[name]


def _installed(name: str) -> WorkflowDefinition | None:
    """Return the workflow that an installed package announces under its name."""
    for point in entry_points(group=ENTRY_POINTS, name=name):
        module, _, attribute = point.value.partition(":")
        return _workflows_of(module, attribute.strip() or name)[0]
    return None


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
