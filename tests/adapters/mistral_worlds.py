"""Worlds for the session contract: Mistral's stand-in, with a session of either kind in front of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import outlast
from outlast.adapters.mistral import LocalSession, RemoteSession
from outlast.core.agents import HANDOFF_PREFIX, AgentGraph
from outlast.core.chunks import to_wire
from outlast.core.entries import FunctionCall, MessageOutput
from outlast.ports.llm import ModelRequest
from outlast.testing.contracts.session.programs import (
    Offer,
    SessionProgram,
    Trouble,
    graph_for,
    target_of,
)
from outlast.testing.mistral_server import (
    AnswerWith,
    Call,
    Drop,
    EndStream,
    Fault,
    HandOff,
    Hang,
    MistralServer,
    ModelPrompt,
    Output,
    Say,
    not_the_schema,
    rate_limited,
    unavailable,
)

KEY = "key-7f3a9c51e2"

_numbers = count()


@dataclass
class Cloud:
    """One server for many programs: a program is known by the names of its models."""

    programs: dict[str, SessionProgram] = field(default_factory=dict, repr=False)
    asked: dict[str, int] = field(default_factory=dict, repr=False)
    offered: dict[str, list[Offer]] = field(default_factory=dict, repr=False)
    inputs_visible_at_once: bool = True
    metadata_filter_works: bool = True

    def __post_init__(self) -> None:
        self.server = MistralServer(
            self._answer,
            api_key=KEY,
            inputs_visible_at_once=self.inputs_visible_at_once,
            metadata_filter_works=self.metadata_filter_works,
        )

    def _answer(self, call: ModelPrompt) -> Sequence[Output]:
        name = call.model.rpartition("-")[0]
        self.asked[name] += 1
        tools = (tool["function"]["name"] for tool in call.tools)
        offered = tuple(tool for tool in tools if not tool.startswith(HANDOFF_PREFIX))
        self.offered[name].append((offered, str(call.completion_args.get("tool_choice"))))
        reply = self.programs[name].replies[call.replies]
        outputs: list[Output] = []
        for entry in reply:
            match entry:
                case MessageOutput(content=content):
                    outputs.append(Say(to_wire(content)))
                case FunctionCall(name=tool, arguments=arguments):
                    target = target_of((entry,))
                    by_server = target is not None and bool(call.handoffs)
                    outputs.append(HandOff(target or "") if by_server else Call(tool, arguments))
        return outputs


@dataclass
class MistralWorld:
    """A program on the stand-in, and a session that talks to it."""

    cloud: Cloud
    name: str
    session: RemoteSession | LocalSession
    graph: AgentGraph
    secret: str = KEY

    def asked(self) -> int:
        return self.cloud.asked[self.name]

    def offered(self) -> list[Offer]:
        return self.cloud.offered[self.name]

    def trouble(self, trouble: Trouble, request: ModelRequest) -> None:
        early_end = EndStream(-2) if self.session.stream else Drop("body")
        refusal = {"object": "Error", "message": "no", "type": "invalid_request_error", "code": 3001}
        actions: dict[Trouble, Any] = {
            Trouble.RATE_LIMITED: rate_limited(7),
            Trouble.UNAVAILABLE: unavailable(),
            Trouble.REFUSED: AnswerWith(400, refusal),
            Trouble.UNAUTHORISED: AnswerWith(401, {"detail": f"Invalid key: Bearer {KEY}"}),
            Trouble.DROPPED: Drop("request"),
            Trouble.LOST: Drop("answer"),
            Trouble.CUT: early_end,
            Trouble.GARBLED: not_the_schema(),
        }
        self.cloud.server.faults.add(Fault(actions[trouble], method="POST", path=self._path(request)))

    def hang(self, request: ModelRequest) -> Hang:
        hanging = Hang("request")
        self.cloud.server.faults.add(Fault(hanging, method="POST", path=self._path(request)))
        return hanging

    def _path(self, request: ModelRequest) -> str:
        if isinstance(self.session, LocalSession):
            return "/v1/chat/completions"
        return "/v1/conversations" if request.handle is None else "/v1/conversations/*"


@contextmanager
def mistral_world(
    cloud: Cloud, program: SessionProgram, make: Callable[..., RemoteSession | LocalSession], **options: Any
) -> Iterator[MistralWorld]:
    """Open a world on a server that others use before and after it."""
    name = f"program{next(_numbers)}"
    cloud.programs[name] = program
    cloud.asked[name] = 0
    cloud.offered[name] = []
    prices = {f"{name}-front": outlast.Price(input=1, output=2)}
    session = make(api_key=KEY, server_url=cloud.server.url, prices=prices, **options)
    try:
        yield MistralWorld(cloud, name, session, graph_for(name))
        cloud.server.raise_errors()
    finally:
        cloud.server.faults.clear()
        cloud.server.errors.clear()
        cloud.server.forget()
