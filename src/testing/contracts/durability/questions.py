"""Questions to people: they wait across crashes, are answered once, and only by an answer of their type."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, cast

import pytest
from pydantic import BaseModel, Field

from outlast.adapters.scripted import ScriptedSession, call, say
from outlast.composition.running import Runner
from outlast.core.entries import FunctionResult
from outlast.core.errors import ExecutionAlreadyEnded, ExecutionCancelled, InvalidArguments, NotPending
from outlast.core.events import EventKind, QuestionAnsweredData, QuestionWithdrawnData
from outlast.core.json import JSON
from outlast.core.questions import PendingQuestion
from outlast.core.waiting import WaitingKind
from outlast.ports.durability.execution import Execution
from outlast.runtime.definitions import workflow
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.definitions.ask_person import AskPerson
from outlast.testing.contracts.durability.stage import DurabilityContractBase, Stage, all_events, data_of
from outlast.testing.contracts.durability.storage import BackendCapability

PATIENCE = timedelta(hours=2)


@dataclass
class Account:
    """A bank account."""

    number: int
    kind: Literal["giro", "deposit"] = "giro"


@workflow.define(name="contract.curious")
class Curious:
    """Asks for an account, then two people at once, one of whom has some time."""

    @workflow.entrypoint
    async def run(self) -> list[Any]:
        account = await workflow.ask("Which account?", Account, to="ops")
        both = await asyncio.gather(workflow.ask("Why?"), self._in_time())
        return [account.number, account.kind, *both]

    async def _in_time(self) -> str:
        try:
            return f"{await workflow.ask('How many?', int, timeout=PATIENCE)} of them"
        except TimeoutError:
            return "nobody knows"


class Sum(BaseModel):
    """An amount whose field has another name in JSON."""

    cents: int = Field(alias="amount")


@workflow.define(name="contract.exact")
class Exact:
    """Asks three questions of different types, one after the other."""

    @workflow.entrypoint
    async def run(self) -> list[Any]:
        sure = await workflow.ask("Delete it all?", bool)
        number = await workflow.ask("How many?", int)
        return [sure, number, (await workflow.ask("How much?", Sum)).cents]


@workflow.define(name="contract.modest")
class Modest:
    """Runs an agent that asks a person."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        asking = call("ask_person", {"question": "May I?"})
        agent = Agent(model="m", name="modest", tools=[AskPerson("boss", timeout=PATIENCE)])
        result = await Runner.run(agent, "Go.", ScriptedSession({"modest": [asking, asking, say("Done.")]}))
        return [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]


@workflow.define(name="contract.form_filling")
class FormFilling:
    """Runs an agent that asks a person for an account."""

    @workflow.entrypoint
    async def run(self) -> list[str]:
        asking = call("ask_person", {"question": "Which account?"})
        agent = Agent(model="m", name="clerk", tools=[AskPerson(answer=Account)])
        result = await Runner.run(agent, "Go.", ScriptedSession({"clerk": [asking, say("Done.")]}))
        return [entry.result for entry in result.entries if isinstance(entry, FunctionResult)]


class QuestionContract(DurabilityContractBase):
    """Questions to people."""

    async def open_questions(self, stage: Stage, execution: Execution, number: int) -> list[PendingQuestion]:
        """Return the questions that wait, once that number of questions was asked."""
        await stage.event(execution, EventKind.QUESTION_ASKED, number)
        return list(await stage.soon(execution.questions()))

    async def test_a_question_waits_across_crashes_and_its_answer_is_typed(self, stage: Stage) -> None:
        execution, _ = await stage.start(Curious)
        process = await stage.worker(Curious)
        [question] = await self.open_questions(stage, execution, 1)
        assert (question.question, question.to) == ("Which account?", "ops")
        properties: Any = question.answer_schema["properties"]
        assert list(properties) == ["number", "kind"]
        await stage.lose(process)
        process = await stage.worker(Curious)
        assert await stage.soon((await stage.again(execution)).questions()) == (question,)
        await stage.soon(execution.answer(question.key, {"number": 7}, by="Ann"))
        why, many = await self.open_questions(stage, execution, 3)
        await stage.soon(execution.answer(many.key, 3))
        await stage.lose(process)
        await stage.worker(Curious)
        assert await stage.later(execution.questions(), 1) == (why,)
        await stage.later(execution.answer(why.key, "Because."), 1)
        assert await stage.later(execution.result(), 1) == [7, "giro", "Because.", "3 of them"]
        answered = data_of(await stage.soon(all_events(execution)), QuestionAnsweredData)
        assert [(data.answer, data.by) for data in answered] == [
            ({"number": 7}, "Ann"),
            (3, None),
            ("Because.", None),
        ]

    async def test_a_wrong_or_late_answer_is_refused_and_the_question_stays(self, stage: Stage) -> None:
        execution, _ = await stage.start(Curious)
        await stage.worker(Curious)
        [question] = await self.open_questions(stage, execution, 1)
        with pytest.raises(InvalidArguments, match="number"):
            await stage.soon(execution.answer(question.key, {"number": "seven", "kind": "other"}))
        with pytest.raises(NotPending, match="another"):
            await stage.soon(execution.answer("another", {"number": 7}))
        assert await stage.soon(execution.questions()) == (question,)
        await stage.soon(execution.answer(question.key, {"number": 7}))
        with pytest.raises(NotPending):
            await stage.soon(execution.answer(question.key, {"number": 8}))
        for open_question in await self.open_questions(stage, execution, 3):
            answer: Any = 1 if open_question.question == "How many?" else "So."
            await stage.soon(execution.answer(open_question.key, answer))
        assert await stage.soon(execution.result()) == [7, "giro", "So.", "1 of them"]
        with pytest.raises(ExecutionAlreadyEnded):
            await stage.soon(execution.answer(question.key, {"number": 8}))

    async def test_an_answer_is_taken_as_its_schema_says_and_nothing_is_converted(self, stage: Stage) -> None:
        execution, _ = await stage.start(Exact)
        await stage.worker(Exact)
        answers: list[tuple[JSON, list[JSON]]] = [
            (False, ["on", "true", 1, 0, None]),
            (3, [True, "3", 3.5]),
            ({"amount": 5}, [{"cents": 5}, {"amount": "5"}]),
        ]
        for number, (right, wrong) in enumerate(answers, start=1):
            [question] = await self.open_questions(stage, execution, number)
            for answer in wrong:
                with pytest.raises(InvalidArguments):
                    await stage.soon(execution.answer(question.key, answer))
            await stage.soon(execution.answer(question.key, right))
        assert await stage.soon(execution.result()) == [False, 3, 5]
        answered = data_of(await stage.soon(all_events(execution)), QuestionAnsweredData)
        assert [data.answer for data in answered] == [right for right, _ in answers]

    async def test_of_many_answers_at_once_one_counts(self, stage: Stage) -> None:
        execution, _ = await stage.start(Curious)
        await stage.worker(Curious)
        [question] = await self.open_questions(stage, execution, 1)

        async def answered(number: int) -> int | None:
            try:
                await execution.answer(question.key, {"number": number})
            except NotPending:
                return None
            return number

        told = await stage.soon(asyncio.gather(*(answered(number) for number in range(5))))
        [counted] = [number for number in told if number is not None]
        await stage.event(execution, EventKind.QUESTION_ANSWERED)
        [event] = data_of([e async for e in execution.events(follow=False)], QuestionAnsweredData)
        assert event.answer == {"number": counted}

    async def test_a_question_that_nobody_answers_in_time_is_withdrawn(self, stage: Stage) -> None:
        self.needs(BackendCapability.MOVABLE_CLOCK)
        execution, _ = await stage.start(Curious)
        await stage.worker(Curious)
        [question] = await self.open_questions(stage, execution, 1)
        await stage.soon(execution.answer(question.key, {"number": 7, "kind": "deposit"}))
        why, many = await self.open_questions(stage, execution, 3)
        await stage.pass_time(PATIENCE.total_seconds() + 1)
        await stage.event(execution, EventKind.QUESTION_WITHDRAWN)
        with pytest.raises(NotPending):
            await stage.soon(execution.answer(many.key, 3))
        await stage.soon(execution.answer(why.key, "So."))
        assert await stage.soon(execution.result()) == [7, "deposit", "So.", "nobody knows"]

    async def test_an_agent_asks_a_person_and_its_model_gets_the_answer(self, stage: Stage) -> None:
        self.needs(BackendCapability.MOVABLE_CLOCK)
        execution, _ = await stage.start(Modest)
        process = await stage.worker(Modest)
        [question] = await self.open_questions(stage, execution, 1)
        assert (question.question, question.to) == ("May I?", "boss")
        await stage.soon(execution.answer(question.key, "You may."))
        await stage.event(execution, EventKind.QUESTION_ASKED, 2)
        await stage.lose(process)
        await stage.worker(Modest)
        await stage.pass_time(PATIENCE.total_seconds() + 1)
        granted, unheard = await stage.later(execution.result(), 5)
        assert granted == "You may."
        assert "TimeoutError" in unheard

    async def test_an_agent_asks_a_person_for_a_value_of_a_type(self, stage: Stage) -> None:
        execution, _ = await stage.start(FormFilling)
        await stage.worker(FormFilling)
        [question] = await self.open_questions(stage, execution, 1)
        assert list(cast(Any, question.answer_schema)["properties"]) == ["number", "kind"]
        with pytest.raises(InvalidArguments):
            await stage.soon(execution.answer(question.key, {"number": "seven"}))
        await stage.soon(execution.answer(question.key, {"number": 7}))
        [result] = await stage.soon(execution.result())
        assert json.loads(result) == {"number": 7, "kind": "giro"}

    async def test_d10_a_question_is_withdrawn_when_its_execution_is_cancelled(self, stage: Stage) -> None:
        execution, _ = await stage.start(Curious)
        await stage.worker(Curious)
        [question] = await self.open_questions(stage, execution, 1)
        described = await stage.soon(execution.describe())
        if described.waiting_for:
            assert described.waiting_for[0].kind is WaitingKind.ANSWER
            assert described.waiting_for[0].step == question.key
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await stage.soon(execution.result())
        withdrawn = data_of(await stage.soon(all_events(execution)), QuestionWithdrawnData)
        assert [data.key for data in withdrawn] == [question.key]
        assert await stage.soon(execution.questions()) == ()
