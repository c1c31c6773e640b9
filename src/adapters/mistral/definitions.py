"""Agents in the form of the API: tools, completion arguments and response formats."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from outlast.core.agents import TOOL_CHOICES, TOOLS_MAX, AgentGraph, AgentSpec, ToolSpec
from outlast.core.errors import DefinitionError
from outlast.core.json import canonical

Wire = dict[str, Any]

COMPLETION_ARGS = frozenset(
    {
        "frequency_penalty",
        "max_tokens",
        "prediction",
        "presence_penalty",
        "random_seed",
        "reasoning_effort",
        "response_format",
        "stop",
        "temperature",
        "tool_choice",
        "top_p",
    }
)
"""The arguments that agents and conversations accept (OpenAPI: CompletionArgs)."""

CHAT_ARGS = COMPLETION_ARGS | {
    "guardrails",
    "metadata",
    "min_tokens",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_mode",
    "safe_prompt",
    "service_tier",
}
"""The arguments that chat completions accept."""

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")


def check_definitions(graph: AgentGraph, completion_args: frozenset[str]) -> None:
    """Check the agents before a run, so that the API does not refuse a request in the middle of it.

    Raises:
        DefinitionError: an agent has an unknown completion argument, or more tools than a request may have.
    """
    for agent in graph.agents.values():
        unknown = sorted(set(agent.completion_args) - completion_args)
        if unknown:
            raise DefinitionError(
                f"agent {agent.name!r} has unknown completion_args: {', '.join(unknown)}; the API accepts "
                f"{', '.join(sorted(completion_args))}"
            )
        if len(agent.tools) + len(agent.built_in_tools) + len(agent.handoffs) > TOOLS_MAX:
            raise DefinitionError(
                f"agent {agent.name!r} has more than {TOOLS_MAX} tools and handoffs; "
                "split it into several agents"
            )


def function_tools(tools: Iterable[ToolSpec]) -> list[Wire]:
    """Return the tools, which run on our side, in the form of the API."""
    return [function_tool(tool.name, tool.description, dict(tool.parameters)) for tool in tools]


def function_tool(name: str, description: str, parameters: Wire) -> Wire:
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def completion_args(agent: AgentSpec) -> Wire:
    """Return the completion arguments of an agent. Its output schema becomes the response format."""
    arguments: Wire = dict(agent.completion_args)
    if agent.tool_choice in TOOL_CHOICES:
        arguments["tool_choice"] = agent.tool_choice
    if agent.output_schema is not None and "response_format" not in arguments:
        schema = _closed(agent.output_schema)
        arguments["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": _NOT_IN_A_NAME.sub("_", agent.name)[:64],
                "schema": schema,
                "strict": not _is_open(schema),
            },
        }
    return arguments


def handoff_tools(graph: AgentGraph, name: str) -> list[ToolSpec]:
    """Return the functions with which an agent hands off when no server does it."""
    tools = []
    for function, target in graph[name].handoff_tools().items():
        about = graph[target].description
        description = f"Hand the conversation over to {target}." + (f" {about}" if about else "")
        tools.append(
            ToolSpec(name=function, description=description, parameters={"type": "object", "properties": {}})
        )
    return tools


def with_handoffs_as_tools(graph: AgentGraph) -> AgentGraph:
    """Return the same agents with functions in place of handoffs, so that the server makes no handoffs."""
    return graph.with_(
        agents={
            name: agent.with_(tools=(*agent.tools, *handoff_tools(graph, name)), handoffs=())
            for name, agent in graph.agents.items()
        }
    )


def definition(agent: AgentSpec) -> Wire:
    """Return the fields of a remote agent that follow from its definition, without handoffs and metadata."""
    fields: Wire = {
        "model": agent.model,
        "name": agent.name,
        "tools": [*function_tools(agent.tools), *(dict(tool) for tool in agent.built_in_tools)],
        "completion_args": completion_args(agent),
    }
    if agent.description:
        fields["description"] = agent.description
    if agent.instructions:
        fields["instructions"] = agent.instructions
    return fields


def graph_fingerprint(graph: AgentGraph) -> str:
    """Return a fingerprint of all agents and handoffs. It does not depend on which agent is the first."""
    return _fingerprint([_described(graph[name]) for name in sorted(graph.agents)])


def agent_fingerprint(graph: AgentGraph, name: str) -> str:
    """Return a fingerprint of an agent and of all agents that it can reach.

    Because it covers all of them, the handoffs of a remote agent never change once they are set. A changed
    specialist gets new remote agents, and runs of the older program go on with the old ones.
    """
    reached = [name]
    for reaching in reached:
        reached += [target for target in graph[reaching].handoffs if target not in reached]
    return _fingerprint([name, *(_described(graph[one]) for one in sorted(reached))])


def _described(agent: AgentSpec) -> Any:
    """Return everything about an agent that the server gets. Fields that only we use are not in it."""
    return [agent.id, definition(agent), sorted(agent.handoffs), agent.metadata]


def _fingerprint(value: Any) -> str:
    return sha256(canonical(value).encode()).hexdigest()[:32]


def _closed(schema: Any) -> Any:
    """Return a copy in which objects with listed properties allow no others; strict schemas require that."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def _is_open(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(_is_open(one) for one in schema)
    if not isinstance(schema, dict):
        return False
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return True
    return any(_is_open(value) for value in schema.values())
