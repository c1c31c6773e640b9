"""The result of a run of an agent."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Generic, cast, overload

from outlast.core.chunks import Chunk, ToolFileChunk, ToolReferenceChunk, as_chunks, text_of
from outlast.core.entries import Entry, MessageOutput
from outlast.core.errors import InvalidOutput
from outlast.core.notebook_html import fact_table
from outlast.core.usage import Usage
from outlast.core.values import Value
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.output_type import OutputType, T_co


class RunRecord(Value):
    """The outcome of a run as data that a journal can hold."""

    agent: str
    """The agent that answered."""
    final: tuple[Entry, ...]
    """The last reply."""
    entries: tuple[Entry, ...]
    """Everything that the run added to the conversation: inputs, replies, results."""
    usage: Usage
    turns: int
    warnings: tuple[str, ...] = ()


def said_in(entries: Sequence[Entry]) -> str:
    """Return the text of a reply, without its other chunks."""
    return text_of(
        [chunk for entry in entries if isinstance(entry, MessageOutput) for chunk in as_chunks(entry.content)]
    )


class RunResult(Sequence[Chunk], Generic[T_co]):
    """The content of the final answer, a sequence of chunks; and what it took to get there.

    Its type is that of the agent that the run started with; after a handoff, `output` is what the agent that
    answered gives.
    """

    def __init__(self, record: RunRecord, agent: Agent[Any]) -> None:
        self.record = record
        self.agent = agent
        """The agent that gave the answer."""
        self.entries: tuple[Entry, ...] = record.entries
        """Everything that the run added to the conversation, in order."""
        self.usage: Usage = record.usage
        """The usage of all model calls of the run, each counted once in spite of crashes."""
        self.cost: Decimal | None = None if record.usage.unpriced else record.usage.cost
        """The cost of all these calls, in US dollars; None if a price is not known: see `usage.unpriced`."""
        self.turns: int = record.turns
        """The number of calls of the model."""
        self.warnings: tuple[str, ...] = record.warnings
        """The warnings of the run's replies; for example, that one was cut at the token limit."""
        self._chunks = tuple(
            chunk
            for entry in record.final
            if isinstance(entry, MessageOutput)
            for chunk in as_chunks(entry.content)
        )
        self._output = self._parsed()

    @property
    def text(self) -> str:
        """The answer's text, without its other chunks."""
        return text_of(self._chunks)

    @property
    def references(self) -> tuple[ToolReferenceChunk, ...]:
        """The sources that built-in tools and connectors found, as far as the answer names them."""
        return tuple(chunk for chunk in self._chunks if isinstance(chunk, ToolReferenceChunk))

    @property
    def files(self) -> tuple[ToolFileChunk, ...]:
        """The files that built-in tools made for the answer; they stay on the server."""
        return tuple(chunk for chunk in self._chunks if isinstance(chunk, ToolFileChunk))

    @property
    def output(self) -> T_co:
        """The answer as the agent's `output_type`; its text if the agent has no output type."""
        return cast(T_co, self._output)

    def _parsed(self) -> Any:
        output = OutputType.of(self.agent.output_type, self.agent.name)
        if output is None:
            return self.text
        try:
            return output.parse(self.text)
        except ValueError as error:  # The type was changed since the answer was accepted.
            raise InvalidOutput(self.agent.name, 1, str(error)) from error

    @overload
    def __getitem__(self, index: int) -> Chunk: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Chunk]: ...
    def __getitem__(self, index: int | slice) -> Chunk | Sequence[Chunk]:
        return self._chunks[index]

    def __len__(self) -> int:
        return len(self._chunks)

    def _repr_html_(self) -> str:
        return fact_table(
            f"{self.agent.name}, {self.turns} turns, {self.usage.total_tokens} tokens",
            [
                ("answer", self.text),
                ("sources", "\n".join(f"{one.title} {one.url or ''}" for one in self.references)),
                ("files", "\n".join(one.file_name or one.file_id for one in self.files)),
                ("cost", None if self.cost is None else f"{self.cost} US dollars"),
                ("warnings", "\n".join(self.warnings)),
            ],
        )

    def __repr__(self) -> str:
        return f"<RunResult of {self.agent.name!r} after {self.turns} turns: {self.text!r}>"
