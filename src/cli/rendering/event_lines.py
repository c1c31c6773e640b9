"""The events of an execution as lines, which a reader can print as they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from rich.text import Text

from outlast.cli.rendering.sentences import AGENT_LENGTH, agent_of, sentence_of
from outlast.cli.rendering.text import LENGTH, duration
from outlast.core import events
from outlast.core.event_stream import Event
from outlast.core.timeline import Begins, Ends, edge_of
from outlast.core.usage import usage_in

PREFIX_LENGTH = 4 + 2 + len("07:00:00.500") + 2 + AGENT_LENGTH + 2
"""The part of a line before the text of its event."""

_KIND_STYLES = {"failed": "red", "cancelled": "yellow", "recovered": "bold yellow", "completed": "green"}


@dataclass(slots=True)
class EventLines:
    """Turns events into lines: with the durations of what has ended, tokens and costs of replies, new dates.

    Where agents run side by side, each line of a run has the number of its run.
    """

    length: int | None = LENGTH
    """The length of the text of an event; None leaves it whole."""
    _today: date | None = None
    _begun: dict[str, Event] = field(default_factory=dict)
    _runs: dict[str, int] = field(default_factory=dict)

    def lines(self, event: Event) -> Iterator[Text]:
        """Yield the line of an event, after the date if it is another one than that of the event before."""
        at = event.at.astimezone()
        if self._today is not None and at.date() != self._today:
            yield Text(f"      {at:%Y-%m-%d}", style="dim")
        self._today = at.date()
        line = Text(f"{event.position:>4}  ")
        line.append(at.strftime("%H:%M:%S.%f")[:-3], style="dim")
        line.append("  ")
        yield line.append_text(agent_and_event(event, self.length, self._label(event), self._after(event)))

    def open(self, now: datetime) -> Iterator[str]:
        """Yield what has begun and not ended: calls, steps and timers, with the times since then.

        A timer of a wait that is over is not among them once it is due. Before, the events do not show that.
        """
        for event in self._begun.values():
            text = sentence_of(event, self.length)
            if not isinstance(event.data, events.TimerStartedData):
                yield f"{text}, {duration((now - event.at).total_seconds())} ago"
            elif event.data.due_at > now.timestamp():
                yield text

    def _label(self, event: Event) -> str:
        run = getattr(event.data, "run", None)
        if not isinstance(run, str):
            return ""
        number = self._runs.setdefault(run, len(self._runs) + 1)
        return f"run {number}: " if len(self._runs) > 1 else ""

    def _after(self, event: Event) -> list[str]:
        """Return the time that has passed since what ends here began, and the tokens and money it took."""
        after = []
        match edge_of(event.data):
            case Begins(key):
                self._begun[key] = event
            case Ends(key) if (began := self._begun.pop(key, None)) is not None:
                after.append(duration((event.at - began.at).total_seconds()))
            case _:
                pass
        if isinstance(event.data, events.ExecutionReopenedData):
            valid = event.data.valid
            # A step that was open is tried anew; nothing was done since the execution had ended.
            self._begun = {
                span: replace(begun, at=event.at) if span.startswith("step ") else begun
                for span, begun in self._begun.items()
                if begun.position <= valid
            }
        if isinstance(event.data, events.ReplyData):
            usage = usage_in(event.data.result)
            after += [f"{usage.total_tokens:,} tokens"] if usage.total_tokens else []
            after += [usage.cost_in_words] if usage.cost_in_words else []
        return after


def agent_and_event(
    event: Event, length: int | None = LENGTH, label: str = "", after: list[str] | None = None
) -> Text:
    """Return the agent that an event is about, in a column, and the text of the event."""
    line = Text()
    line.append(
        f"{agent_of(event, None if length is None else AGENT_LENGTH):<{AGENT_LENGTH}}  ", style="magenta"
    )
    line.append(label, style="dim")
    room = None if length is None else length - len(label)
    style = _KIND_STYLES.get(event.kind.rpartition("_")[2], "")
    return line.append(sentence_of(event, room, after=after or ()), style=style)
