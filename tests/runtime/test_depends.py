"""Dependencies of activities, one rule at a time, in plain calls and on the memory backend."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

import outlast
import outlast.testing

opened: list[str] = []
"""The events of the factories, in order."""


@pytest.fixture(autouse=True)
def nothing_opened() -> None:
    opened.clear()


async def pool() -> AsyncIterator[str]:
    opened.append("pool opened")
    yield "pool"
    opened.append("pool closed")


def client(of: str = outlast.Depends(pool)) -> Iterator[str]:
    assert threading.current_thread() is not threading.main_thread()
    opened.append("client opened")
    yield f"client of {of}"
    opened.append("client closed")


async def session(over: str = outlast.Depends(client)) -> str:
    opened.append("session made")
    return f"session over {over}"


@outlast.activity(name="depends_ask")
async def ask(question: str, over: str = outlast.Depends(session, scope="attempt"), times: int = 1) -> str:
    """Ask a question.

    Args:
        question: The question.
        times: How often.
    """
    return f"{question} {times} over the {over}"


@outlast.activity(name="depends_count")
def count(to: int, of: str = outlast.Depends(client)) -> str:
    """Count in a thread."""
    assert threading.current_thread() is not threading.main_thread()
    return f"{to} of the {of}"


@outlast.workflow.define(name="depends.asker")
class Asker:
    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        return [await ask("Why?"), await ask("How?", times=2), await count(3)]


SESSION = "session over client of pool"
ANSWERS = [f"Why? 1 over the {SESSION}", f"How? 2 over the {SESSION}", "3 of the client of pool"]


async def test_what_a_dependency_needs_is_made_before_it_and_closed_after() -> None:
    assert await outlast.execute_workflow(Asker, backend="memory://") == ANSWERS
    made = ["pool opened", "client opened", "session made", "session made"]
    assert opened == [*made, "client closed", "pool closed"]


async def test_a_plain_call_makes_it_for_itself_or_is_given_it() -> None:
    assert await ask("Why?") == ANSWERS[0]
    assert opened == ["pool opened", "client opened", "session made", "client closed", "pool closed"]
    opened.clear()
    assert await ask("Why?", over="phone") == "Why? 1 over the phone"
    assert opened == []


def test_models_and_journals_see_the_other_parameters() -> None:
    signature = ask.definition.signature
    assert list(signature.parameters["properties"]) == ["question", "times"]  # type: ignore[arg-type]
    assert signature.description == "Ask a question."


async def test_workflow_code_cannot_give_it() -> None:
    @outlast.workflow.define(name="depends.giver")
    class Giver:
        @outlast.workflow.entrypoint
        async def run(self) -> str:
            return await ask("Why?", over="phone")

    with pytest.raises(outlast.ExecutionFailed, match="over") as raised:
        await outlast.execute_workflow(Giver, backend="memory://")
    assert isinstance(raised.value.__cause__, TypeError)


async def test_a_test_puts_another_factory_in_its_place() -> None:
    @contextmanager
    def fake() -> Iterator[str]:
        yield "fake"

    with outlast.testing.override(client, lambda: "fake client"):
        with outlast.testing.override(pool, fake):
            answers = await outlast.execute_workflow(Asker, backend="memory://")
        assert await count(1) == "1 of the fake client"
    assert answers == [
        "Why? 1 over the session over fake client",
        "How? 2 over the session over fake client",
        "3 of the fake client",
    ]
    assert opened == ["session made", "session made"]
    assert await count(1) == "1 of the client of pool"


async def test_another_factory_takes_over_in_a_worker_at_work_for_the_time_of_the_block() -> None:
    real = [ANSWERS[0], ANSWERS[1], ANSWERS[2]]
    async with outlast.testing.Environment() as env:
        assert await env.execute(Asker.run) == real
        with outlast.testing.override(pool, lambda: "fake"):
            faked = [answer.replace("of pool", "of fake") for answer in real]
            assert await env.execute(Asker.run) == faked
        assert await env.execute(Asker.run) == real
    assert opened.count("pool opened") == opened.count("pool closed") == 1
    assert opened.count("client opened") == opened.count("client closed") == 2

    async with outlast.testing.Environment() as env:
        with outlast.testing.override(pool, lambda: "fake"), outlast.testing.override(pool, lambda: "last"):
            assert (await env.execute(Asker.run))[2] == "3 of the client of last"
        assert await env.execute(Asker.run) == real


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ((), "override takes session="),
        ((pool,), "override takes session="),
        ((pool, "fake"), "not str"),
        ((pool, lambda of: of), "nothing is given for its parameter 'of'"),
        (("pool", lambda: "fake"), "no Depends.* has the factory .*pool"),
        ((session.__class__, lambda: "fake"), "the factories: .*client, .*pool"),
    ],
)
def test_what_cannot_be_put_in_its_place_is_refused(given: Any, problem: str) -> None:
    with pytest.raises(outlast.DefinitionError, match=problem), outlast.testing.override(*given):
        raise AssertionError("it was accepted")


async def test_a_factory_that_fails_fails_the_attempt_and_is_called_again() -> None:
    failures = [ConnectionError("no route"), ConnectionError("no route")]

    async def flaky() -> str:
        if failures:
            raise failures.pop()
        return "line"

    @outlast.activity(name="depends_flaky", retry_policy_initial_interval=timedelta(0))
    async def use(over: str = outlast.Depends(flaky)) -> str:
        """Use a line."""
        return f"{over}, attempt {outlast.activity.info().attempt}"

    @outlast.workflow.define(name="depends.flaky")
    class Flaky:
        @outlast.workflow.entrypoint
        async def run(self) -> str:
            return await use()

    assert await outlast.execute_workflow(Flaky, backend="memory://") == "line, attempt 3"


async def transaction() -> AsyncIterator[str]:
    try:
        yield "transaction"
    except ValueError as error:
        opened.append(f"rolled back: {error}")
    else:
        opened.append("committed")


def transaction_in_a_thread() -> Iterator[str]:
    try:
        yield "transaction"
    except ValueError as error:
        opened.append(f"rolled back: {error}")
    else:
        opened.append("committed")


@pytest.mark.parametrize("inner", [transaction, transaction_in_a_thread])
async def test_what_fails_an_attempt_reaches_its_factories_and_none_can_make_it_good(inner: Any) -> None:
    def outer() -> Iterator[None]:
        try:
            yield
        finally:
            opened.append("outer closed")
        opened.append("not reached")

    @outlast.activity(name="depends_roll_back", retry_policy_initial_interval=timedelta(0))
    async def use(
        first: None = outlast.Depends(outer, scope="attempt"),
        over: str = outlast.Depends(inner, scope="attempt"),
    ) -> str | None:
        """Fail twice."""
        if outlast.activity.info().attempt < 3:
            raise ValueError("no")
        return over

    @outlast.workflow.define(name="depends.roll_back")
    class RollBack:
        @outlast.workflow.entrypoint
        async def run(self) -> str | None:
            return await use()

    assert await outlast.execute_workflow(RollBack, backend="memory://") == "transaction"
    failed = ["rolled back: no", "outer closed"]
    assert opened == [*failed, *failed, "committed", "outer closed", "not reached"]


async def test_an_attempt_whose_transaction_cannot_be_committed_has_failed() -> None:
    failures = [ConnectionError("no commit")]

    async def committed() -> AsyncIterator[None]:
        yield
        if failures:
            raise failures.pop()

    @outlast.activity(name="depends_commit", retry_policy_initial_interval=timedelta(0))
    async def use(over: None = outlast.Depends(committed, scope="attempt")) -> int:
        """Count the attempts."""
        return outlast.activity.info().attempt

    @outlast.workflow.define(name="depends.commit")
    class Commit:
        @outlast.workflow.entrypoint
        async def run(self) -> int:
            return await use()

    assert await outlast.execute_workflow(Commit, backend="memory://") == 2


async def test_an_attempt_opens_its_own_dependency_once() -> None:
    @outlast.activity(name="depends_twice")
    async def use(
        over: str = outlast.Depends(pool, scope="attempt"),
        through: str = outlast.Depends(session, scope="attempt"),
        again: str = outlast.Depends(pool, scope="attempt"),
    ) -> str:
        """Use one thing under two names."""
        return over + again

    assert await use() == "poolpool"
    # The pool of the client that the session needs is the worker's.
    assert opened.count("pool opened") == opened.count("pool closed") == 2


async def test_a_result_outlives_what_its_worker_cannot_close() -> None:
    async def sticky() -> AsyncIterator[str]:
        yield "line"
        raise RuntimeError("does not close")

    @outlast.activity(name="depends_sticky")
    async def use(over: str = outlast.Depends(sticky)) -> str:
        """Use a line."""
        return over

    @outlast.workflow.define(name="depends.sticky")
    class Sticky:
        @outlast.workflow.entrypoint
        async def run(self) -> str:
            return await use()

    assert await outlast.execute_workflow(Sticky, backend="memory://") == "line"
    assert await use() == "line"


def test_what_cannot_be_a_dependency_is_refused_where_it_is_written() -> None:
    def needs_more(name: str) -> str:
        return name

    async def per_attempt(over: str = outlast.Depends(pool, scope="attempt")) -> str:
        return over

    with pytest.raises(outlast.DefinitionError, match="not str"):
        outlast.Depends("pool")  # type: ignore[arg-type]
    with pytest.raises(outlast.DefinitionError, match="nothing is given for its parameter 'name'"):
        outlast.Depends(needs_more)
    with pytest.raises(outlast.DefinitionError, match="what ends with an attempt"):
        outlast.Depends(per_attempt)
    with pytest.raises(outlast.DefinitionError, match='use "worker" or "attempt"'):
        outlast.Depends(pool, scope="process")  # type: ignore[arg-type]


def test_workflow_code_has_no_dependencies() -> None:
    def tool(over: str = outlast.Depends(pool)) -> str:
        """Be pure."""
        return over

    with pytest.raises(outlast.DefinitionError, match="'tool', a tool of agent 'clerk',"):
        outlast.Agent(model="m", name="clerk", tools=[tool])
    with pytest.raises(outlast.DefinitionError, match="run\\(\\) has a parameter with Depends"):

        @outlast.workflow.define(name="depends.inside")
        class Inside:
            @outlast.workflow.entrypoint
            async def run(self, over: str = outlast.Depends(pool)) -> Any:
                return over


def check(given: str, over: str = outlast.Depends(pool)) -> Any:
    raise NotImplementedError


def instruct(run: outlast.RunContext, over: str = outlast.Depends(pool)) -> str:
    raise NotImplementedError


@pytest.mark.parametrize(
    "options",
    [
        {"instructions": instruct},
        {"input_guardrails": [check]},
        {"output_guardrails": [check]},
        {"tool_input_guardrails": {"depends_ask": check}},
        {"tool_output_guardrails": {"*": check}},
        {"requires_approval": {"depends_ask": check}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_pure_functions_of_agents_have_no_dependencies(options: Any) -> None:
    with pytest.raises(outlast.DefinitionError, match=r"has a parameter with Depends\(\.\.\.\)"):
        outlast.Agent(model="m", name="clerk", tools=[ask], **options)


def test_other_pure_functions_have_no_dependencies() -> None:
    with pytest.raises(outlast.DefinitionError, match="requires_approval has a parameter with Depends"):
        outlast.activity(requires_approval=check)  # type: ignore[arg-type]
    with pytest.raises(outlast.DefinitionError, match="input_filter 'check' of a handoff has a parameter"):
        outlast.Handoff("clerk", input_filter=check)  # type: ignore[arg-type]


def test_an_activity_that_is_a_guardrail_has_its_dependencies() -> None:
    outlast.Agent(model="m", name="clerk", input_guardrails=[ask])
