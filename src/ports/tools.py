"""The tools port: what a source of tools offers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from durable_agents.core.agents import Effect, ToolSpec
from durable_agents.core.chunks import Content
from durable_agents.core.json import JSON
from durable_agents.core.model import Value
from durable_agents.ports.resources import Resources

__all__ = ["Effect", "ToolOutput", "ToolSource"]


class ToolOutput(Value):
    """What a call gave: `content` is told to the model, as an error when `is_error`."""

    content: Content
    structured: JSON = None
    is_error: bool = False


class ToolSource(Protocol):
    """A place where tools come from (activities, an MCP server).

    T1  `list_tools` gives every tool once, with a valid JSON schema of its arguments.
    T2  `call` runs one tool once; what the tool itself reports as an error is an output with `is_error`.
    T3  Arguments that do not fit raise `InvalidArguments`, an unknown name `UnknownTool`, before anything
        runs. An infrastructure failure raises; whether it may be repeated is for `effect` to say.
    T4  Any number of calls may run at once; cancelling one leaves the others alone.
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
    async def call(self, tool: str, arguments: Mapping[str, JSON], resources: Resources) -> ToolOutput:
        """Run the tool and return what it gave."""

    @abstractmethod
    def effect(self, tool: str) -> Effect:
        """Return what calling the tool does to the world; "once" when nothing is known."""
