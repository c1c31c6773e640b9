"""A workflow that is a conversation: it waits for messages, for weeks if need be, and answers them."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

from outlast.composition.running import Runner
from outlast.core.entries import Entry, to_wire
from outlast.core.errors import DefinitionError, PayloadTooLarge, WorkflowError
from outlast.core.failure import named_message_of
from outlast.core.json import JSON
from outlast.core.limits import DEFAULT_MAX_TURNS, OnLimit
from outlast.core.money import Amount
from outlast.core.usage import Usage
from outlast.ports.durability.workflow_context import current_context
from outlast.ports.llm import Session
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.agent_binding import reachable
from outlast.runtime.runs.conversation import Conversation, conversation_of


class AgentWorkflow:
    """A durable conversation with an agent. Subclass it, give it an agent, and define it as a workflow:

        @outlast.workflow.define(name="support")
        class Support(outlast.AgentWorkflow):
            agent = outlast.Agent(model="mistral-medium-latest", name="support", tools=[look_up])
            session = outlast.LocalSession()

        execution = await backend.start(Support, id="customer-7")
        await execution.signal("say", "Where is my parcel?")
        await execution.update("ask", "And when?")  # the state, when it is answered
        await execution.query("state")              # {"answered": 1, "answer": "On its way.", ...}

    Messages are answered one after the other, in the order sent, each by a run that goes on with the same
    conversation and begins with the agent that answered last. If a run fails, be it by a mistake in a
    guardrail, the state has its error, and the conversation goes on. If the backend suggests it (Temporal
    does for long histories), the execution continues as new between two messages, and carries the
    conversation along; it forgets the oldest entries of a conversation that is too long for that.
    """

    agent: ClassVar[Agent[Any]]
    session: ClassVar[Session | None] = None
    """The way to the model; Mistral's API by default."""
    max_turns: ClassVar[int] = DEFAULT_MAX_TURNS
    """The most calls of the model for one message."""
    max_cost: ClassVar[Amount | None] = None
    """The most US dollars that the answer to one message may cost."""
    on_limit: ClassVar[OnLimit] = "raise"
    """The behaviour at these limits; see `Runner.run`."""

    def __init__(self) -> None:
        self._session: Session | None = type(self).session
        self._messages: deque[str] = deque()
        self._active: Agent[Any] | None = None
        self._state: dict[str, Any] = {"answered": 0, "answer": None, "error": None, "usage": Usage()}
        self._state["forgotten"] = 0
        self._busy = False
        self._ended = False

    @workflow.entrypoint
    async def run(self, carried: dict[str, Any] | None = None) -> dict[str, Any]:
        """Answer until the end is signalled; return the last state, without what was answered.

        The answers stand in the journal. The last of them may alone be as long as a result may be.

        Args:
            carried: The state that an earlier history of this execution carries along; None at the start.
        """
        if not isinstance(getattr(type(self), "agent", None), Agent):
            name = type(self).__name__
            raise DefinitionError(f"{name} needs an agent: write `agent = outlast.Agent(...)` in its class")
        self._active = type(self).agent
        if self._session is None:
            from outlast.adapters.mistral import RemoteSession

            self._session = RemoteSession()
        if carried is not None:
            self._restore(carried)
        while self._messages or not self._ended:
            await workflow.wait_condition(lambda: bool(self._messages) or self._ended)
            if self._messages:
                await self._answer(self._messages.popleft())
            if workflow.should_continue_as_new():
                await self._continue_as_new()
        return {name: value for name, value in self.state().items() if name != "answer"}

    @workflow.signal
    def say(self, message: str) -> None:
        """Add a message for the agent."""
        self._messages.append(message)

    @workflow.update
    async def ask(self, message: str) -> dict[str, Any]:
        """Add a message for the agent, and return the state once it is answered."""
        self._messages.append(message)
        number = self._state["answered"] + len(self._messages) + self._busy
        await workflow.wait_condition(lambda: bool(self._state["answered"] >= number))
        return self.state()

    @workflow.signal
    def end(self) -> None:
        """Let the execution end once all messages are answered."""
        self._ended = True

    @workflow.query
    def state(self) -> dict[str, Any]:
        """Return how many messages are `answered` and `waiting`, whether it is `busy` with one, the `agent`
        that comes next, the last `answer`, the `error` that came in its place, the `usage` of all, and how
        many of the conversation's first entries are `forgotten`.
        """
        usage = self._state["usage"].model_dump(mode="json")
        agent = self._active.name if self._active is not None else None
        waiting = len(self._messages)
        return {**self._state, "usage": usage, "agent": agent, "waiting": waiting, "busy": self._busy}

    @workflow.query
    def transcript(self, after: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the conversation's entries from position `after` on, without those that are forgotten.

        At most `limit` of them: a backend may bound the answer to a query, and raises `PayloadTooLarge`.
        """
        history: list[Entry] = [] if self._session is None else self._conversation().history
        begin = max(after - self._state["forgotten"], 0)
        return to_wire(history[begin:][:limit])

    async def _answer(self, message: str) -> None:
        assert self._active is not None
        self._busy = True
        try:
            kind = type(self)
            result = await Runner.run(
                self._active,
                message,
                self._session,
                max_turns=kind.max_turns,
                max_cost=kind.max_cost,
                on_limit=kind.on_limit,
            )
        except WorkflowError:
            raise  # the author changes the code, and then the execution goes on from here
        except Exception as error:  # Instructions, guardrails and sessions are code, and may raise anything.
            self._state |= {"answer": None, "error": named_message_of(error)}
        else:
            self._active = result.agent
            usage = self._state["usage"] + result.usage
            self._state |= {"answer": result.text, "error": None, "usage": usage}
        finally:
            self._busy = False
        self._state["answered"] += 1

    async def _continue_as_new(self) -> None:
        """Go on in a new history, with as much of the conversation as fits into one.

        The oldest entries of a longer conversation are forgotten: models do not read that much, and without
        this the execution would soon reach the backend's limit on histories.
        """
        while True:
            try:
                await workflow.continue_as_new(self._carried())
            except PayloadTooLarge as error:
                forgotten = self._conversation().forget(error.size_bytes - error.limit_bytes)
                self._state["forgotten"] += forgotten
                if not forgotten:
                    workflow.logger.warning("the conversation goes on in its old history for now: %s", error)
                    return
                workflow.logger.warning(
                    "the conversation continues as new without its first %d entries: %s",
                    *(self._state["forgotten"], error),
                )

    def _carried(self) -> dict[str, JSON]:
        assert self._active is not None
        return {
            "conversation": self._conversation().carried(),
            "agent": self._active.name,
            "messages": list(self._messages),
            "ended": self._ended,
            "state": {**self._state, "usage": self._state["usage"].model_dump(mode="json")},
        }

    def _restore(self, carried: dict[str, Any]) -> None:
        self._conversation().restore(carried["conversation"])
        self._active = reachable(type(self).agent).get(carried["agent"], type(self).agent)
        # Messages that came in the meantime follow those that were there before.
        self._messages = deque([*carried["messages"], *self._messages])
        self._ended = self._ended or carried["ended"]
        self._state |= {**carried["state"], "usage": Usage.model_validate(carried["state"]["usage"])}

    def _conversation(self) -> Conversation:
        assert self._session is not None
        return conversation_of(self._session, current_context.get())


def conversation_with(agent: Agent[Any], session: Session | None) -> type[AgentWorkflow]:
    """Return a workflow that is a conversation with `agent`."""
    conversation = type("Conversation", (AgentWorkflow,), {"agent": agent, "session": session})
    return workflow.define(name="outlast.chat")(conversation)
