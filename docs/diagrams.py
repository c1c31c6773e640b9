"""Draws the state diagrams of the docs from the tables that the machines obey: `python docs/diagrams.py`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from outlast.core.agent_run import Phase
from outlast.core.agent_transitions import TRANSITIONS
from outlast.core.workflow_machine import OPERATIONS, MachinePhase

PAGE = Path(__file__).parent / "agent-machine.md"

Move = tuple[str, str, str, str]
"""A phase, what comes, the outcome (empty where there is only one), and the next phase."""


def agent_moves() -> Iterator[Move]:
    """Yield the moves of the agent machine."""
    for phase, events in TRANSITIONS.items():
        for event, outcomes in events.items():
            for outcome, after in outcomes.items():
                yield phase, event.__name__, outcome if len(outcomes) > 1 else "", after


def workflow_moves() -> Iterator[Move]:
    """Yield the moves of the workflow machine."""
    for phase, operations in OPERATIONS.items():
        for operation, following in operations.items():
            for after in sorted(following):
                yield phase, operation, "", after


def diagram(start: str, phases: Iterable[str], moves: Iterable[Move]) -> str:
    """Return a mermaid state diagram; a phase that nothing leaves for another one is an end."""
    arrows: dict[tuple[str, str], dict[str, list[str]]] = {}
    for phase, what, outcome, after in moves:
        arrows.setdefault((phase, after), {}).setdefault(what, []).append(outcome)
    left = {phase for phase, after in arrows if phase != after}
    lines = ["stateDiagram-v2", f"    [*] --> {start}"]
    for (phase, after), outcomes in arrows.items():
        labels = [f"{what} ({', '.join(named)})" if any(named) else what for what, named in outcomes.items()]
        lines.append(f"    {phase} --> {after}: {'<br/>'.join(labels)}")
    lines += [f"    {phase} --> [*]" for phase in phases if phase not in left]
    return "\n".join(lines)


def diagrams() -> Mapping[str, str]:
    """Return every diagram by the name it has in the page."""
    return {
        "agent-machine": diagram(Phase.READY, Phase, agent_moves()),
        "workflow-machine": diagram(MachinePhase.REPLAYING, MachinePhase, workflow_moves()),
    }


def redrawn(page: str) -> str:
    """Return the page with every diagram as it must be now."""
    for name, drawing in diagrams().items():
        block = re.compile(rf"(<!-- {name}: .*? -->\n).*?(<!-- end -->)", re.DOTALL)
        if not block.search(page):
            raise SystemExit(f"the page has no place for the diagram {name!r}: put its comment back")
        page = block.sub(rf"\1```mermaid\n{drawing}\n```\n\2", page)
    return page


if __name__ == "__main__":
    PAGE.write_text(redrawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
