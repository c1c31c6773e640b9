"""Programs of a model, a driver that carries a conversation through them, and the oracle that predicts it.

A program is the list of the model's replies; a world is a session whose model gives these replies.
"""

from __future__ import annotations

import json
import string
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from hypothesis import strategies as st

from outlast.adapters.scripted import call, handoff, say
from outlast.core.agent_events import (
    AgentEffect,
    AgentEvent,
    CallModel,
    CallTool,
    Fail,
    KeepReply,
    ModelReplied,
    RunStarted,
    ToolReturned,
    UserMessageAdded,
)
from outlast.core.agent_machine import step
from outlast.core.agent_run import AgentRun
from outlast.core.agents import AgentGraph, AgentSpec, ToolSpec
from outlast.core.chunks import text_of
from outlast.core.entries import (
    AgentHandoff,
    Entry,
    FunctionCall,
    FunctionResult,
    MessageInput,
    MessageOutput,
)
from outlast.core.errors import (
    MalformedReply,
    ModelOverloaded,
    ModelRefused,
    ModelUnreachable,
    OutlastError,
)
from outlast.core.json import JSON, canonical
from outlast.core.replies import parsed_arguments
from outlast.ports.llm import ModelReply, ModelRequest, Session
from outlast.ports.resources import Resources
from outlast.testing.contracts.patience import at_most

Reply = tuple[Entry, ...]


class Trouble(StrEnum):
    """The troubles that one request for a reply can have."""

    RATE_LIMITED = "429, come back after 7 seconds, and nothing is done"
    UNAVAILABLE = "503, and nothing is done"
    REFUSED = "400"
    UNAUTHORISED = "401, with the key in the message"
    DROPPED = "the connection is cut before anything is done"
    LOST = "the reply is made, and the connection is cut before any of it arrives"
    CUT = "the reply is made, and arrives without its end"
    GARBLED = "the reply is made, and what arrives is another JSON document"


ERRORS: dict[Trouble, type[OutlastError]] = {
    Trouble.RATE_LIMITED: ModelOverloaded,
    Trouble.UNAVAILABLE: ModelOverloaded,
    Trouble.REFUSED: ModelRefused,
    Trouble.UNAUTHORISED: ModelRefused,
    Trouble.DROPPED: ModelUnreachable,
    Trouble.LOST: ModelUnreachable,
    Trouble.CUT: ModelUnreachable,
    Trouble.GARBLED: MalformedReply,
}
TRANSIENT = tuple(trouble for trouble, error in ERRORS.items() if error.retryable)


@dataclass(frozen=True)
class SessionProgram:
    """The replies of the model, and the messages that a user adds while tools run, by number of the errand.

    An errand is a reply that calls tools; the first is number 1.
    """

    replies: tuple[Reply, ...]
    added: dict[int, str] = field(default_factory=dict)
    begins: frozenset[int] = frozenset()
    """Indexes of replies that begin another run, in which the first agent is active again."""

    @property
    def speakers(self) -> list[str]:
        """Return the agent that gives each reply."""
        speakers: list[str] = []
        speaker = "front"
        for index, reply in enumerate(self.replies):
            speaker = "front" if index in self.begins else speaker
            speakers.append(speaker)
            speaker = target_of(reply) or speaker
        return speakers


Offer = tuple[tuple[str, ...], str]
"""The tools of an agent, without its handoffs, and the choice that the model got with them."""


class Hanging(Protocol):
    """A request that is held up before anything is done."""

    @abstractmethod
    async def reached(self) -> None: ...

    @abstractmethod
    def release(self) -> None: ...


class SessionWorld(Protocol):
    """A session whose model follows a program. The methods are for sessions with a server."""

    @property
    @abstractmethod
    def session(self) -> Session: ...

    @property
    @abstractmethod
    def graph(self) -> AgentGraph: ...

    @property
    @abstractmethod
    def secret(self) -> str:
        """The session's API key, which must not appear anywhere."""

    @abstractmethod
    def asked(self) -> int:
        """Return the number of times that the model was asked."""

    @abstractmethod
    def offered(self) -> list[Offer]:
        """Return what the model could call each time that it was asked."""

    @abstractmethod
    def trouble(self, trouble: Trouble, request: ModelRequest) -> None:
        """Let this happen to the next time that `request` is made."""

    @abstractmethod
    def hang(self, request: ModelRequest) -> Hanging:
        """Hold up `request` the next time that it is made."""


def graph_for(model: str) -> AgentGraph:
    """Return two agents that know each other, with a tool each; models are named `<model>-<agent>`."""
    parameters: dict[str, JSON] = {"type": "object", "properties": {}}
    tools = tuple(
        ToolSpec(name=name, description=f"The tool {name}.", parameters=parameters)
        for name in ("look_up", "rhyme")
    )
    agents = [
        AgentSpec(
            name=name,
            model=f"{model}-{name}",
            description=f"The agent {name}.",
            instructions=f"You are {name}.",
            tools=tools,
            handoffs=(other,),
        )
        for name, other in (("front", "poet"), ("poet", "front"))
    ]
    return AgentGraph(start="front", agents={agent.name: agent for agent in agents})


def target_of(reply: Sequence[Entry]) -> str | None:
    """Return the agent to which a reply of a program hands off."""
    targets = {handoff(name).name: name for name in ("front", "poet")}
    return next((targets[e.name] for e in reply if isinstance(e, FunctionCall) and e.name in targets), None)


# A driver: it does the work of a runner, without durability ----------------------------------------------


@dataclass
class ConversationDriver:
    """A conversation driven through the agent machine; several runs may follow one another."""

    world: SessionWorld
    resources: Resources
    added: dict[int, str] = field(default_factory=dict)
    troubles: deque[Trouble | None] = field(default_factory=deque)
    key: str = "run"
    history: tuple[Entry, ...] = ()
    handle: JSON = None
    handles: list[JSON] = field(default_factory=list)
    replies: list[ModelReply] = field(default_factory=list)
    turns: int = 0
    errands: int = 0
    patience_seconds: float = 60.0
    """The longest real time that a reply may take."""

    async def run(self, text: str) -> AgentRun:
        """Run the start agent on `text` until it has answered."""
        state = AgentRun(graph=self.world.graph, max_turns=50)
        events: deque[AgentEvent] = deque([RunStarted(inputs=(MessageInput(content=text),))])
        while events:
            state, effects = step(state, events.popleft())
            events.extend(await self._perform(state, effects))
        return state

    async def _perform(self, state: AgentRun, effects: Sequence[AgentEffect]) -> list[AgentEvent]:
        events: list[AgentEvent] = []
        results: list[AgentEvent] = []
        for effect in effects:
            match effect:
                case CallModel():
                    reply = await self.ask(effect.agent, effect.entries)
                    events.append(ModelReplied(entries=reply.entries, usage=reply.usage))
                case KeepReply(entries=entries):
                    self.history += entries
                case CallTool(call_id=call_id, tool=tool, arguments=arguments):
                    results.append(ToolReturned(call_id=call_id, result=result_of(tool, arguments)))
                case Fail(failure=failure):
                    raise failure.error()
                case _:
                    pass
        if results:
            self.errands += 1
            if (note := self.added.get(self.errands)) is not None:
                events.append(UserMessageAdded(entry=MessageInput(content=note)))
        # The last call comes back first: order of completion is not order of the calls.
        return [*events, *reversed(results)]

    async def ask(self, agent: str, new: tuple[Entry, ...]) -> ModelReply:
        """Ask for one reply, again after each trouble whose error is retryable."""
        self.turns += 1
        request = self.request(agent, new)
        while True:
            trouble = self.troubles.popleft() if self.troubles else None
            if trouble is not None:
                self.world.trouble(trouble, request)
            try:
                async with at_most(self.patience_seconds, f"a reply of agent {agent!r} in turn {self.turns}"):
                    reply = await self.world.session.reply(request, self.resources)
                return self._keep(new, reply)
            except OutlastError as error:
                if not error.retryable or request.attempt > 20:
                    raise
                request = request.with_(attempt=request.attempt + 1)

    def _keep(self, new: tuple[Entry, ...], reply: ModelReply) -> ModelReply:
        self.replies.append(reply)
        self.history += new
        self.handle = json.loads(json.dumps(reply.handle))
        self.handles.append(self.handle)
        return reply

    def accept(self, new: tuple[Entry, ...], reply: ModelReply) -> None:
        """Add a reply to what was asked to the conversation."""
        self._keep(new, reply)
        self.history += reply.entries
        self.turns += 1

    def request(self, agent: str, new: tuple[Entry, ...]) -> ModelRequest:
        return ModelRequest(
            graph=self.world.graph,
            agent=agent,
            turn=self.turns,
            history=self.history,
            new=new,
            handle=self.handle,
            # The deltas are of this call only, also if several worlds share a server.
            idempotency_key=f"{self.world.graph['front'].model}/{self.key}/{self.turns}",
        )


def result_of(tool: str, arguments: JSON) -> str:
    return f"{tool} of {canonical(arguments)}"


def seen(history: Sequence[Entry]) -> list[tuple[str, ...]]:
    """Return the content of a conversation, in words that do not depend on who makes the handoffs."""
    items: list[tuple[str, ...]] = []
    transfers: set[str] = set()
    for entry in history:
        match entry:
            case MessageInput(content=content):
                items.append(("asks", text_of(content)))
            case MessageOutput(content=content):
                items.append(("says", text_of(content)))
            case AgentHandoff(next_agent_name=name):
                items.append(("hands off", name))
            case FunctionCall(name=name, arguments=text) if target := target_of((entry,)):
                transfers.add(entry.tool_call_id)
                items.append(("hands off", target))
            case FunctionCall(name=name, arguments=text):
                items.append(("calls", name, canonical(parsed_arguments(text))))
            case FunctionResult(tool_call_id=call_id, result=result) if call_id not in transfers:
                items.append(("gets", result))
            case _:
                pass
    return items


def foreseen(text: str, program: SessionProgram) -> list[tuple[str, ...]]:
    """Return the expected content of a conversation on `program`: the oracle, which needs no session."""
    items: list[tuple[str, ...]] = [("asks", text)]
    errands = 0
    for reply in program.replies:
        items += seen(reply)
        calls = [e for e in reply if isinstance(e, FunctionCall) and target_of((e,)) is None]
        items += [("gets", result_of(c.name, parsed_arguments(c.arguments))) for c in calls]
        errands += bool(calls)
        if calls and errands in program.added:
            items.append(("asks", program.added[errands]))
    return items


# Random programs -----------------------------------------------------------------------------------------

texts = st.text(string.printable + "éß漢🙂", min_size=1, max_size=20).filter(str.strip)
arguments = st.dictionaries(
    st.text(string.ascii_letters, min_size=1, max_size=5), texts | st.integers(), max_size=3
)
calls = st.builds(call, st.sampled_from(["look_up", "rhyme"]), arguments)


@st.composite
def programs(draw: st.DrawFn) -> SessionProgram:
    """Replies that call tools or hand off, and one that answers."""
    replies: list[Reply] = []
    agent = "front"
    for _ in range(draw(st.integers(0, 4))):
        said = (say(draw(texts)),) if draw(st.booleans()) else ()
        if draw(st.booleans()):
            replies.append((*said, *draw(st.lists(calls, min_size=1, max_size=3))))
        else:
            agent = "poet" if agent == "front" else "front"
            replies.append((*said, handoff(agent)))
    replies.append((say(draw(texts)),))
    added = draw(st.dictionaries(st.integers(1, len(replies)), texts, max_size=2))
    return SessionProgram(tuple(replies), added)
