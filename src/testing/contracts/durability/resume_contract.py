"""An outside yardstick: the six properties of the Resume Contract, each as one named experiment.

The contract is S. Khan, "Resume Means Resume: A Conformance Contract for Checkpoint, Interrupt, and Resume
Semantics in LLM-Agent Frameworks" (2026); its model is `formal/tla/ResumeContract.tla` of the repository
github.com/sajjadanwar0/resume-contract, its reference implementation `remit-contract` on PyPI. The tests have
the terms of the paper; the sentences are ours.

The program is that of the model: an agent does three tasks one after another, each with an effect outside
that is not idempotent, and the second is gated: it waits for a person. In the model a crash comes between
two tasks. Here it comes at every place, also within a task, after the effect and before its record. There no
engine can know whether the effect has happened, so what is promised is less, and the tests of EO say what.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import pytest

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.entries import FunctionResult
from outlast.core.errors import ExecutionAlreadyEnded, InvalidArguments, NotPending
from outlast.core.events import EventKind, ToolFailedData
from outlast.core.records import AnyRecord, StepCompleted, StepScheduled
from outlast.ports.deltas import Publish
from outlast.ports.durability.execution import Execution
from outlast.ports.llm import ModelReply, ModelRequest
from outlast.ports.resources import Resources
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.activity import activity
from outlast.runtime.definitions.agent import Agent
from outlast.testing.contracts.durability.activities import (
    AT_ONCE,
    behind,
    pass_gate,
    pass_gate_once,
    return_object,
)
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, transcript
from outlast.testing.contracts.durability.storage import BackendCapability
from outlast.testing.contracts.durability.world import World, here, worlds

FIRST, GATED, LAST = "collect", "pay", "notify"
"""The three tasks."""

PLACES = (
    "asked 1",
    f"{FIRST} reached",
    "asked 2",
    "interrupt",
    f"{GATED} reached",
    "asked 3",
    f"{LAST} reached",
    "asked 4",
)
"""Where a worker is killed: while the model is asked, which is between two tasks, and within each task."""

asked: defaultdict[str, list[ModelRequest]] = defaultdict(list)
"""The requests that the model got, by execution."""


@activity(name="contract_pass_if_allowed", retry_policy_initial_interval=AT_ONCE, requires_approval=True)
async def pass_if_allowed(gate: str) -> str:
    """Do the gated task."""
    return await behind(gate)


@activity(name="contract_count", retry_policy_initial_interval=AT_ONCE)
async def return_text_for_a_number() -> int:
    """Return a value that does not fit the declared type."""
    here().happen("counted")
    return "many"  # type: ignore[return-value]  # what users may do


class Watched(ScriptedSession):
    """Answers a turn once the test has opened its gate, and keeps what it was asked."""

    async def reply(
        self, request: ModelRequest, resources: Resources, publish: Publish | None = None
    ) -> ModelReply:
        execution_id = request.idempotency_key.partition("/")[0]
        world = worlds[execution_id]
        asked[execution_id].append(request)
        world.gate(f"asked {request.turn}").set()
        await world.gate(f"turn {request.turn}").wait()
        return await super().reply(request, resources, publish)


def results_in(request: ModelRequest) -> list[str]:
    """Return the results of tools in the order in which the model gets them."""
    return [str(entry.result) for entry in request.conversation if isinstance(entry, FunctionResult)]


SCRIPTS: Mapping[str, tuple[tuple[Any, ...], ...]] = {
    "errand": (
        (call("pass_gate", {"gate": FIRST}),),
        (call("contract_pass_if_allowed", {"gate": GATED}),),
        (call("pass_gate", {"gate": LAST}),),
    ),
    "once": ((call("pass_gate_once", {"gate": FIRST}),), (call("pass_gate", {"gate": LAST}),)),
    "parallel": (tuple(call("pass_gate", {"gate": gate}) for gate in (FIRST, LAST)),),
    "invalid": (
        (call("return_object", {}), call("contract_count", {})),
        (call("pass_gate", {"gate": [FIRST]}),),
        (call("contract_pass_if_allowed", {"gate": GATED}),),
    ),
}
"""The calls of each turn, by program. The last turn says what the tools returned."""


@workflow.define(name="contract.resumed")
class Resumed:
    """Runs an agent that plays one of the programs."""

    @workflow.entrypoint
    async def run(self, program: str) -> list[str]:
        turns = SCRIPTS[program]

        def play(request: ModelRequest) -> Any:
            return list(turns[request.turn - 1]) if request.turn <= len(turns) else say("Done.")

        tools = [pass_gate, pass_if_allowed, pass_gate_once, return_object, return_text_for_a_number]
        result = await Runner.run(Agent(model="m", name="clerk", tools=tools), "Go.", Watched(play))
        return [str(entry.result) for entry in result.entries if isinstance(entry, FunctionResult)]


DONE = [f"{task} done" for task in (FIRST, GATED, LAST)]


async def durable(execution: Execution) -> list[AnyRecord]:
    """Return the durable state: the journal as somebody outside reads it."""
    return [record async for record in execution.records()]


def completed(records: list[AnyRecord], execution: Execution) -> set[str]:
    """Return the idempotency keys of the steps whose completion is durable."""
    keys = {one.key: one.idempotency_key for one in records if isinstance(one, StepScheduled)}
    return {f"{execution.id}/{keys[one.key]}" for one in records if isinstance(one, StepCompleted)}


def open_all(world: World, *, but: tuple[str, ...] = ()) -> None:
    """Open the gates of all turns and tasks, except some."""
    for name in (FIRST, GATED, LAST, *(f"turn {number}" for number in range(1, 5))):
        if name not in but:
            world.gate(name).set()


def begun(execution: Execution, since: int = 0) -> list[tuple[Any, str, int]]:
    """Return which attempts at tasks began there since then: the task, its key, the number of the attempt."""
    effects = worlds[execution.id].effects[since:]
    return sorted(
        (str(one.what), one.key.removeprefix(f"{execution.id}/"), one.attempt)
        for one in effects
        if str(one.what).endswith(" reached")
    )


class ResumeContract(DurabilityContractBase):
    """PC, EO, FD, CV, CO and RD of the Resume Contract; each test also asserts that the run ends."""

    # Arriving at a place -----------------------------------------------------------------------------------

    async def arrive(self, stage: Stage, execution: Execution, place: str) -> None:
        """Return when the execution is at that place."""
        world = worlds[execution.id]
        if place == "interrupt":
            await stage.event(execution, EventKind.APPROVAL_REQUESTED)
        elif place.startswith("asked"):
            await stage.soon(world.gate(place).wait())
        else:
            await stage.soon(world.happened(place))

    async def leave(self, stage: Stage, execution: Execution, place: str) -> None:
        """Let the execution go on from there."""
        world = worlds[execution.id]
        if place == "interrupt":
            [waiting] = await stage.soon(execution.pending())
            await execution.decide(waiting.key, "allow")
        else:
            world.gate(place.replace("asked", "turn").removesuffix(" reached")).set()

    async def crashes(self, stage: Stage, execution: Execution) -> AsyncIterator[str]:
        """Kill a worker at each place; yield the place while nobody works. Then let a worker finish."""
        left: str | None = None
        for place in PLACES:
            process = await stage.worker(Resumed)
            if left is not None:
                await self.leave(stage, execution, left)
            await self.arrive(stage, execution, place)
            await stage.lose(process)
            yield place
            left = place
        await stage.worker(Resumed)
        await self.leave(stage, execution, PLACES[-1])

    # The properties ----------------------------------------------------------------------------------------

    async def test_resume_contract_pc_execution_never_enters_the_durable_prefix_again(
        self, stage: Stage
    ) -> None:
        """PC, prefix consistency: a resume goes on behind what is durable, and makes none of it again."""
        execution, world = await stage.start(Resumed, "errand")
        prefixes: list[tuple[list[AnyRecord], int, int]] = []
        async for _ in self.crashes(stage, execution):
            prefixes.append((await durable(execution), len(world.effects), len(asked[execution.id])))
        assert await stage.soon(execution.result()) == DONE
        whole = await durable(execution)
        for prefix, effects, requests in prefixes:
            assert [one.to_json() for one in whole[: len(prefix)]] == [one.to_json() for one in prefix]
            entered = {one.key for one in world.effects[effects:]}
            entered |= {one.idempotency_key for one in asked[execution.id][requests:]}
            assert not entered & completed(prefix, execution)
        assert [len(completed(prefix, execution)) for prefix, *_ in prefixes] == [0, 1, 2, 3, 3, 4, 5, 6]

    async def test_resume_contract_eo_effects_happen_at_most_once_across_interrupts_and_crashes(
        self, stage: Stage
    ) -> None:
        """EO, effect exactly-once: no effect is made twice, whatever was interrupted, lost and resumed.

        A task whose worker dies in it is tried again: the effect is made twice unless the outside knows the
        idempotency key, which is the same. That is the condition of EO here. Any other crash repeats nothing.
        """
        execution, world = await stage.start(Resumed, "errand")
        async for _ in self.crashes(stage, execution):
            pass
        assert await stage.soon(execution.result()) == DONE
        admitted = {one.key: str(one.what).partition(" ")[0] for one in world.effects}
        assert sorted(admitted.values()) == sorted((FIRST, GATED, LAST))
        for task in (FIRST, GATED, LAST):
            assert (world.attempts(f"{task} reached"), world.attempts(f"{task} passed")) == ([1, 2], [2])

    async def test_resume_contract_eo_an_effect_in_doubt_that_must_not_be_repeated_is_not(
        self, stage: Stage
    ) -> None:
        """EO for an outside without keys: with `effect="once"` nobody repeats it, and its outcome is unknown.

        The model gets that as the result. A person has to look whether the effect has happened.
        """
        execution, world = await stage.start(Resumed, "once")
        open_all(world, but=(FIRST,))
        process = await stage.worker(Resumed)
        await self.arrive(stage, execution, f"{FIRST} reached")
        await stage.lose(process)
        world.gate(FIRST).set()
        await stage.worker(Resumed)
        unknown, done = await stage.later(execution.result(), 10)
        assert "OutcomeUnknown" in unknown
        assert done == f"{LAST} done"
        assert world.attempts(f"{FIRST} reached") == [1]

    async def test_resume_contract_fd_each_resume_from_an_interrupt_has_the_outcome_of_its_own_value(
        self, stage: Stage
    ) -> None:
        """FD, fork determinism: resumed with a value, an interrupt gives the outcome of that value.

        That holds also if it was resumed with another value before, and across a crash behind the resume.
        """
        self.needs(BackendCapability.RERUNS)
        execution, world = await stage.start(Resumed, "errand")
        open_all(world)
        process = await stage.worker(Resumed)
        interrupt = await stage.event(execution, EventKind.APPROVAL_REQUESTED)
        branches = {"original": execution}
        values = {"original": "Ann", "first": "Bob", "second": "Cid", "again": "Ann", "third": "Bob"}
        for branch, value in values.items():
            if branch != "original":
                branches[branch] = await execution.fork(at=interrupt.position, id=f"{execution.id} {branch}")
                open_all(worlds[branches[branch].id])
                await stage.event(branches[branch], EventKind.APPROVAL_REQUESTED)
            [waiting] = await stage.soon(branches[branch].pending())
            await branches[branch].decide(waiting.key, "allow", edited_arguments={"gate": value})
            await stage.soon(worlds[branches[branch].id].happened(f"{value} reached"))
        before = {branch: len(worlds[one.id].effects) for branch, one in branches.items()}
        await stage.lose(process)
        for branch, value in values.items():
            worlds[branches[branch].id].gate(value).set()
        await stage.worker(Resumed)
        for branch, value in values.items():
            one = branches[branch]
            outcome = await stage.soon(one.result())
            assert outcome == [f"{FIRST} done", f"{value} done", f"{LAST} done"], branch
            whats = {effect.what for effect in worlds[one.id].effects[before[branch] :]}
            expected = {f"{task} {how}" for task in (value, LAST) for how in ("reached", "passed")}
            assert whats == expected, branch
        assert world.count(f"{FIRST} passed") == 1

    async def test_resume_contract_cv_only_valid_states_are_durably_persisted(self, stage: Stage) -> None:
        """CV, checkpoint validity: what is not valid is refused aloud, and never becomes durable.

        These come and are not valid: a result that is not JSON, a result that does not fit its type, the
        arguments of a call, and the value of a resume. After each, what is durable replays, and a worker that
        knows nothing else goes on from it.
        """
        execution, world = await stage.start(Resumed, "invalid")
        open_all(world, but=("turn 2", "turn 3", "turn 4"))
        for turn, refusals in ((2, 2), (3, 3)):
            process = await stage.worker(Resumed)
            await self.arrive(stage, execution, f"asked {turn}")
            await stage.lose(process)
            events = [event.data async for event in execution.events(follow=False)]
            assert sum(isinstance(data, ToolFailedData) for data in events) == refusals
            world.gate(f"turn {turn}").set()
        process = await stage.worker(Resumed)
        await self.arrive(stage, execution, "interrupt")
        [waiting] = await stage.soon(execution.pending())
        before = [record.to_json() for record in await durable(execution)]
        with pytest.raises(InvalidArguments):
            await execution.decide(waiting.key, "allow", edited_arguments={"gate": 7})
        await stage.lose(process)
        assert [record.to_json() for record in await durable(execution)] == before
        process = await stage.worker(Resumed)
        assert list(await stage.soon(execution.pending())) == [waiting]
        await execution.decide(waiting.key, "allow")
        world.gate("turn 4").set()
        no_json, no_number, misfit, done = await stage.soon(execution.result())
        assert ("JSON" in no_json, "integer" in no_number, "gate" in misfit) == (True, True, True)
        assert done == f"{GATED} done"
        results = [one.result for one in await durable(execution) if isinstance(one, StepCompleted)]
        assert [one for one in results if isinstance(one, str)] == [f"{GATED} done"]
        assert (world.count("returned"), world.count("counted")) == (1, 1)
        assert world.attempts(f"{GATED} passed") == [1]

    async def test_resume_contract_co_the_gated_effect_happens_at_most_once_whoever_resumes_again(
        self, stage: Stage
    ) -> None:
        """CO, consume-once: one resume is consumed; any other changes nothing, also after the end."""
        execution, world = await stage.start(Resumed, "errand")
        open_all(world, but=(GATED,))
        process = await stage.worker(Resumed)
        await self.arrive(stage, execution, "interrupt")
        [waiting] = await stage.soon(execution.pending())
        await stage.lose(process)
        process = await stage.worker(Resumed)
        handles = [execution, await stage.again(execution), await stage.again(execution)]
        resumes = (one.decide(waiting.key, "allow") for one in handles)
        for refused in await asyncio.gather(*resumes, return_exceptions=True):
            assert refused is None or isinstance(refused, NotPending)
        await self.arrive(stage, execution, f"{GATED} reached")
        await self.resume_in_vain(execution, waiting.key, NotPending)
        await stage.lose(process)
        process = await stage.worker(Resumed)
        await self.resume_in_vain(execution, waiting.key, NotPending)
        world.gate(GATED).set()
        assert await stage.soon(execution.result()) == DONE
        ended = await stage.soon(transcript(execution))
        await self.resume_in_vain(execution, waiting.key, ExecutionAlreadyEnded)
        with suppress(ExecutionAlreadyEnded):
            assert not await execution.resume()
        again = await (await stage.backend()).start(Resumed, "errand", id=execution.id)
        await stage.soon(process.stop())
        await stage.worker(Resumed)
        await stage.pass_time(0.1)
        assert await stage.soon(again.result()) == DONE
        assert await stage.soon(transcript(execution)) == ended
        assert [kind for kind, _ in ended].count(EventKind.APPROVAL_GIVEN) == 1
        assert (world.attempts(f"{GATED} reached"), world.attempts(f"{GATED} passed")) == ([1, 2], [2])

    async def resume_in_vain(self, execution: Execution, key: str, error: type[Exception]) -> None:
        with pytest.raises(error):
            await execution.decide(key, "allow")

    @pytest.mark.parametrize("order", [(FIRST, LAST), (LAST, FIRST)])
    async def test_resume_contract_rd_equal_durable_states_are_recovered_by_equal_decisions(
        self, stage: Stage, order: tuple[str, str]
    ) -> None:
        """RD, recovery determinism: equal durable states are recovered by equal decisions.

        A decision is which steps are skipped, and which are made again.
        Two tasks run at once; one is durable when the worker dies. That state is recovered four times: twice
        where it is, and in two copies. The model gets the same, whichever result became durable first.
        """
        self.needs(BackendCapability.RERUNS)
        is_durable, in_doubt = order
        execution, world = await stage.start(Resumed, "parallel")
        open_all(world, but=(FIRST, LAST, "turn 2"))
        process = await stage.worker(Resumed)
        for task in order:
            await self.arrive(stage, execution, f"{task} reached")
        world.gate(is_durable).set()
        await stage.event(execution, EventKind.TOOL_RETURNED)
        await stage.lose(process)
        lines = await execution.export()
        recovered = []
        for recovery in (2, 3):
            since = len(world.effects)
            process = await stage.worker(Resumed)
            await stage.soon(world.happened(f"{in_doubt} reached", recovery))
            await stage.lose(process)
            recovered.append([one[:2] for one in begun(execution, since)])
        copies = [
            await (await stage.backend()).import_(lines, id=f"{execution.id} copy {number}")
            for number in (1, 2)
        ]
        for one in (execution, *copies):
            open_all(worlds[one.id])
        await stage.worker(Resumed)
        for copy in copies:
            await copy.resume()
        for one in (execution, *copies):
            assert await stage.soon(one.result()) == [f"{FIRST} done", f"{LAST} done"]
            assert results_in(asked[one.id][-1]) == [f"{FIRST} done", f"{LAST} done"]
        decisions = [begun(copy) for copy in copies]
        assert decisions[0] == decisions[1]
        recovered += [[one[:2] for one in begun(copy)] for copy in copies]
        assert [[what for what, _ in one] for one in recovered] == [[f"{in_doubt} reached"]] * 4
        assert all(one == recovered[0] for one in recovered)
        assert world.count(f"{is_durable} passed") == 1
