"""Secrets of connectors: a definition names an environment variable, and the server gets its value."""

from __future__ import annotations

import os
from typing import Any

from outlast.core.agents import AgentGraph
from outlast.core.built_in_tools import SECRET_REFERENCE
from outlast.core.errors import MissingCredentials


def with_secrets(graph: AgentGraph) -> tuple[AgentGraph, frozenset[str]]:
    """Return the agents with each `env:NAME` of their connectors replaced by its value, and these values.

    The result may be sent to the server and must go nowhere else. A changed secret is a changed definition.

    Raises:
        MissingCredentials: a variable is not set.
    """
    changed = {
        name: agent.with_(built_in_tools=tuple(_resolved(tool, name) for tool in agent.built_in_tools))
        for name, agent in graph.agents.items()
        if any("authorization" in tool for tool in agent.built_in_tools)
    }
    if not changed:
        return graph, frozenset()
    tools = [tool for agent in changed.values() for tool in agent.built_in_tools]
    secrets = {str(login["value"]) for tool in tools if isinstance(login := tool.get("authorization"), dict)}
    return graph.with_(agents={**graph.agents, **changed}), frozenset(secrets)


def _resolved(tool: dict[str, Any], agent: str) -> dict[str, Any]:
    authorization = tool.get("authorization")
    if not isinstance(authorization, dict):
        return tool
    reference = SECRET_REFERENCE.match(str(authorization.get("value")))
    variable = reference["variable"] if reference else ""
    secret = os.environ.get(variable, "").strip()
    if not secret:
        raise MissingCredentials(
            f"connector {tool.get('connector_id')!r} of agent {agent!r} logs in with env:{variable}, but "
            f"{variable} is not set where the worker runs; set it there"
        )
    return {**tool, "authorization": {**authorization, "value": secret}}
