"""Questions to people: typed, answered once, and found in the event stream as approvals are.

An answer comes as an update, which the execution accepts only while the question is open and the answer is
of its type. So one who answers learns at once whether the answer counts, and why not.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from outlast.core.events import (
    EXECUTION_ENDS,
    AnyEventData,
    QuestionAnsweredData,
    QuestionAskedData,
    QuestionWithdrawnData,
)
from outlast.core.json import JSON
from outlast.core.values import Value

ANSWER_UPDATE = "outlast.answer"
"""The name under which an answer is sent to an execution, among its updates."""


class PendingQuestion(Value):
    """A question that waits for a person's answer."""

    key: str
    """Its place in the execution, different from that of any other question."""
    question: str
    answer_schema: dict[str, JSON] = Field(default_factory=dict)
    """The JSON schema of the answer."""
    to: str | None = None
    """The people who are asked, in the words of the workflow's code; None: anybody."""


def questions_in(events: Iterable[AnyEventData]) -> tuple[PendingQuestion, ...]:
    """Return the questions that are open at the end of an event stream without void events, oldest first."""
    waiting: dict[str, PendingQuestion] = {}
    for data in events:
        match data:
            case QuestionAskedData():
                waiting[data.key] = PendingQuestion(
                    key=data.key, question=data.question, answer_schema=data.answer_schema, to=data.to
                )
            case QuestionAnsweredData() | QuestionWithdrawnData():
                waiting.pop(data.key, None)
            case _ if data.kind in EXECUTION_ENDS:
                waiting.clear()
            case _:
                pass
    return tuple(waiting.values())
