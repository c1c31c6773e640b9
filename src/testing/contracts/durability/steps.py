"""Activities, also in a crash: D3, D4, D5, D7."""

from __future__ import annotations

import asyncio

import pytest

from outlast.core.events import EventKind
from outlast.testing.contracts.durability.activities import BACKOFF_SECONDS
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.workflows import (
    Asyncio,
    CountAttempts,
    Gated,
    GatedOnce,
    Infos,
    ManyGates,
    Steps,
    Threaded,
    TwoGatedOnce,
)


class StepContract(DurabilityContractBase):
    """D3, D4, D5, D7."""

    # Crashes ---------------------------------------------------------------------------------------------

    async def test_d3_a_journaled_step_never_runs_again(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        for crash in range(1, 4):
            process = await stage.worker(Gated)
            await stage.soon(world.happened("gate reached", crash))
            await stage.lose(process)
        world.gate("gate").set()
        await stage.worker(Gated)
        assert await stage.soon(execution.result()) == ["before done", "gate done", "after done"]
        assert (world.count("before"), world.count("gate passed"), world.count("after")) == (1, 1, 1)

    async def test_d3_of_steps_at_the_same_time_only_the_open_ones_run_again(self, stage: Stage) -> None:
        execution, world = await stage.start(ManyGates, ["a", "b", "c"])
        process = await stage.worker(ManyGates)
        for gate in "abc":
            await stage.soon(world.happened(f"{gate} reached"))
        world.gate("b").set()
        await stage.event(execution, EventKind.ACTIVITY_COMPLETED)
        await stage.lose(process)
        world.gate("a").set()
        world.gate("c").set()
        await stage.worker(ManyGates)
        assert await stage.soon(execution.result()) == ["a done", "b done", "c done"]
        assert [world.count(f"{gate} reached") for gate in "abc"] == [2, 1, 2]

    async def test_d4_a_step_in_doubt_runs_again_under_the_same_key(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        for crash in range(1, 4):
            process = await stage.worker(Gated)
            await stage.soon(world.happened("gate reached", crash))
            await stage.lose(process)
        world.gate("gate").set()
        await stage.worker(Gated)
        await stage.soon(execution.result())
        assert world.attempts("gate reached") == [1, 2, 3, 4]
        assert len({effect.key for effect in world.effects if effect.what == "gate reached"}) == 1

    async def test_d4_every_call_has_a_key_of_its_own(self, stage: Stage) -> None:
        execution, world = await stage.start(Steps, ["same", "same"])
        other, other_world = await stage.start(Steps, ["same", "same"])
        await stage.worker(Steps)
        await stage.soon(execution.result())
        await stage.soon(other.result())
        keys = [effect.key for effect in [*world.effects, *other_world.effects]]
        assert len(set(keys)) == 4

    async def test_d4_an_attempt_knows_itself(self, stage: Stage) -> None:
        execution, _ = await stage.start(Infos)
        await stage.worker(Infos)
        one, other, execution_id, workflow = await stage.soon(execution.result())
        assert (execution_id, workflow) == (execution.id, "contract.infos")
        assert one[:3] == other[:3] == [execution.id, "report_info", 1]
        assert one[3] != other[3]

    async def test_d4_a_worker_that_died_before_it_began_costs_no_attempt(self, stage: Stage) -> None:
        self.needs(BackendCapability.MOVABLE_CLOCK)  # otherwise the progress of a worker is unknown
        execution, world = await stage.start(Gated)
        process = await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        await stage.lose(process)
        world.gate("gate").set()
        await stage.worker(Gated)
        await stage.soon(execution.result())
        assert world.attempts("before") == world.attempts("after") == [1]

    async def test_d7_another_worker_goes_on_within_the_lease_time(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        process = await stage.worker(Gated)
        await stage.soon(world.happened("gate reached"))
        world.gate("gate").set()
        await process.kill()
        await stage.worker(Gated)
        result = await stage.later(execution.result(), stage.lease.total_seconds())
        assert result == ["before done", "gate done", "after done"]

    # Activities that are not to be repeated --------------------------------------------------------------

    async def test_d4_an_activity_with_effect_once_is_never_repeated(self, stage: Stage) -> None:
        execution, world = await stage.start(GatedOnce)
        process = await stage.worker(GatedOnce)
        await stage.soon(world.happened("gate reached"))
        await stage.lose(process)
        world.gate("gate").set()
        await stage.worker(GatedOnce)
        assert await stage.later(execution.result(), 10) == "unknown, looked done"
        assert (world.count("gate reached"), world.count("looked")) == (1, 1)

    async def test_d4_two_steps_in_doubt_at_the_same_time_are_reported(self, stage: Stage) -> None:
        execution, world = await stage.start(TwoGatedOnce)
        process = await stage.worker(TwoGatedOnce)
        await stage.soon(world.happened("left reached"))
        await stage.soon(world.happened("right reached"))
        await stage.lose(process)
        await stage.worker(TwoGatedOnce)
        assert await stage.later(execution.result(), 10) in ("1 unknown", "2 unknown")
        assert (world.count("left reached"), world.count("right reached")) == (1, 1)

    async def test_d5_an_activity_with_effect_once_that_fails_is_not_tried_again(self, stage: Stage) -> None:
        execution, world = await stage.start(CountAttempts, "once")
        await stage.worker(CountAttempts)
        assert await stage.soon(execution.result()) == ["ActivityFailed", 1, "Overloaded"]
        assert world.attempts("tried") == [1]

    # Attempts -----------------------------------------------------------------------------------------

    @pytest.mark.parametrize("times", [0, 1, 3])
    async def test_d5_a_failing_activity_is_tried_again(self, stage: Stage, times: int) -> None:
        execution, world = await stage.start(CountAttempts, "fail", times)
        await stage.worker(CountAttempts)
        assert await stage.later(execution.result(), 1) == times + 1
        assert world.attempts("tried") == list(range(1, times + 2))
        assert len({effect.key for effect in world.effects}) == 1

    async def test_d5_the_last_failure_is_raised_when_the_attempts_are_used_up(self, stage: Stage) -> None:
        execution, world = await stage.start(CountAttempts, "fail", 9)
        await stage.worker(CountAttempts)
        assert await stage.later(execution.result(), 1) == ["ActivityFailed", 4, "Overloaded"]
        assert world.attempts("tried") == [1, 2, 3, 4]

    @pytest.mark.parametrize(
        ("how", "kind"),
        [("itself", "Hopeless"), ("derived", "MoreHopeless"), ("group", "ExceptionGroup")],
    )
    async def test_d5_a_non_retryable_error_ends_the_step(self, stage: Stage, how: str, kind: str) -> None:
        execution, world = await stage.start(CountAttempts, f"hopeless {how}")
        await stage.worker(CountAttempts)
        assert await stage.soon(execution.result()) == ["ActivityFailed", 1, kind]
        assert world.count("tried") == 1

    @pytest.mark.parametrize("kind", ["cancelled", "base", "huge", "group", "unreadable"])
    async def test_d5_any_exception_of_an_activity_is_a_failed_attempt(self, stage: Stage, kind: str) -> None:
        execution, world = await stage.start(CountAttempts, kind)
        await stage.worker(CountAttempts)
        name, attempts, _ = await stage.later(execution.result(), 1)
        assert (name, attempts) == ("ActivityFailed", 2)
        assert world.count(kind) == 2

    async def test_d5_back_off_is_kept(self, stage: Stage) -> None:
        execution, world = await stage.start(CountAttempts, "slow", 2)
        await stage.worker(CountAttempts)
        assert await stage.later(execution.result(), 3 * BACKOFF_SECONDS) == 3
        first, second, third = (effect.at for effect in world.effects)
        assert second - first >= BACKOFF_SECONDS
        assert third - second >= 2 * BACKOFF_SECONDS

    async def test_d5_back_off_is_kept_across_a_crash(self, stage: Stage) -> None:
        execution, world = await stage.start(CountAttempts, "slow", 1)
        process = await stage.worker(CountAttempts)
        await stage.soon(stage.storage.attempt_failed(execution))
        await process.kill()
        await stage.worker(CountAttempts)
        assert await stage.later(execution.result(), stage.lease.total_seconds() + BACKOFF_SECONDS) == 2
        first, second = (effect.at for effect in world.effects)
        assert second - first >= BACKOFF_SECONDS

    async def test_d5_attempts_are_counted_across_a_crash(self, stage: Stage) -> None:
        execution, world = await stage.start(CountAttempts, "two")
        process = await stage.worker(CountAttempts)
        await stage.soon(world.happened("gate reached"))
        await stage.lose(process)
        await stage.worker(CountAttempts)
        name, attempts, _ = await stage.later(execution.result(), 10)
        assert (name, attempts) == ("ActivityFailed", 2)
        assert (world.count("gate reached"), world.attempts("gate failed")) == (1, [2])

    async def test_d5_a_crash_can_use_up_the_last_attempt(self, stage: Stage) -> None:
        execution, world = await stage.start(CountAttempts, "one")
        process = await stage.worker(CountAttempts)
        await stage.soon(world.happened("gate reached"))
        await stage.lose(process)
        world.gate("gate").set()
        await stage.worker(CountAttempts)
        name, attempts, _ = await stage.later(execution.result(), 10)
        assert (name, attempts) in (("ActivityInterrupted", 1), ("ActivityTimedOut", None))
        assert world.count("gate reached") == 1

    async def test_d5_an_attempt_that_takes_too_long_is_cancelled(self, stage: Stage) -> None:
        execution, world = await stage.start(CountAttempts, "long")
        await stage.worker(CountAttempts)
        assert (await stage.later(execution.result(), 4))[0] == "ActivityTimedOut"
        assert world.attempts("tried") == world.attempts("tried cancelled") == [1, 2]
        times = [effect.at for effect in world.effects if effect.what == "tried"]
        assert times[1] - times[0] >= 2

    async def test_d5_an_attempt_without_heartbeats_is_retried_and_gets_the_details_of_the_last_heartbeat(
        self, stage: Stage
    ) -> None:
        execution, world = await stage.start(CountAttempts, "silent")
        await stage.worker(CountAttempts)
        assert await stage.later(execution.result(), 4) == ["page", 7]
        assert world.attempts("tried") == [1, 2]

    async def test_d5_heartbeats_keep_an_attempt_alive(self, stage: Stage) -> None:
        self.needs(BackendCapability.MOVABLE_CLOCK)
        execution, world = await stage.start(CountAttempts, "alive", 5)
        await stage.worker(CountAttempts)
        for sign in range(5):
            await stage.soon(world.happened(f"sign {sign}"))
            await stage.pass_time(1.5)
            world.gate(f"sign {sign}").set()
        assert await stage.soon(execution.result()) == 5

    # Steps of one workflow -------------------------------------------------------------------------------

    async def test_a_plain_function_is_an_activity_in_a_thread(self, stage: Stage) -> None:
        names = [f"name {n}" for n in range(20)]
        execution, world = await stage.start(Threaded, names)
        await stage.worker(Threaded)
        assert await stage.soon(execution.result()) == [f"{name} done" for name in names]
        assert sorted(str(effect.what) for effect in world.effects) == sorted(names)

    async def test_asyncio_works_as_it_does_elsewhere(self, stage: Stage) -> None:
        execution, world = await stage.start(Asyncio)
        await stage.worker(Asyncio)
        assert await stage.later(execution.result(), 5) == {
            "gather": ["a done", "b done", "slept"],
            "group": ["c done", "d done"],
            "timeout": "timed out",
            "queue": ["e done", "f done"],
            "wait": ["g done"],
            "shield": "h done",
        }
        await stage.soon(world.idle())
        assert (world.count("gate reached"), world.count("gate passed")) == (1, 0)

    async def test_asyncio_works_across_crashes(self, stage: Stage) -> None:
        execution, world = await stage.start(Asyncio)
        process = await stage.worker(Asyncio)
        await stage.later(world.happened("gate reached"), 2)
        await stage.lose(process)
        await stage.worker(Asyncio, max_cached_executions=0)
        result = await stage.later(execution.result(), 5)
        assert (result["timeout"], result["shield"]) == ("timed out", "h done")
        assert all(world.count(name) == 1 for name in "abcdefgh")

    async def test_executions_do_not_disturb_each_other(self, stage: Stage) -> None:
        started = [await stage.start(Steps, [f"{n} a", f"{n} b"]) for n in range(20)]
        failing, _ = await stage.start(CountAttempts, "hopeless itself")
        await stage.worker(Steps, CountAttempts)
        for number, (execution, world) in enumerate(started):
            assert await stage.soon(execution.result()) == [f"{number} a done", f"{number} b done"]
            assert [effect.what for effect in world.effects] == [f"{number} a", f"{number} b"]
        assert (await stage.soon(failing.result()))[0] == "ActivityFailed"

    async def test_d3_no_worker_claims_an_execution_that_has_ended(self, stage: Stage) -> None:
        execution, world = await stage.start(CountAttempts, "hopeless itself")
        process = await stage.worker(CountAttempts)
        await stage.soon(execution.result())
        before = await stage.soon(all_events(execution))
        await stage.lose(process)
        await stage.worker(CountAttempts)
        other, _ = await stage.start(CountAttempts, "fail", 0)
        await stage.soon(other.result())
        assert await stage.soon(all_events(execution)) == before
        assert world.count("tried") == 1

    async def test_many_can_wait_for_a_result_and_some_can_stop_waiting(self, stage: Stage) -> None:
        execution, world = await stage.start(Gated)
        await stage.worker(Gated)
        waiting = [asyncio.ensure_future(execution.result()) for _ in range(5)]
        await stage.soon(world.happened("gate reached"))
        waiting[0].cancel()
        world.gate("gate").set()
        results = await stage.soon(asyncio.gather(*waiting, return_exceptions=True))
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [["before done", "gate done", "after done"]] * 4
