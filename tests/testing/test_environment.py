"""The environment: a month passes at once, workers crash, and what cannot come fails at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import outlast
from outlast import workflow
from outlast.testing import (
    Environment,
    ModelCall,
    Reply,
    ScriptedSession,
    ScriptExhausted,
    Stalled,
    WrongReply,
    call,
    fail,
)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Check that the block takes less than that, of this process's own time."""
    began = time.process_time()
    yield
    assert time.process_time() - began < seconds


class Mail:
    """A server of mail, which fails as it is wanted."""

    def __init__(self) -> None:
        self.failures = 0
        self.hangs = 0


mail = Mail()


@pytest.fixture(autouse=True)
def _fresh_mail() -> None:
    mail.__init__()  # type: ignore[misc]


@outlast.activity(
    start_to_close_timeout=timedelta(minutes=5), retry_policy_max_attempts=5, heartbeat_timeout=None
)
async def remind(address: str, day: int) -> str:
    """Send a reminder."""
    if mail.failures:
        mail.failures -= 1
        raise ConnectionError("the mail server is away")
    if mail.hangs:
        mail.hangs -= 1
        await asyncio.Event().wait()
    return f"{address} {day}"


@outlast.activity
def weigh(pounds: float) -> float:
    """Weigh in a thread."""
    time.sleep(0.01)
    return pounds * 2


@workflow.define(name="kit.trial")
class Trial:
    @workflow.entrypoint
    async def run(self, address: str, days: int = 30) -> list[str]:
        sent = []
        for day in range(days):
            await asyncio.sleep(timedelta(days=1).total_seconds())
            sent.append(await remind(address, day))
        return sent


@workflow.define(name="kit.deal")
class Deal:
    def __init__(self) -> None:
        self.verdict = ""

    @workflow.entrypoint
    async def run(self, patience: timedelta | None = None) -> str:
        try:
            await workflow.wait_condition(lambda: bool(self.verdict), patience)
        except TimeoutError:
            return "nobody decided"
        return self.verdict

    @workflow.signal
    def decide(self, verdict: str) -> None:
        self.verdict = verdict


@workflow.define(name="kit.scales")
class Scales:
    @workflow.entrypoint
    async def run(self, pounds: float) -> float:
        try:
            async with asyncio.timeout(3600):
                return await weigh(pounds)
        except TimeoutError:
            return -1.0


@workflow.define(name="kit.parent")
class Parent:
    @workflow.entrypoint
    async def run(self, address: str) -> list[str]:
        return await workflow.execute_child(Trial.run, address, 30)


@workflow.define(name="kit.patron")
class Patron:
    @workflow.entrypoint
    async def run(self) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(3600))
            deal = group.create_task(workflow.execute_child(Deal.run))
        return deal.result()


async def test_a_month_of_timers_and_retries_takes_less_than_a_second(env: Environment) -> None:
    await env.execute(Trial.run, "warm@up", 1)
    began = env.now
    mail.failures = 4
    with within(1.0):
        assert len(await env.execute(Trial.run, "ada@example.com")) == 30
    passed = env.now - began
    assert timedelta(days=30, seconds=1 + 2 + 4 + 8) <= passed < timedelta(days=30, minutes=1)


async def test_idle_time_costs_nothing_however_long_it_is(env: Environment) -> None:
    await env.execute(Trial.run, "warm@up", 1)
    deal = await env.start(Deal.run, timedelta(days=100 * 365))
    with within(0.2):
        assert await deal.result() == "nobody decided"


async def test_skip_runs_what_is_due_and_stops_there(env: Environment) -> None:
    trial = await env.start(Trial.run, "ada@example.com")
    began = env.now
    await env.skip(days=3)
    assert [effect.arguments["day"] for effect in env.effects] == [0, 1, 2]
    assert env.now - began < timedelta(days=3, seconds=1)
    await env.skip(timedelta(hours=23))
    assert len(env.effects) == 3
    assert (await trial.describe()).status == "running"
    await env.skip(hours=1)
    assert len(env.effects) == 4


async def test_time_stands_still_while_a_test_does_something_real(env: Environment) -> None:
    await env.start(Trial.run, "ada@example.com")
    before = env.now
    await asyncio.sleep(0.05)
    await asyncio.to_thread(time.sleep, 0.05)
    assert env.now == before
    assert env.effects == []


async def test_effects_say_what_ran_in_order_with_arguments_and_attempts(env: Environment) -> None:
    mail.failures = 2
    execution = await env.start(Trial.run, "ada@example.com", 1)
    assert await execution.result() == ["ada@example.com 0"]
    assert [(one.activity, one.attempt, one.outcome) for one in env.effects] == [
        ("remind", 1, "failed"),
        ("remind", 2, "failed"),
        ("remind", 3, "completed"),
    ]
    first, second, last = env.effects
    assert first.arguments == {"address": "ada@example.com", "day": 0}
    assert first.execution == execution.id
    assert isinstance(first.error, ConnectionError)
    assert last.result == "ada@example.com 0"
    assert {first.idempotency_key} == {second.idempotency_key, last.idempotency_key}
    assert timedelta(seconds=1) <= second.at - first.at < timedelta(seconds=2)


async def test_an_attempt_that_hangs_is_timed_out_in_virtual_time(env: Environment) -> None:
    mail.hangs = 1
    with within(1.0):
        assert await env.execute(Trial.run, "ada@example.com", 1) == ["ada@example.com 0"]
    assert [one.outcome for one in env.effects] == ["interrupted", "completed"]
    assert env.effects[1].at - env.effects[0].at >= timedelta(minutes=5)


async def test_a_crashed_worker_is_replaced_when_its_lease_has_run_out(env: Environment) -> None:
    mail.hangs = 1
    trial = await env.start(Trial.run, "ada@example.com", 2)
    await env.skip(days=1)
    assert [one.outcome for one in env.effects] == ["running"]
    env.crash_worker()
    assert await trial.result() == ["ada@example.com 0", "ada@example.com 1"]
    assert [(one.arguments["day"], one.attempt, one.outcome) for one in env.effects] == [
        (0, 1, "interrupted"),
        (0, 2, "completed"),
        (1, 1, "completed"),
    ]
    assert timedelta(seconds=5) < env.effects[1].at - env.effects[0].at < timedelta(minutes=1)
    kinds = [event.kind async for event in trial.events()]
    assert "execution_recovered" in kinds


async def test_code_under_test_can_crash_its_own_worker(env: Environment) -> None:
    @outlast.activity
    async def charge(amount: int) -> int:
        if outlast.activity.info().attempt == 1:
            env.crash_worker()
            await asyncio.sleep(60)
        return amount

    @workflow.define(name="kit.payment")
    class Payment:
        @workflow.entrypoint
        async def run(self) -> int:
            return await charge(5)

    assert await env.execute(Payment.run) == 5
    assert [(one.attempt, one.outcome) for one in env.effects] == [(1, "interrupted"), (2, "completed")]


async def test_a_wait_for_something_that_cannot_come_fails_at_once_and_says_why(env: Environment) -> None:
    deal = await env.start(Deal.run)
    with within(0.5), pytest.raises(Stalled, match="it waits for a message, such as a signal"):
        await deal.result()
    await deal.signal(Deal.decide, "buy")
    assert await deal.result() == "buy"


async def test_a_test_may_limit_its_own_time(env: Environment) -> None:
    deal = await env.start(Deal.run)
    began = time.monotonic()
    with pytest.raises(Stalled):
        async with asyncio.timeout(100):
            await deal.result()
    assert time.monotonic() - began < 10
    async with asyncio.timeout(100):
        assert len(await env.execute(Trial.run, "ada@example.com", 3)) == 3


async def test_a_signal_that_a_test_sends_meanwhile_comes_in_time(env: Environment) -> None:
    deal = await env.start(Deal.run)

    async def decide() -> None:
        await asyncio.sleep(0.05)
        await deal.signal(Deal.decide, "sell")

    async with asyncio.TaskGroup() as group:
        group.create_task(decide())
        assert await deal.result() == "sell"


async def test_an_execution_without_a_worker_does_not_hang(env: Environment) -> None:
    deal = await env.start(Deal.run, timedelta(days=1))
    await env.settle()
    env.crash_worker(restart=False)
    with pytest.raises(Stalled, match="no worker runs"):
        await deal.result()
    assert await env.execute(Deal.run, timedelta(days=1)) == "nobody decided"
    assert await deal.result() == "nobody decided"


async def test_a_call_in_a_thread_takes_no_virtual_time(env: Environment) -> None:
    before = env.now
    assert await env.execute(Scales.run, 2.5) == 5.0
    assert env.now - before < timedelta(minutes=1)


async def test_children_run_in_the_same_worker(env: Environment) -> None:
    await env.execute(Trial.run, "warm@up", 1)
    with within(1.0):
        assert len(await env.execute(Parent.run, "ada@example.com")) == 30
    assert len(env.effects) == 31


async def test_a_child_that_cannot_go_on_is_named(env: Environment) -> None:
    before = env.now
    with within(1.0), pytest.raises(Stalled, match=r"child '.*', which waits for a message"):
        await env.execute(Patron.run)
    assert timedelta(hours=1) <= env.now - before < timedelta(hours=2)


async def test_code_that_departs_from_its_journal_fails_the_wait_at_once(env: Environment) -> None:
    def define(address: str) -> type:
        @workflow.define(name="kit.changed")
        class Changed:
            @workflow.entrypoint
            async def run(self) -> str:
                await remind(address, 1)
                await asyncio.sleep(86_400)
                return address

        return Changed

    execution = await env.start(define("ada@example.com"))
    await env.skip(hours=1)
    env.crash_worker()
    await env.start(define("bob@example.com"), id="another")
    with pytest.raises(Stalled, match="departed from its journal"):
        await execution.result()


async def test_workers_run_the_definition_that_a_test_starts(env: Environment) -> None:
    def define(answer: str) -> type:
        @workflow.define(name="kit.twice")
        class Twice:
            @workflow.entrypoint
            async def run(self) -> str:
                return answer

        return Twice

    first, second = define("first"), define("second")
    assert [await env.execute(one) for one in (first, second, first)] == ["first", "second", "first"]


def test_it_works_without_pytest_and_from_a_date() -> None:
    async def program() -> datetime:
        async with Environment(start=datetime(2030, 1, 1, tzinfo=UTC)) as env:
            await env.execute(Trial.run, "ada@example.com", 2)
            return env.now

    assert datetime(2030, 1, 3, tzinfo=UTC) <= asyncio.run(program()) < datetime(2030, 1, 4, tzinfo=UTC)


def test_nothing_is_left_behind_on_the_loop() -> None:
    async def program() -> int:
        async with Environment() as env:
            mail.hangs = 2
            await env.start(Trial.run, "ada@example.com")
            await env.skip(days=1)
            env.crash_worker()
            await env.skip(minutes=1)
        assert not hasattr(vars(asyncio.get_running_loop()), "run_in_executor")
        return len(asyncio.all_tasks())

    assert asyncio.run(program(), debug=True) == 1


async def test_an_environment_that_is_not_open_says_how_to_open_it() -> None:
    with pytest.raises(outlast.OutlastError, match="async with Environment"):
        await Environment().execute(Trial.run, "ada@example.com")


async def test_a_bad_duration_or_start_is_an_error_where_it_is_written(env: Environment) -> None:
    with pytest.raises(ValueError, match="one way"):
        await env.skip(days=-1)
    with pytest.raises(outlast.OutlastError, match="timezone"):
        Environment(start=datetime(2030, 1, 1))


async def test_a_failed_execution_shows_the_line_of_the_code_that_raised(env: Environment) -> None:
    @workflow.define(name="kit.fails")
    class Fails:
        @workflow.entrypoint
        async def run(self) -> None:
            raise LookupError("no such deal")

    with pytest.raises(outlast.ExecutionFailed) as failed:
        await env.execute(Fails.run)
    [note] = failed.value.__notes__
    assert f'File "{__file__}"' in note
    assert 'raise LookupError("…")' in note


def talk_with(script: Any) -> type:
    @workflow.define(name="kit.talk")
    class Talk:
        @workflow.entrypoint
        async def run(self) -> str:
            agent = outlast.Agent(model="m", name="clerk", tools=[remind])
            return (await outlast.Runner.run(agent, "Go.", ScriptedSession(script))).text

    return Talk


async def test_a_mistake_in_a_model_is_raised_with_its_own_traceback(env: Environment) -> None:
    def model(asked: ModelCall) -> Reply:
        raise KeyError("no such city")

    with pytest.raises(KeyError, match="no such city") as mistake:
        await env.execute(talk_with(model))
    assert mistake.traceback[-1].name == "model"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ({"clerk": []}, ScriptExhausted),
        ({"clerk": [call("nothing")]}, WrongReply),
        (lambda asked: 7, WrongReply),
    ],
)
async def test_a_mistake_in_a_script_fails_the_test_at_once(
    env: Environment, script: Any, error: type[Exception]
) -> None:
    with within(1.0), pytest.raises(error):
        await env.execute(talk_with(script))


async def test_a_mistake_that_a_test_does_not_wait_for_fails_it_in_the_end() -> None:
    async def program() -> None:
        async with Environment() as env:
            talk = await env.start(talk_with({"clerk": []}))
            while (await talk.describe()).status == "running":  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    with pytest.raises(ScriptExhausted):
        await program()


async def test_a_model_that_fails_is_tried_again_in_virtual_time(env: Environment) -> None:
    before = env.now
    reminder = call("remind", {"address": "a", "day": 1})
    script = {"clerk": [fail(429, retry_after_seconds=3600), fail(), reminder, "Done."]}
    with within(1.0):
        assert await env.execute(talk_with(script)) == "Done."
    assert timedelta(hours=1) <= env.now - before < timedelta(hours=2)
    assert [effect.arguments for effect in env.effects] == [{"address": "a", "day": 1}]
