"""Mistakes in an agent are errors where the agent is written, as far as they can be known there.

Sources list their tools when a run begins, and a function that returns an agent may not be called before all
agents exist. What depends on these is checked at the beginning of a run, by `agent_binding`.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from outlast.core.agents import TOOL_CHOICES, TOOL_NAME
from outlast.core.built_in_tools import BUILT_IN_TYPES
from outlast.core.errors import DefinitionError
from outlast.core.given_values import check_list
from outlast.core.json import JSON
from outlast.runtime.definitions.activity import Activity
from outlast.runtime.definitions.callables import name_of
from outlast.runtime.definitions.depends import refuse_dependencies
from outlast.runtime.definitions.run_context import with_context
from outlast.runtime.definitions.signature import CallableSignature


def as_json_object(value: Any) -> dict[str, JSON]:
    """Return a mapping, or an object of the API's own, as a JSON object.

    Raises:
        DefinitionError: it is something else.
    """
    if isinstance(value, BaseModel):
        dumped = value.model_dump(mode="json", by_alias=True)
        return {name: item for name, item in dumped.items() if item is not None}
    if isinstance(value, Mapping):
        return dict(value)
    raise DefinitionError(f"expected a mapping or one of the API's own objects, not {type(value).__name__}")


def built_in(tool: Any) -> dict[str, JSON] | None:
    """Return the wire form of a built-in tool: ours, Mistral's own object, or a mapping."""
    if isinstance(tool, (BaseModel, Mapping)):
        wire = as_json_object(tool)
        if wire.get("type") in BUILT_IN_TYPES:
            return wire
    return None


def not_a_tool(agent: str, tool: Any) -> DefinitionError:
    """Return the error for something in the tools of an agent that cannot be one."""
    shown = repr(tool) if isinstance(tool, str) else type(tool).__name__
    return DefinitionError(
        f"agent {agent!r} has something in tools that is not a tool: {shown}; "
        "give an activity, a function with type hints, another agent, or a built-in tool"
    )


def function_signature(agent: str, tool: Any) -> CallableSignature:
    """Return the signature of a plain function that is a tool, as the model sees it.

    Raises:
        DefinitionError: it cannot be a tool.
    """
    if not callable(tool) or isinstance(tool, type):
        raise not_a_tool(agent, tool)
    refuse_dependencies(tool, f"the function {name_of(tool)!r}, a tool of agent {agent!r},")
    return CallableSignature.of(with_context(tool, None))


def name_of_function(agent: str, tool: Any) -> str:
    """Return the name of a tool that is an activity or a plain function; raises what its signature raises."""
    return (tool.definition.signature if isinstance(tool, Activity) else function_signature(agent, tool)).name


def check_lists(agent: str, **lists: Any) -> None:
    """Raise DefinitionError unless these are lists, or other collections of things in order."""
    for name, given in lists.items():
        check_list(f"{name} of agent {agent!r}", given)


def check_mappings(agent: str, **mappings: Any) -> None:
    """Raise DefinitionError unless these are mappings."""
    for name, given in mappings.items():
        if not isinstance(given, Mapping):
            raise DefinitionError(f"{name} of agent {agent!r} must be a dict, not {type(given).__name__}")


def check_texts(agent: str, **texts: Iterable[Any]) -> None:
    """Raise DefinitionError unless these are texts."""
    for name, given in texts.items():
        for one in given:
            if not isinstance(one, str):
                raise DefinitionError(f"{name} of agent {agent!r} must be text, not {type(one).__name__}")


def check_output_type(agent: str, output_type: Any) -> None:
    """Raise DefinitionError if this is certainly not a type."""
    if inspect.isroutine(output_type) or isinstance(output_type, (str, bytes, int, float)):
        what = "a function" if inspect.isroutine(output_type) else repr(output_type)
        raise DefinitionError(
            f"the output_type of agent {agent!r} has no JSON schema: it is {what}; give a pydantic model, a "
            "dataclass or a plain type"
        )


def check_names(agent: str, tools: Iterable[str], handoffs: Iterable[str]) -> None:
    """Refuse names of tools and handoffs that no model could be given.

    Raises:
        DefinitionError: the API refuses one, or two are the same.
    """
    names = list(tools)
    for name in names:
        if not TOOL_NAME.match(name):
            raise DefinitionError(
                f"tool {name!r} of agent {agent!r} has a name the model API refuses; "
                "use 1 to 64 letters, digits, '_' or '-'"
            )
    for name, number in Counter([*names, *handoffs]).items():
        if number > 1:
            raise DefinitionError(
                f"agent {agent!r} has two tools or handoffs called {name!r}; rename one of them"
            )


def check_choice(agent: str, choice: str | None, known: Collection[str]) -> None:
    """Raise DefinitionError if the agent must call a tool that is not one of the `known`."""
    if choice not in (None, *TOOL_CHOICES, *known):
        raise DefinitionError(
            f"tool_choice of agent {agent!r} is {choice!r}, which is not one of its tools: "
            f"{', '.join(sorted(known)) or 'it has none'}"
        )


def check_checked(
    agent: str, checked: Iterable[str], needing_approval: Collection[str], known: Collection[str]
) -> None:
    """Refuse checks of tools that do not exist: a misspelt name would let every call through.

    Raises:
        DefinitionError: one of the tools that are `checked` is not `known`.
    """
    for tool in checked:
        if tool not in known:
            what = "requires approval of" if tool in needing_approval else "has a guardrail of"
            raise DefinitionError(
                f"agent {agent!r} {what} a tool {tool!r} that it does not have; its tools: "
                f"{', '.join(sorted(known)) or 'none'}"
            )
