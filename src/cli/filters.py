"""The options by which commands find executions; they are the same for every command that has them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from inspect import Parameter
from typing import Annotated, Any, get_type_hints

import typer

from outlast.cli.ages import age_of
from outlast.core.records import Status
from outlast.core.waiting import WaitingKind
from outlast.ports.durability.backend import Backend, every_execution
from outlast.ports.durability.execution import ExecutionDescription
from outlast.ports.finding import Where

ANY = tuple(Status)
OPEN = (Status.RUNNING, Status.PAUSED)


@dataclass(frozen=True, slots=True)
class Filters:
    """A filter for executions: all of it must hold. Each field is an option, of the same name."""

    workflow: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only executions of this workflow.")
    ] = None
    status: Annotated[Status | None, typer.Option(help="Only executions with this status.")] = None
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only executions with this tag; can be given again."),
    ] = None
    id_prefix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only executions whose id begins with this.")
    ] = None
    created_after: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only executions created then or later: 2026-11-29T10:00, or 2h for 2 hours ago.",
        ),
    ] = None
    created_before: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only executions created earlier than that.")
    ] = None
    waiting_for: Annotated[
        WaitingKind | None, typer.Option(help="Only executions that wait for this before all.")
    ] = None

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the options."""
        return [one.name for one in fields(Filters)]

    def where(self) -> Where:
        """Return the filter that the options mean."""
        return Where(
            workflow=self.workflow,
            status=self.status,
            tags=tags_of("--tag", self.tag),
            id_prefix=self.id_prefix,
            created_after=_time("--created-after", self.created_after),
            created_before=_time("--created-before", self.created_before),
            waiting_for=self.waiting_for,
        )

    def found(self, place: Backend, limit: int | None = None) -> AsyncIterator[ExecutionDescription]:
        """Yield the executions for which this holds, the newest first, at most `limit`."""
        return every_execution(place, self.where(), limit=limit)

    async def found_among(self, place: Backend, statuses: tuple[Status, ...]) -> list[ExecutionDescription]:
        """Return the executions for which this holds, with one of these statuses, the newest first."""
        if self.status is not None or statuses == ANY:
            is_possible = self.status is None or self.status in statuses
            return [one async for one in self.found(place)] if is_possible else []
        found: dict[str, ExecutionDescription] = {}  # One may change its status while they are read.
        for status in statuses:
            found |= {one.id: one async for one in replace(self, status=status).found(place)}
        return sorted(found.values(), key=lambda one: (one.created_at, one.id), reverse=True)


def bundled(options: type[Any], name: str) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Return a decorator that gives a command an option for each field of a dataclass.

    The command gets one instance, as its parameter `name`, in place of the options. They stand where that
    parameter stands.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters = [
            one.replace(annotation=hints[one.name], kind=Parameter.KEYWORD_ONLY)
            for one in inspect.signature(command).parameters.values()
            if one.name != name
        ]
        position = [*inspect.signature(command).parameters].index(name)
        parameters[position:position] = _parameters_of(options)

        @functools.wraps(command)
        def called(**given: Any) -> None:
            values = {one.name: given.pop(one.name) for one in fields(options)}
            command(**given, **{name: options(**values)})

        del called.__wrapped__  # typer would follow it to the parameters of the command itself
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect
        called.__annotations__ = {one.name: one.annotation for one in parameters}
        return called

    return decorate


def _parameters_of(options: type[Any]) -> Iterator[Parameter]:
    hints = get_type_hints(options, include_extras=True)
    for one in fields(options):
        yield Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=hints[one.name])


def tags_of(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """Return the tags that are given as NAME=VALUE."""
    tags: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=option)
        if name in tags:
            raise typer.BadParameter(f"tag {name!r} is given twice", param_hint=option)
        tags[name] = value
    return tags


def _time(option: str, text: str | None) -> datetime | None:
    """Return the time that a text means: a date with or without a time of day, or an age."""
    if text is None:
        return None
    age = age_of(text)
    if age is not None:
        return datetime.now(UTC) - age
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a time: write one like 2026-11-29T10:00, or an age like 2h", param_hint=option
        ) from error
