"""The proof: the journal, compared with the side effects that really happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from outlast.cli.demo.effects import DemoEffect
from outlast.cli.rendering.sentences import agent_of
from outlast.core.event_stream import Event
from outlast.core.events import (
    AttemptFailedData,
    EventKind,
    MadeCallData,
    ModelCallData,
    ModelRepliedData,
    ToolCalledData,
    ToolReturnedData,
    TurnStartedData,
)


@dataclass(frozen=True, slots=True)
class StepProof:
    """One step, with the numbers of its results in the journal, its attempts and its side effects."""

    name: str
    agent: str
    journaled: int
    attempts: int
    effects: int | None
    """None for a model call, which does not write to the file."""
    processes: Sequence[str]

    @property
    def holds(self) -> bool:
        return self.journaled == 1 and self.effects in (1, None)


@dataclass(frozen=True, slots=True)
class Proof:
    """The facts that must be true after the demonstration; `problems` lists those that are not."""

    steps: Sequence[StepProof]
    problems: Sequence[str]
    questions: int | None
    """The number of questions that the model answered, if that is known."""

    @property
    def conclusions(self) -> list[str]:
        """Return the conclusions that hold if there are no problems, a line each."""
        tools = sum(step.effects is not None for step in self.steps)
        lines = [f"Proven: {tools} tools were called and had {tools} effects; none ran twice, none was lost."]
        if self.questions is not None:
            lines.append(
                f"The model answered {self.questions} questions, none twice: what it had answered when the "
                "first worker died was found in the conversation."
            )
        return lines

    @classmethod
    def of(
        cls,
        execution_id: str,
        events: Sequence[Event],
        effects: Sequence[DemoEffect],
        processes: Mapping[int, str],
        questions: Counter[tuple[str | None, int]] | None,
    ) -> Proof:
        """Compare the events of an execution that has ended with the side effects.

        `processes` names the two workers by process id, the killed one first; `questions` has the number of
        times that each question was asked, if that is known.
        """
        steps = _steps(execution_id, events, effects, processes)
        left = Counter(effect.idempotency_key for effect in effects)
        known = {f"{execution_id}/{_key(event)}" for event in events}
        kinds = [event.kind for event in events]
        problems = [f"{step.name} did not happen exactly once" for step in steps if not step.holds]
        problems += [f"an effect of {key} is not in the journal" for key in left if key not in known]
        problems += [
            f"{agent} was asked the same {times} times"
            for (agent, _), times in (questions or {}).items()
            if times > 1
        ]
        if kinds[-1] is not EventKind.EXECUTION_COMPLETED:
            problems.append("the analysis did not come to its end")
        if EventKind.EXECUTION_RECOVERED not in kinds:
            problems.append("nobody had to take over: the worker was not killed in time")
        return cls(steps, problems, None if questions is None else questions.total())

    def table(self) -> Table:
        """Return the steps as a table."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("step", "agent", "in the journal", "attempts", "effects", "by"):
            table.add_column(title, no_wrap=True)
        for step in self.steps:
            style = "" if step.attempts == 1 else "yellow"
            table.add_row(
                Text(step.name, style=style),
                step.agent,
                Text(_times(step.journaled), style="green" if step.journaled == 1 else "red"),
                Text(str(step.attempts), style=style),
                Text(_times(step.effects), style="green" if step.holds else "red"),
                ", then ".join(step.processes),
            )
        return table


def _steps(
    execution_id: str, events: Sequence[Event], effects: Sequence[DemoEffect], processes: Mapping[int, str]
) -> list[StepProof]:
    recoveries = [event.position for event in events if event.kind is EventKind.EXECUTION_RECOVERED]
    recovered_at = recoveries[-1] if recoveries else events[-1].position
    first, *others = processes.values()
    steps = []
    for begun in events:
        key = _key(begun)
        # A call that does not fit its tool is answered without being made, and so without a key.
        if key is None or not isinstance(begun.data, (TurnStartedData, ToolCalledData)):
            continue
        of_step = [event for event in events if _key(event) == key]
        ends = [event for event in of_step if isinstance(event.data, (ModelRepliedData, ToolReturnedData))]
        failed = sum(event.kind is EventKind.ATTEMPT_FAILED for event in of_step)
        # An attempt that was lost with its worker has no record; the next worker's recovery stands for it.
        was_cut = begun.position < recovered_at and all(end.position > recovered_at for end in ends)
        tool = begun.data.tool if isinstance(begun.data, ToolCalledData) else None
        own = [effect for effect in effects if effect.idempotency_key == f"{execution_id}/{key}"]
        by = [first] if begun.position < recovered_at else []
        by += others if not ends or ends[-1].position > recovered_at else []
        steps.append(
            StepProof(
                name=tool or f"model, turn {begun.data.turn}",
                agent=agent_of(begun),
                journaled=len(ends),
                attempts=1 + failed + was_cut,
                effects=len(own) if tool else None,
                processes=[processes.get(effect.process, "?") for effect in own] if tool else by,
            )
        )
    return steps


def _key(event: Event) -> str | None:
    """Return the key of the step in a run that an event is about, if there is one."""
    match event.data:
        case ModelCallData(key=key) | MadeCallData(key=key) | AttemptFailedData(key=key):
            return key
        case _:
            return None


def _times(count: int | None) -> str:
    match count:
        case None:
            return "-"
        case 1:
            return "once"
        case _:
            return f"{count} times"
