"""A session that tries out everything an agent can do, without a script."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from outlast.adapters.scripted.made_up import made_up
from outlast.adapters.scripted.model import call, handoff, say
from outlast.core.agents import AgentGraph
from outlast.core.entries import Entry
from outlast.core.json import JSON, encode
from outlast.ports.deltas import Publish
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.ports.resources import Resources


@dataclass(frozen=True)
class TestSession(Session):
    """Calls every tool of an agent once, hands off to every agent once, and then answers.

    The arguments are made up from each tool's JSON schema, and are the same in every run. The answer fits the
    agent's `output_type`, or is `answer`. So a smoke test of all tools and handoffs needs no script.
    """

    __test__: ClassVar[bool] = False
    """Not a class of tests, whatever pytest makes of its name."""

    answer: str = "done"
    raise_on_tool_fail: bool = False
    stream: bool = False

    def check(self, graph: AgentGraph) -> None:
        """Accept any agents."""

    def anew(self, handle: JSON) -> JSON:
        return handle

    async def unpriced(self, models: Collection[str]) -> tuple[str, ...]:
        return ()

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        handle: JSON = request.handle
        tried = [name for name in handle if isinstance(name, str)] if isinstance(handle, list) else []
        agent = request.graph[request.agent]
        entries: list[Entry] = []
        if request.may_call and agent.name not in tried:
            for number, tool in enumerate(agent.tools):
                call_id = f"try{len(tried):03}{number:03}"
                entries.append(call(tool.name, made_up(tool.parameters), call_id=call_id))
        tried = [*tried, *({agent.name} - {*tried})]
        if not entries and request.may_call:
            for to in [to for to in agent.handoffs if to not in tried][:1]:
                entries.append(handoff(to).model_copy(update={"tool_call_id": f"hand{len(tried):05}"}))
        if not entries:
            text = self.answer
            if agent.output_schema is not None:
                text = encode(made_up(agent.output_schema)).decode()
            entries = [say(text)]
            if publish is not None:
                publish(text)
        return ModelReply(entries=tuple(entries), handle=[*tried])
