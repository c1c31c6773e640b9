"""The commands for what waits for a person: tool calls that need approval, and questions."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from outlast.cli.completing import completed_ids
from outlast.cli.negative_numbers import WithNumbers
from outlast.cli.opening import opened
from outlast.cli.options import BackendOption, IdArgument, JsonOption, user_name
from outlast.cli.rendering.documents import approval_json, question_json
from outlast.cli.rendering.text import printable
from outlast.core.approvals import Verdict
from outlast.core.json import JSON, decode, encode
from outlast.ports.durability.pending import PeopleInbox, inbox_of

app = typer.Typer(rich_markup_mode=None)

CallArgument = Annotated[
    str, typer.Argument(metavar="CALL", help="The call's id or key, as `pending` shows it.")
]
ByOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Who decides, kept with the decision (default: your user name).",
        show_default=False,
    ),
]


@app.command()
def pending(
    id: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="The execution's id; by default all open executions.",
            autocompletion=completed_ids,
        ),
    ] = None,
    backend: BackendOption = None,
    json: JsonOption = False,
) -> None:
    """List the calls that wait for a decision, and the questions."""

    async def listed() -> None:
        async with opened(backend) as place:
            if id is None:
                inbox = await inbox_of(place)
            else:
                execution = await place.get(id)
                calls = tuple((id, approval) for approval in await execution.pending())
                questions = tuple((id, question) for question in await execution.questions())
                inbox = PeopleInbox(calls, questions, is_all=True)
        if json:
            for owner, approval in inbox.calls:
                typer.echo(approval_json(owner, approval))
            for owner, question in inbox.questions:
                typer.echo(question_json(owner, question))
            return
        from outlast.cli.rendering import console, tables

        if inbox.calls:
            console.print_table(tables.approvals_table(inbox.calls, of_one=id is not None))
        if inbox.questions:
            console.print_table(tables.questions_table(inbox.questions, of_one=id is not None))
        if not inbox.calls and not inbox.questions:
            typer.echo("no call waits for a decision, and no question for an answer", err=True)

    asyncio.run(listed())


@app.command()
def allow(
    id: IdArgument,
    call: CallArgument,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The reason, kept with the decision.")
    ] = None,
    arguments: Annotated[
        str | None, typer.Option(metavar="JSON", help="Make the call with these arguments instead.")
    ] = None,
    by: ByOption = None,
    backend: BackendOption = None,
) -> None:
    """Allow a tool call that waits for a decision."""
    try:
        edited = None if arguments is None else _object(arguments)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--arguments") from error
    asyncio.run(_decide(backend, id, call, "allow", reason, edited, by))


@app.command()
def deny(
    id: IdArgument,
    call: CallArgument,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The model gets it as the result of the call.")
    ] = None,
    by: ByOption = None,
    backend: BackendOption = None,
) -> None:
    """Deny a tool call that waits for a decision.

    The model gets the reason as the result of the call.
    """
    asyncio.run(_decide(backend, id, call, "deny", reason, None, by))


async def _decide(
    backend: str | None,
    id: str,
    call: str,
    verdict: Verdict,
    reason: str | None,
    edited_arguments: dict[str, JSON] | None,
    by: str | None,
) -> None:
    async with opened(backend) as place:
        execution = await place.get(id)
        known = {name: one for one in await execution.pending() for name in (one.call_id, one.key)}
        await execution.decide(call, verdict, reason, edited_arguments=edited_arguments, by=by or user_name())
    decided = known.get(call)
    what = "the call" if decided is None else f"{decided.tool} (call {decided.call_id})"
    done = "allowed" if verdict == "allow" else "denied"
    changed = "" if edited_arguments is None else f" with the arguments {encode(edited_arguments).decode()}"
    because = "" if reason is None else f": {reason}"
    typer.echo(printable(f"{done} {what} of execution {id}{changed}{because}"))


def _object(text: str) -> dict[str, JSON]:
    value = decode(text)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


@app.command(cls=WithNumbers)
def answer(
    id: IdArgument,
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help="The question's key, as `pending` shows it.")
    ],
    value: Annotated[str, typer.Argument(metavar="JSON", help="The answer; a text may be given as it is.")],
    by: ByOption = None,
    backend: BackendOption = None,
) -> None:
    """Answer a question that waits for an answer.

    A worker must be there to take the answer.
    """

    async def answered() -> None:
        async with opened(backend) as place:
            execution = await place.get(id)
            asked = [one for one in await execution.questions() if one.key == question]
            is_text = any(one.answer_schema.get("type") == "string" for one in asked)
            await execution.answer(question, value if is_text else _json(value), by=by or user_name())

    asyncio.run(answered())
    typer.echo(f"answered {question}")


def _json(value: str) -> JSON:
    """Return the JSON that the value is, or the value itself, as a text."""
    try:
        given: JSON = decode(value.encode())
    except ValueError:
        return value
    return given
