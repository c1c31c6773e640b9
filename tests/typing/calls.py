"""Starting executions, and sending them messages, by method, by class and by name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

import outlast
from outlast import Backend, Execution, workflow


@workflow.define(name="typing.deal")
class Deal:
    @workflow.entrypoint
    async def run(self, company: str, pages: int = 10, *, deep: bool = False) -> str:
        return company

    @workflow.signal
    def decide(self, verdict: str, by: str = "") -> None: ...

    @workflow.signal("later")
    async def decide_later(self, after: timedelta) -> None: ...

    @workflow.query
    def decided(self, in_detail: bool = False) -> dict[str, int]:
        return {}

    @workflow.update
    async def add_page(self, text: str, count: int = 1) -> float:
        return 1.0

    @add_page.validator
    def check_page(self, text: str, count: int = 1) -> None: ...

    @workflow.update("remove")
    def remove_page(self, number: int) -> bool:
        return True


@workflow.define(name="typing.idle")
class Idle:
    @workflow.entrypoint
    async def run(self) -> list[int]:
        return []


class Support(outlast.AgentWorkflow):
    agent = outlast.Agent(model="m", name="a")


async def by_method(backend: Backend) -> None:
    execution = await backend.start(Deal.run, "ACME")
    assert_type(execution, Execution[str])
    assert_type(await execution.result(), str)
    assert_type(await backend.start(Deal.run, "ACME", 20), Execution[str])
    assert_type(await backend.start(Deal.run, "ACME", pages=20, deep=True), Execution[str])
    assert_type(await backend.start(Deal.run, company="ACME"), Execution[str])
    assert_type(await backend.start(Deal.run, "ACME", id="deal-7"), Execution[str])
    assert_type(await backend.start(Deal.run, "ACME", 20, id="deal-7", tags={"a": "b"}), Execution[str])
    assert_type(await backend.start(Idle.run), Execution[list[int]])
    assert_type(await backend.start(Idle.run, task_queue="slow"), Execution[list[int]])
    assert_type(await backend.start(Support.run), Execution[dict[str, Any]])
    assert_type(await outlast.execute_workflow(Deal.run, "ACME", id="deal-7", backend=backend), str)
    assert_type(await outlast.execute_workflow(Idle.run), list[int])

    await execution.signal(Deal.decide, "buy")
    await execution.signal(Deal.decide, "buy", by="Ann")
    await execution.signal(Deal.decide_later, timedelta(days=1))
    assert_type(await execution.query(Deal.decided), dict[str, int])
    assert_type(await execution.query(Deal.decided, in_detail=True), dict[str, int])
    assert_type(await execution.update(Deal.add_page, "text"), float)
    assert_type(await execution.update(Deal.add_page, "text", count=2), float)
    assert_type(await execution.update(Deal.add_page, "text", 2, id="page-2"), float)
    assert_type(await execution.update(Deal.remove_page, 2), bool)
    assert_type(await execution.update(Deal.remove_page, 2, id="page-2"), bool)


async def by_class_or_name(backend: Backend, execution: Execution) -> None:
    assert_type(await backend.start(Deal, "ACME", deep=True, id="deal-7"), Execution[Any])
    assert_type(await backend.start("typing.deal", "ACME", deep=True, id="deal-7"), Execution[Any])
    assert_type(await backend.get("deal-7"), Execution[Any])
    assert_type(await outlast.execute_workflow(Deal, "ACME"), Any)
    assert_type(await execution.result(), Any)
    await execution.signal("decide", "buy", by="Ann")
    assert_type(await execution.query("decided"), Any)
    assert_type(await execution.update("add_page", "text", count=2, id="page-2"), Any)


async def handles(backend: Backend) -> None:
    known: Execution[str] = await backend.get("deal-7")
    wider: Execution[str | None] = known
    plain: Execution = wider
    assert_type(await known.result(), str)
    assert_type(plain, Execution[Any])


async def mistakes(backend: Backend, execution: Execution[str]) -> None:
    await backend.start(Deal.run)  # type: ignore[arg-type, call-arg]
    await backend.start(Deal.run, 7)  # type: ignore[arg-type]
    await backend.start(Deal.run, "ACME", "20", id="a")  # type: ignore[arg-type, call-arg]
    await backend.start(Idle.run, "ACME")  # type: ignore[arg-type]
    await backend.start(Deal.run, "ACME", colour="red")  # type: ignore[call-arg]
    await execution.signal(Deal.decide)  # type: ignore[call-overload]
    await execution.signal(Deal.decide, 7)  # type: ignore[call-overload]
    await execution.query(Deal.decided, in_detail="no")  # type: ignore[call-overload]
    await execution.update(Deal.add_page, 7)  # type: ignore[call-overload]
    await execution.update(Deal.remove_page, "7", id="a")  # type: ignore[arg-type, call-arg]
    number: int = await execution.result()  # type: ignore[assignment]
    other: Execution[int] = execution  # type: ignore[assignment]
    print(number, other)


@workflow.define
class Bare:
    @workflow.entrypoint()
    async def run(self, number: int) -> str:
        return str(number)

    @workflow.update(name="double")
    def double_it(self, number: int) -> int:
        return 2 * number


async def without_parentheses(backend: Backend) -> None:
    execution = await backend.start(Bare.run, 3)
    assert_type(await execution.result(), str)
    assert_type(await execution.update(Bare.double_it, 3), int)
