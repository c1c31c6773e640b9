"""What a run of an agent gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from pydantic import TypeAdapter, ValidationError

from durable_agents.core.chunks import Chunk, as_chunks, text_of
from durable_agents.core.entries import Entry, MessageOutput
from durable_agents.core.errors import MalformedReply
from durable_agents.core.model import Value, faults
from durable_agents.core.usage import Usage
from durable_agents.runtime.agent import Agent


class RunRecord(Value):
    """The outcome of a run as data: what goes through a journal."""

    agent: str
    """The agent that answered."""
    final: tuple[Entry, ...]
    """The last reply."""
    entries: tuple[Entry, ...]
    """Everything that the run added to the conversation: inputs, replies, results."""
    usage: Usage
    turns: int


class RunResult(Sequence[Chunk]):
    """The content of the final answer, a sequence of chunks; and what it took to get there."""

    def __init__(self, record: RunRecord, agent: Agent) -> None:
        self.record = record
        self.agent = agent
        """The agent that gave the answer."""
        self.entries: tuple[Entry, ...] = record.entries
        """Everything that the run added to the conversation, in order."""
        self.usage: Usage = record.usage
        """What all model calls of the run cost, each counted once, whatever crashed."""
        self.turns: int = record.turns
        """How often the model was called."""
        self._chunks = tuple(
            chunk
            for entry in record.final
            if isinstance(entry, MessageOutput)
            for chunk in as_chunks(entry.content)
        )
        self._output = _parsed(agent, self.text) if agent.output_type is not None else None

    @property
    def text(self) -> str:
        """The answer's text, without its other chunks."""
        return text_of(self._chunks)

    @property
    def output(self) -> Any:
        """The answer as the agent's `output_type`; its text where there is none."""
        return self.text if self.agent.output_type is None else self._output

    @overload
    def __getitem__(self, index: int) -> Chunk: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Chunk]: ...
    def __getitem__(self, index: int | slice) -> Chunk | Sequence[Chunk]:
        return self._chunks[index]

    def __len__(self) -> int:
        return len(self._chunks)

    def __repr__(self) -> str:
        return f"<RunResult of {self.agent.name!r} after {self.turns} turns: {self.text!r}>"


def _parsed(agent: Agent, text: str) -> Any:
    try:
        return TypeAdapter(agent.output_type).validate_json(text)
    except ValidationError as error:
        raise MalformedReply(
            f"the answer of agent {agent.name!r} is not of its output_type: {'; '.join(faults(error))}"
        ) from error
