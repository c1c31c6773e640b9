"""The tools port: what a source of tools offers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Protocol, Self

from outlast.core.agents import Effect, ToolSpec
from outlast.core.errors import InvalidArguments
from outlast.core.json import JSON, encode
from outlast.core.tool_output import ToolOutput
from outlast.core.values import Value
from outlast.ports.resources import Resources

__all__ = ["Effect", "ToolList", "ToolOutput", "ToolSource", "misfit"]


class ToolList(Value):
    """What a source listed, as an execution keeps it."""

    tools: tuple[ToolSpec, ...]
    fingerprint: str
    """Equal exactly for lists of tools that look the same to a model."""

    @classmethod
    def of(cls, tools: Sequence[ToolSpec]) -> Self:
        """Return the list of these tools."""
        marks = " ".join(tool.fingerprint for tool in tools)
        return cls(tools=tuple(tools), fingerprint=sha256(marks.encode()).hexdigest())

    def written(self) -> dict[str, JSON]:
        """Return it as JSON, without what says nothing."""
        return {"fingerprint": self.fingerprint, "tools": [tool.to_data("json") for tool in self.tools]}


def misfit(tool: ToolSpec, faults: Sequence[str], known: str | None = None) -> InvalidArguments:
    """Return the refusal of arguments that do not fit `tool`, with what a model needs to do better.

    That is its schema, and whether it has changed from the one that the caller knows by its fingerprint.
    """
    changed = known is not None and known != tool.fingerprint
    told = "the tool has changed since it was listed; its schema is now" if changed else "its schema is"
    return InvalidArguments(tool.name, [*faults, f"{told} {encode(tool.parameters).decode()}"])


class ToolSource(Protocol):
    """A place where tools come from (activities, an MCP server).

    T1  `list_tools` gives every tool once, with a valid JSON schema of its arguments.
    T2  `call` runs one tool once; what the tool itself reports as an error is an output with `is_error`.
    T3  Arguments that do not fit raise `InvalidArguments`, an unknown name `UnknownTool`, before anything
        runs. An infrastructure failure raises; whether it may be repeated is for `effect` to say.
    T4  Any number of calls may run at once; cancelling one leaves the others alone.
    T5  A tool that is not any more what its caller knows, by the fingerprint it was listed with, is called if
        the arguments fit it as it is now, and the output says how it has `changed`; arguments that do not fit
        are refused with the schema as it is now.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The source's name, unique among the agents that a run can reach."""

    @property
    def required(self) -> bool:
        """Whether a run fails when the tools cannot be listed; else it goes on without them, and says so."""
        return True

    @abstractmethod
    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        """Return the tools, sorted by name. An execution keeps to this answer, also to what a spec says of
        the tool's effect and time."""

    @abstractmethod
    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        """Run the tool and return what it gave; `known` is the fingerprint that the caller knows it by."""

    @abstractmethod
    def effect(self, tool: str) -> Effect:
        """Return what calling the tool does to the world; "once" when nothing is known."""
