"""Questions: those that wait are read from the event stream, and a description names them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outlast.core import events
from outlast.core.errors import NoRunAtWork, QuestionNotPending, RunInterrupted
from outlast.core.events import AnyEventData
from outlast.core.questions import questions_in
from outlast.core.records import EventEmitted, ExecutionStarted
from outlast.core.waiting import WaitingKind, overview_in

ENDS: list[AnyEventData] = [
    events.ExecutionCompletedData(result=None),
    events.ExecutionCancelledData(),
]
keys = st.sampled_from("abc")
steps = st.lists(
    st.one_of(
        st.builds(events.QuestionAskedData, key=keys, question=st.text(max_size=3), to=st.none() | st.text()),
        st.builds(events.QuestionAnsweredData, key=keys, answer=st.integers()),
        st.builds(events.QuestionWithdrawnData, key=keys),
        st.just(events.PatchedData(patch="p")),
        st.sampled_from(ENDS),
    ),
    max_size=12,
)


@given(steps)
def test_a_question_waits_from_its_asking_to_its_answer_withdrawal_or_the_end(
    stream: list[AnyEventData],
) -> None:
    waiting: dict[str, events.QuestionAskedData] = {}
    for data in stream:
        if isinstance(data, events.QuestionAskedData):
            waiting[data.key] = data
        elif isinstance(data, (events.QuestionAnsweredData, events.QuestionWithdrawnData)):
            waiting.pop(data.key, None)
        elif data in ENDS:
            waiting.clear()
    found = questions_in(stream)
    assert [(one.key, one.question, one.to) for one in found] == [
        (one.key, one.question, one.to) for one in waiting.values()
    ]


@given(steps)
def test_the_description_of_an_execution_names_the_questions_that_wait(stream: list[AnyEventData]) -> None:
    emitted = [data for data in stream if data not in ENDS]
    records = [EventEmitted.of(f"event:{number}", data) for number, data in enumerate(emitted)]
    overview = overview_in([ExecutionStarted(at=1.0, workflow="w", arguments={}), *records])
    named = [(one.step, one.text) for one in overview.waiting_for if one.kind is WaitingKind.ANSWER]
    assert named == [(one.key, one.question) for one in questions_in(emitted)]


def test_errors_name_what_waits_and_what_is_at_work() -> None:
    assert str(QuestionNotPending("x", "q", ["a", "b"])).endswith("the questions that wait: a, b")
    assert str(QuestionNotPending("x", "q")).endswith("the questions that wait: none")
    assert str(NoRunAtWork("x", None)).startswith("no run of execution 'x' is at work")
    assert "no run 'r' of" in str(NoRunAtWork("x", "r", ["a"]))
    assert str(NoRunAtWork("x", None, ["a", "b"])).endswith("name one of them: a, b")
    assert str(RunInterrupted(None)) == "the run was interrupted"
    assert str(RunInterrupted("too far", "Ann")) == "the run was interrupted by Ann: too far"
