"""Agents and their runs, as Mistral's plugin has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, dropwhile, takewhile
from typing import Any, NoReturn

from outlast.compat.mistral_workflows.exceptions import ErrorCode, WorkflowsException
from outlast.compat.mistral_workflows.plugins.mistralai.sessions import RemoteSession
from outlast.compat.mistral_workflows.refusals import CONNECTOR, PAGE, refuse_arguments
from outlast.composition import running
from outlast.core.chunks import Chunk, ThinkingChunk, ToolFileChunk, ToolReferenceChunk, as_chunks
from outlast.core.entries import FunctionResult, MessageInput, MessageOutput
from outlast.core.errors import (
    ActivityError,
    MaxTurnsExceeded,
    NotSupported,
    RunError,
    ToolError,
    ToolServerError,
)
from outlast.core.values import WireValue
from outlast.ports.llm import Session
from outlast.runtime.definitions import agent as own

REFUSED_BY_AGENT = {
    "connectors": CONNECTOR,
    "guardrails": "give functions, or agents that judge, as `input_guardrails=` and `output_guardrails=`",
    "version_message": "agents on Mistral's side are made by the fingerprint of their definition",
}
REFUSED_BY_RUNNER = {
    "id": "outside workflows, write `outlast.Runner.run(agent, inputs, id=..., backend=...)`",
}


class Agent(own.Agent[Any, Any]):
    """An agent. It takes the options of `outlast.Agent`, too, and is a value: it does not change."""

    def __init__(
        self,
        *,
        name: str,
        model: str = "mistral-medium-latest",
        instructions: Any = None,
        tools: Sequence[Any] | None = None,
        completion_args: Any = None,
        description: str | None = None,
        handoffs: Sequence[Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
        mcp_clients: Sequence[Any] | None = None,
        **options: Any,
    ) -> None:
        known = own.Agent.__dataclass_fields__
        given = [option for option in options if option not in known]
        refuse_arguments("Agent()", given, REFUSED_BY_AGENT, known)
        super().__init__(
            name=name,
            model=model,
            instructions=instructions or "",
            tools=tools or (),
            completion_args=completion_args,
            description=description or "",
            handoffs=handoffs or (),
            metadata=metadata or {},
            id=id,
            mcp_clients=mcp_clients or (),
            **options,
        )

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        """Refuse: an agent that changed would not be the one that a replay finds."""
        raise NotSupported(
            f"an agent does not change: give {name}= when you make it, or make a copy with "
            f"`dataclasses.replace(agent, {name}=...)`; agents that hand off to each other name one another, "
            f'`handoffs=["other-agent"]` ({PAGE})'
        )

    @staticmethod
    def iterate_agents_deeply_in_handoffs(agent: own.Agent[Any, Any]) -> Sequence[own.Agent[Any, Any]]:
        """Return the agent, and those that it reaches by handoffs, each once."""
        found: list[own.Agent[Any, Any]] = []

        def visit(one: Any) -> None:
            if isinstance(one, own.Agent) and all(one is not seen for seen in found):
                found.append(one)
                for following in one.handoffs:
                    visit(following)

        visit(agent)
        return found


class Runner:
    """Runs agents."""

    @classmethod
    async def run(
        cls,
        agent: own.Agent[Any, Any],
        inputs: Any,
        max_turns: int = 10,
        session: Session | None = None,
        **others: Any,
    ) -> list[Chunk]:
        """Run `agent` until it answers, and return the chunks of the answer.

        Sources, files and the model's reasoning are left out, as there. `max_turns` counts the times that
        results of tools are sent to the model, after its first reply. At that limit the run ends without an
        error, with the chunks of the last reply.

        Raises:
            WorkflowsException: the run ended without an answer; the error of the run is its cause.
            DefinitionError: the agent, the inputs or the session cannot be used; nothing was done.
        """
        refuse_arguments(
            "Runner.run()", others, REFUSED_BY_RUNNER, ("agent", "inputs", "max_turns", "session")
        )
        way = RemoteSession() if session is None else session
        try:
            result = await running.Runner.run(agent, _messages(inputs), way, max_turns + 1)
        except MaxTurnsExceeded as error:
            return _last_said(error)
        except (RunError, ToolError, ToolServerError, ActivityError) as error:
            message = f"Agent runner failed: {error}"
            raise WorkflowsException(
                message, code=ErrorCode.AGENT_EXECUTION_ERROR, type="agent_execution_error"
            ) from error
        return _shown(list(result))


def _messages(inputs: Any) -> Any:
    """Return the inputs as entries and chunks; a text in a list is a message."""
    if isinstance(inputs, str):
        return inputs
    given = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    return [_message(one) for one in given]


def _message(given: Any) -> Any:
    if isinstance(given, str):
        return MessageInput(content=given)
    if not isinstance(given, (WireValue, Mapping)) and hasattr(given, "model_dump"):
        return given.model_dump(mode="json")
    return given


def _last_said(error: MaxTurnsExceeded) -> list[Chunk]:
    """Return what the last reply says beside its calls; the results of these calls may follow it."""
    given = (MessageInput, FunctionResult)
    entries = [*dropwhile(lambda entry: isinstance(entry, given), reversed(error.entries))]
    reply = [*takewhile(lambda entry: not isinstance(entry, given), entries)]
    said = [as_chunks(entry.content) for entry in reversed(reply) if isinstance(entry, MessageOutput)]
    return _shown([*chain.from_iterable(said)])


def _shown(chunks: Sequence[Chunk]) -> list[Chunk]:
    return [one for one in chunks if not isinstance(one, (ToolFileChunk, ToolReferenceChunk, ThinkingChunk))]
