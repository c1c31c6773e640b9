"""One activity for many items."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from outlast.core.errors import DefinitionError
from outlast.runtime.definitions.activity import Activity

AT_ONCE = 100


class ExtraItemParams(BaseModel):
    """The argument of an activity that fetches an item, beside its place."""

    extra_params: Any | None = None


class GetItemFromIndexParams(ExtraItemParams):
    """The place of the item to fetch."""

    idx: int


async def execute_activities_in_parallel(
    activity: Callable[..., Awaitable[Any]],
    *,
    get_item_from_prev_item_activity: Callable[..., Awaitable[Any]] | None = None,
    get_item_from_index_activity: Callable[[GetItemFromIndexParams], Awaitable[Any]] | None = None,
    items: Sequence[Any] | None = None,
    n_items: int | None = None,
    max_concurrent_scheduled_tasks: int = AT_ONCE,
    max_concurrent_executions_per_worker: int = AT_ONCE,
    extra_params: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Run the activity for each item, and return the results in the order of the items.

    The items are given; or each is made from the one before, until None comes; or each is fetched by its
    place. An activity with several parameters gets the fields of an item, a mapping, by name. All of it is
    in the journal of this execution; `outlast.workflow.map` gives each item an execution of its own.
    `max_concurrent_executions_per_worker` has no effect: that is an option of a worker.

    Raises:
        DefinitionError: not exactly one of the three kinds of items is given, or one of the functions is not
            an activity.
    """
    if max_concurrent_scheduled_tasks < 1:
        raise DefinitionError("max_concurrent_scheduled_tasks must be 1 or more")
    run = _caller(activity)
    free = asyncio.Semaphore(max_concurrent_scheduled_tasks)

    async def one(item: Any) -> Any:
        async with free:
            return await run(item)

    async def fetched(index: int) -> Any:
        fetch = _checked(get_item_from_index_activity)
        async with free:
            return await run(await fetch(GetItemFromIndexParams(idx=index, extra_params=extra_params)))

    given = (items, get_item_from_prev_item_activity, get_item_from_index_activity)
    if sum(one is not None for one in given) != 1 or (given[2] is None) != (n_items is None):
        raise DefinitionError(
            "give one of items=, get_item_from_prev_item_activity=, or get_item_from_index_activity= with "
            "n_items="
        )
    async with asyncio.TaskGroup() as group:
        if items is not None:
            tasks = [group.create_task(one(item)) for item in items]
        elif n_items is not None:
            tasks = [group.create_task(fetched(index)) for index in range(n_items)]
        else:
            following, item = _checked(get_item_from_prev_item_activity), None
            tasks = []
            while (item := await following(item)) is not None:
                tasks.append(group.create_task(one(item)))
    return [task.result() for task in tasks]


def _checked(activity: Any) -> Activity[Any, Any]:
    if not isinstance(activity, Activity):
        raise DefinitionError(f"{activity!r} is not an activity; decorate it with @workflows.activity()")
    return activity


def _caller(activity: Any) -> Callable[[Any], Awaitable[Any]]:
    """Return the activity as a function of an item."""
    checked = _checked(activity)
    if len(checked.definition.signature.python.parameters) == 1:
        return lambda item: checked(item)
    return lambda item: checked(**item)
