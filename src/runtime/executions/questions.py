"""The questions of one execution that wait for an answer, and the update that brings it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from outlast.core.errors import InvalidArguments, QuestionNotPending
from outlast.core.json import JSON
from outlast.core.questions import ANSWER_UPDATE
from outlast.ports.definitions import HandlerDefinition
from outlast.ports.durability.steps import Answer
from outlast.runtime.definitions.signature import CallableSignature


class OpenQuestions:
    """The open questions, by key. Its methods are the handler and the validator of `ANSWER_UPDATE`."""

    def __init__(self, execution_id: str) -> None:
        self._execution_id = execution_id
        self._open: dict[str, tuple[Callable[[JSON], list[str]], asyncio.Future[Answer]]] = {}

    async def answer_to(self, key: str, faults_in: Callable[[JSON], list[str]]) -> Answer:
        """Wait for the first answer to the question at `key` in which `faults_in` finds nothing wrong."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[key] = faults_in, future
        try:
            return await future
        finally:
            del self._open[key]

    def check(self, key: str, answer: Any, by: str | None = None) -> None:
        """Refuse an answer that does not count.

        Raises:
            QuestionNotPending: no question with that key waits for an answer.
            InvalidArguments: the answer is not of the question's type.
        """
        faults_in, future = self._open.get(key, (None, None))
        if faults_in is None or future is None or future.done():
            waiting = [key for key, (_, future) in self._open.items() if not future.done()]
            raise QuestionNotPending(self._execution_id, key, waiting)
        if faults := faults_in(answer):
            raise InvalidArguments("the answer", faults)

    def answer(self, key: str, answer: Any, by: str | None = None) -> None:
        """Give an answer to the code that waits for it; raises what `check` raises."""
        self.check(key, answer, by)
        self._open[key][1].set_result(Answer(answer, by))


ANSWER_HANDLER = HandlerDefinition(
    ANSWER_UPDATE, "answer", CallableSignature.of(OpenQuestions("").answer), validator="check"
)
