"""The tools that the agents of a run have found in their indexes."""

from __future__ import annotations

from outlast.core.agents import TOOLS_MAX, AgentGraph, AgentSpec
from outlast.core.json import JSON
from outlast.runtime.definitions.agent_binding import BoundAgents

NOTHING_FOUND = "no tool was found; try other words"
NO_ROOM = f"only the tools in this list can be called; you have {TOOLS_MAX} tools, which is the most"


class FoundTools:
    """The tools found in one run, by searches whose results are the same in a replay."""

    def __init__(self, agents: BoundAgents) -> None:
        self._agents = agents
        self._found: dict[str, dict[str, None]] = {}
        self.graph: AgentGraph = agents.graph
        """The agents as their models see them now: with the tools that they have found."""

    def search(self, agent: str, index: str, query: str) -> JSON:
        """Return what a search finds, as the model gets it, and let the agent see these tools from now on.

        Raises:
            DefinitionError: the search of the index returned something that is not a name of its tools.
        """
        spec = self._agents.graph[agent]
        known = self._found.setdefault(agent, {})
        room = TOOLS_MAX - len(spec.tools) - len(spec.built_in_tools) - len(spec.handoffs) - len(known)
        listed: list[JSON] = []
        note = NOTHING_FOUND
        for tool in self._agents.indexes[agent, index].found_by(query):
            if tool.name not in known:
                if room <= 0:
                    note = NO_ROOM
                    break
                room -= 1
                known[tool.name] = None
            listed.append({"name": tool.name, "description": tool.description})
        self.graph = self._seen()
        if listed and note != NO_ROOM:
            return {"found": listed}
        return {"found": listed, "note": note}

    def _seen(self) -> AgentGraph:
        graph = self._agents.graph
        seen = {name: self._with_found(spec) for name, spec in graph.agents.items()}
        return graph.with_(agents=seen)

    def _with_found(self, spec: AgentSpec) -> AgentSpec:
        # As they are in the code now: the journaled catalogue only says what there was to find.
        indexed = {tool.name: tool for tool in spec.indexed}
        found = self._found.get(spec.name, {})
        return spec.with_(tools=(*spec.tools, *(indexed[name] for name in found if name in indexed)))
