"""Chooses, of the tools that sources list, those that an agent has.

A source names its tools itself, and may be a server that nobody trusts. If it is not required, its tools must
not end a run: those that the agent cannot have are left out. What a required source lists, the agent has, or
the run fails with an error that names both sides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outlast.core.agents import TOOL_NAME, TOOLS_MAX, ToolSpec
from outlast.core.errors import DefinitionError
from outlast.ports.tools import ToolSource

NAME_CHARACTERS_SHOWN = 100


@dataclass
class SourceTools:
    """The tools of an agent's sources."""

    tools: list[tuple[ToolSource, ToolSpec]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """A sentence for each tool, or source, that the agent does not have."""
    withdrawn: set[str] = field(default_factory=set)
    """The sources of which the agent has no tools."""


def choose_tools(
    agent: str,
    sources: Sequence[ToolSource],
    tool_lists: Mapping[str, Sequence[ToolSpec]],
    own: Iterable[str],
    room: int,
    checked: Mapping[str, str],
    indexed: Collection[str] = (),
) -> SourceTools:
    """Return the tools that the agent has of `sources`, in their order.

    A source that is not required is withdrawn if the agent has a check of a tool of it that it does not list:
    under another name, that tool could be called unchecked.

    Args:
        agent: The name of the agent.
        sources: Its tool sources.
        tool_lists: The tools of each source, by its name.
        own: The names of its other tools and of its handoffs.
        room: The number of tools that it can have beside its own.
        checked: The tools whose calls are checked, each with how, in words.
        indexed: The sources whose tools need no room, because the model sees them only when it finds them.

    Raises:
        DefinitionError: two tools of one name, of which at least one is from a source that is required.
    """
    chosen = SourceTools()
    owners = dict.fromkeys(own, "the agent itself")
    for source in sources:
        if source.required:
            for tool in tool_lists[source.name]:
                if tool.name in owners:
                    raise DefinitionError(
                        f"agent {agent!r} has two tools or handoffs called {tool.name!r}: one of "
                        f"{owners[tool.name]} and one of tool source {source.name!r}; rename one of them, or "
                        "exclude one"
                    )
                owners[tool.name] = f"tool source {source.name!r}"
    known = {*owners, *(tool.name for source in sources for tool in tool_lists[source.name])}
    unknown = [name for name in checked if name not in known]
    room -= sum(len(tool_lists[one.name]) for one in sources if one.required and one.name not in indexed)
    for source in sources:
        listed = tool_lists[source.name]
        if source.required:
            chosen.tools += [(source, tool) for tool in listed]
            continue
        if listed and (name := next((one for one in unknown if one.startswith(f"{source.name}_")), None)):
            chosen.withdrawn.add(source.name)
            chosen.left_out.append(
                f"tool source {source.name!r} does not list {name!r}, whose calls {checked[name]}; "
                f"agent {agent!r} has none of its tools"
            )
            continue
        for tool in listed:
            needs_room = source.name not in indexed
            if (problem := _problem(tool.name, owners, room if needs_room else 1)) is None:
                owners[tool.name] = f"tool source {source.name!r}"
                chosen.tools.append((source, tool))
                room -= needs_room
            else:
                shown = tool.name[:NAME_CHARACTERS_SHOWN]
                chosen.left_out.append(
                    f"agent {agent!r} does not have tool {shown!r} of tool source {source.name!r}: {problem}"
                )
    return chosen


def _problem(name: str, owners: Mapping[str, str], room: int) -> str | None:
    """Return why an agent cannot have a tool of that name; None if it can."""
    if not TOOL_NAME.match(name):
        return "model APIs refuse its name"
    if name in owners:
        return f"{owners[name]} has a tool or a handoff with this name"
    if room <= 0:
        return f"an agent can have {TOOLS_MAX} tools and handoffs"
    return None


def is_source(tool: Any) -> bool:
    """Return whether a tool of an agent is a source of tools."""
    if isinstance(tool, type):
        return False  # The class of a source has the methods too, but they need an instance.
    return all(callable(getattr(tool, name, None)) for name in ("list_tools", "call", "effect"))
