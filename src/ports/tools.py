"""The tools port: sources of tools."""

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
    """The tools that a source listed, as an execution keeps them."""

    tools: tuple[ToolSpec, ...]
    fingerprint: str
    """Equal exactly if the lists look the same to a model."""

    @classmethod
    def of(cls, tools: Sequence[ToolSpec]) -> Self:
        """Return the list of these tools."""
        marks = " ".join(tool.fingerprint for tool in tools)
        return cls(tools=tuple(tools), fingerprint=sha256(marks.encode()).hexdigest())

    def written(self) -> dict[str, JSON]:
        """Return it as JSON, without empty fields."""
        return {"fingerprint": self.fingerprint, "tools": [tool.to_data("json") for tool in self.tools]}


def misfit(tool: ToolSpec, faults: Sequence[str], known: str | None = None) -> InvalidArguments:
    """Return the error for arguments that do not fit `tool`, with what a model needs to correct them.

    It quotes the schema, and says whether the tool has changed from the one with the fingerprint `known`.
    """
    changed = known is not None and known != tool.fingerprint
    heading = "the tool has changed since it was listed; its schema is now" if changed else "its schema is"
    return InvalidArguments(tool.name, [*faults, f"{heading} {encode(tool.parameters).decode()}"])


class ToolSource(Protocol):
    """A place where tools come from (activities, an MCP server).

    T1  `list_tools` gives every tool once, with a valid JSON schema of its arguments.
    T2  `call` runs one tool once; an error that the tool itself reports is an output with `is_error`.
    T3  Arguments that do not fit raise `InvalidArguments`, an unknown name `UnknownTool`, before anything
        runs. An infrastructure failure raises; `effect` says whether the call may be repeated.
    T4  Any number of calls may run at once; cancelling one leaves the others alone.
    T5  A tool may have changed since it was listed: then its fingerprint differs from the one that the caller
        knows. It is called if the arguments fit its present schema, and the output says how it has `changed`;
        arguments that do not fit are refused with the present schema.
    T6  Whatever the tools and the arguments are, listing and checking hold the event loop for no longer than
        other executions can wait: some 50 ms. What takes longer is done in a thread, or not at all.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The source's name, unique among the agents that a run can reach."""

    @property
    def required(self) -> bool:
        """True if a run fails when the tools cannot be listed; if False, it says so and goes on."""
        return True

    @abstractmethod
    async def list_tools(self, resources: Resources) -> Sequence[ToolSpec]:
        """Return the tools, sorted by name. An execution keeps using this list, also the effect and the
        timeout in each spec."""

    @abstractmethod
    async def call(
        self, tool: str, arguments: Mapping[str, JSON], resources: Resources, *, known: str | None = None
    ) -> ToolOutput:
        """Run the tool and return its output; `known` is the tool's fingerprint as the caller knows it."""

    @abstractmethod
    def effect(self, tool: str) -> Effect:
        """Return the side effect of calling the tool; "once" if it is unknown."""
