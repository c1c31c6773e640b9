"""Agents as the machine sees them: plain data, a closed graph, nothing that can be called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from hashlib import sha256
from typing import Any, Literal

from pydantic import Field

from outlast.core.built_in_tools import holds_a_secret
from outlast.core.errors import DefinitionError
from outlast.core.json import JSON, canonical
from outlast.core.values import Value

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
TOOL_NAME = re.compile(r"^[a-zA-Z0-9_-]{1,64}\Z")
"""The names of functions that the model API accepts."""
TOOLS_MAX = 128
"""The number of tools, built-in tools and handoffs that model APIs accept in one request."""

HANDOFF_PREFIX = "transfer_to_"

TOOL_CHOICES = ("auto", "none", "any", "required")
"""The ways for a model to choose a tool that have no tool's name; the last two mean the same."""

Effect = Literal["read", "idempotent", "once"]
"""The side effect of calling a tool: none; the same however often it is called; a new one each time."""


class ToolSpec(Value):
    """A tool that runs on our side, as the model sees it."""

    name: str
    description: str = ""
    parameters: dict[str, JSON]
    requires_approval: bool = False
    effect: Effect | None = None
    """The side effect of calling it, if its source lists it."""
    timeout_seconds: float | None = None
    """The longest time for an attempt at calling it, if its source lists it."""

    @property
    def fingerprint(self) -> str:
        """Equal exactly for tools that look the same to a model: same name, description and schema."""
        return sha256(canonical([self.name, self.description, self.parameters]).encode()).hexdigest()


class AgentSpec(Value):
    """One agent: its instructions, the tools it may call, and the agents it may hand off to (by name)."""

    name: str
    model: str
    fallback_models: tuple[str, ...] = ()
    description: str = ""
    instructions: str = ""
    tools: tuple[ToolSpec, ...] = ()
    indexed: tuple[ToolSpec, ...] = ()
    """The tools that the model sees only once it has found them."""
    built_in_tools: tuple[dict[str, JSON], ...] = ()
    handoffs: tuple[str, ...] = ()
    filtered_handoffs: tuple[str, ...] = ()
    """The agents among them that see only a part of the conversation."""
    completion_args: dict[str, JSON] = Field(default_factory=dict)
    tool_choice: str | None = None
    """One of `TOOL_CHOICES`, or the name of the function that the model must call first."""
    parallel_tool_calls: bool | None = None
    max_parallel_tools: int | None = Field(default=None, ge=1)
    """The most calls of one turn that are at work at the same time."""
    output_schema: dict[str, JSON] | None = None
    id: str | None = None
    metadata: dict[str, JSON] = Field(default_factory=dict)

    def tool(self, name: str) -> ToolSpec | None:
        """Return the tool of that name, if this agent declares it."""
        return next((tool for tool in (*self.tools, *self.indexed) if tool.name == name), None)

    @property
    def must_call(self) -> bool:
        """True if the model must call a tool before it may answer."""
        return self.tool_choice not in (None, "auto", "none")

    def handoff_tools(self) -> dict[str, str]:
        """Return the function names that stand for handoffs, each with the agent it leads to."""
        return {handoff_tool(target): target for target in self.handoffs}


def handoff_tool(agent: str) -> str:
    """Return the name of the function that hands off to `agent`."""
    return (HANDOFF_PREFIX + _NOT_IN_A_NAME.sub("_", agent))[:64]


def agent_tool_name(agent: str) -> str:
    """Return the name of the function that asks `agent`, unless it is given another one."""
    return _NOT_IN_A_NAME.sub("_", agent)[:64]


class AgentGraph(Value):
    """The agents that a run may reach, by name, and the one it starts with."""

    start: str
    agents: dict[str, AgentSpec] = Field(min_length=1)

    def __getitem__(self, name: str) -> AgentSpec:
        return self.agents[name]

    def __contains__(self, name: object) -> bool:
        return name in self.agents

    def model_post_init(self, context: Any, /) -> None:
        """Refuse a graph that no run could honour.

        Raises:
            DefinitionError: a handoff to itself or to an agent outside the graph, an agent under a name
                that is not its own, a tool name that the model API would refuse, two tools or handoffs of
                one agent with the same name, or a connector with a secret.
        """
        if self.start not in self.agents:
            raise DefinitionError(f"the start agent {self.start!r} is not in the graph")
        for name, agent in self.agents.items():
            if agent.name != name:
                raise DefinitionError(
                    f"agent {agent.name!r} stands in the graph as {name!r}; use its own name"
                )
            _check(agent, self.agents)


def check_handoff(agent: str, target: str, agents: Collection[str]) -> None:
    """Refuse a handoff to an agent that is not among those which a run can reach.

    Raises:
        DefinitionError: `target` is not one of the `agents`.
    """
    if target not in agents:
        raise DefinitionError(
            f"agent {agent!r} hands off to {target!r}, which the start agent cannot reach; "
            "give the Agent object (or a function that returns it) instead of its name"
        )


def _check(agent: AgentSpec, agents: dict[str, AgentSpec]) -> None:
    for built_in in agent.built_in_tools:
        if holds_a_secret(built_in):
            raise DefinitionError(
                f"the authorization of connector {built_in.get('connector_id')!r} of agent {agent.name!r} "
                'holds a secret, which would be stored; write "value": "env:NAME", and set NAME where the '
                "worker runs"
            )
    names = [tool.name for tool in (*agent.tools, *agent.indexed)]
    for name in names:
        if not TOOL_NAME.match(name):
            raise DefinitionError(
                f"tool {name!r} of agent {agent.name!r} has a name the model API refuses; "
                "use 1 to 64 letters, digits, '_' or '-'"
            )
    for target in agent.handoffs:
        if target == agent.name:
            raise DefinitionError(f"agent {agent.name!r} hands off to itself; remove it from its handoffs")
        check_handoff(agent.name, target, agents)
        names.append(handoff_tool(target))
    for name, number in Counter(names).items():
        if number > 1:
            raise DefinitionError(
                f"agent {agent.name!r} has two tools or handoffs called {name!r}; rename one of them"
            )
