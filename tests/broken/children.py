"""Backends that break one promise about children each."""

from __future__ import annotations

import uuid
from typing import Any

from outlast.core.children import OpenChild
from outlast.core.records import ParentLink
from outlast.runtime.executions import execution_driver, step_attempts
from outlast.runtime.executions.children import Children
from tests.broken.broken_backend import BrokenBackend


def _any_id(self: OpenChild, parent: str, *, is_fork: bool) -> str:
    return self.id or uuid.uuid4().hex


class MakesChildrenUpIds(BrokenBackend):
    """The id of a child does not follow from its parent: a crash may start another one."""

    breaks = "a_child_is_an_execution"
    replaced = ((OpenChild, "id_in", _any_id),)


async def _is_any_child(self: Children, id: str, link: ParentLink) -> bool:
    return True


class AdoptsForeignExecutions(BrokenBackend):
    """An execution that has the id of a child is taken for it, whoever has started it."""

    breaks = "a_child_can_have_an_id"
    replaced = ((Children, "_is_child", _is_any_child),)


async def _leaves_all(self: Children) -> None:
    pass


class LeavesChildrenBehind(BrokenBackend):
    """Children do not end with their parent."""

    breaks = "a_child_ends_with_its_parent"
    replaced = ((Children, "leave", _leaves_all),)


async def _says_nothing(*_: Any) -> None:
    pass


class HidesTheEndsOfChildren(BrokenBackend):
    """A parent gets no word of the end of a child."""

    breaks = "a_parent_waits_for_its_child"
    replaced = ((execution_driver, "message_parent", _says_nothing),)


class SendsChildrenNothing(BrokenBackend):
    """The messages of a parent to its child get lost."""

    breaks = "a_parent_signals_and_cancels"
    replaced = ((step_attempts, "message_child", _says_nothing),)


def _stays(self: OpenChild) -> None:
    pass


class SharesChildrenWithForks(BrokenBackend):
    """A fork waits for the children of the original."""

    breaks = "a_fork_has_children"
    replaced = ((OpenChild, "begin_anew", _stays),)


class StartsNoOtherChild(BrokenBackend):
    """A retry of a parent gets the failure of the same child again."""

    breaks = "a_retry_of_a_parent"
    replaced = ((OpenChild, "lose", _stays),)
