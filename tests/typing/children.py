"""Children, by method, by class and by name."""

from __future__ import annotations

from typing import Any, assert_type

from outlast import workflow


@workflow.define(name="typing.research")
class Research:
    @workflow.entrypoint
    async def run(self, subject: str, depth: int = 1) -> list[str]:
        return [subject]

    @workflow.signal
    def hurry(self, by: str) -> None: ...


async def by_method(subjects: list[str]) -> None:
    child = await workflow.start_child(Research.run, "tides", on_parent_end="abandon")
    assert_type(await child.result(), list[str])
    await child.signal(Research.hurry, by="Ann")
    assert_type(await workflow.execute_child(Research.run, "tides", depth=2), list[str])
    assert_type(await workflow.execute_child(Research.run, "tides", 2, id="tides"), list[str])
    assert_type(await workflow.map(Research.run, subjects, at_once=5), list[list[str]])


async def by_class_or_name(subjects: list[str]) -> None:
    child = await workflow.start_child(Research, "tides", depth=2, id="tides")
    assert_type(await child.result(), Any)
    await child.signal("hurry", by="Ann")
    assert_type(await workflow.execute_child("typing.research", "tides"), Any)
    assert_type(await workflow.map(Research, subjects), list[Any])


async def mistakes(child: workflow.ChildHandle[list[str]], numbers: list[int]) -> None:
    await workflow.start_child(Research.run, 7)  # type: ignore[arg-type]
    await child.signal(Research.hurry, 7)  # type: ignore[call-overload]
    await workflow.execute_child(Research.run, "tides", "deep", id="a")  # type: ignore[arg-type, call-arg]
    await workflow.map(Research.run, numbers)  # type: ignore[arg-type]
    await workflow.start_child(Research.run, "tides", on_parent_end="wait")  # type: ignore[call-arg]
