"""The properties of one execution, a line for each: values are whole, and the terminal wraps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.text import Text

from outlast.cli.rendering.text import duration, local_time, printable, printable_lines
from outlast.ports.durability.execution import ExecutionDescription

_STATUS_STYLES = {
    "running": "cyan",
    "paused": "magenta",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "terminated": "red",
}


def properties_of(execution: ExecutionDescription) -> dict[str, Text]:
    """Return the properties by name; those that are not known are empty."""
    error = (execution.error or "") if execution.failure is None else execution.failure.traceback()
    if any(wait.text == error for wait in execution.waiting_for):
        error = ""  # It is the reason of a pause, which stands among the waits.
    return {
        "id": Text(printable(execution.id)),
        "workflow": Text(printable(execution.workflow)),
        "status": status_of(execution),
        "tags": Text(printable(tags_text(execution.tags))),
        "started": Text(local_time(execution.created_at)),
        "ended": Text("" if execution.ended_at is None else local_time(execution.ended_at)),
        "took": Text(took(execution)),
        # A message may have several lines, such as the differences from a journal, or a traceback.
        "error": Text(printable_lines(error)),
    }


def property_lines(properties: Mapping[str, Text]) -> Iterator[Text]:
    """Yield a line for each property that has a value; further lines of a value stand below its first."""
    shown = {name: value for name, value in properties.items() if value.plain}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        title = name
        for part in value.split("\n"):
            yield Text(f"{title:<{width}}  ", style="dim").append_text(part)
            title = ""


def status_of(execution: ExecutionDescription) -> Text:
    """Return the status in its colour."""
    if execution.held:
        return Text("held", style="bold red")
    return Text(execution.status, style=_STATUS_STYLES.get(execution.status, ""))


def tags_text(tags: Mapping[str, str]) -> str:
    """Return tags in a line."""
    return ", ".join(f"{name}={value}" for name, value in sorted(tags.items()))


def took(execution: ExecutionDescription) -> str:
    """Return the time from the start to the end, if it has ended."""
    if execution.ended_at is None:
        return ""
    return duration((execution.ended_at - execution.created_at).total_seconds())
