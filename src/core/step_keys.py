"""The keys of an agent run's steps: which run, which turn, and the model's call, a summary, or a tool's call.

A key says what a step is, so what it says is not written down again beside it.
"""

from __future__ import annotations

from typing import NamedTuple

_MODEL = "model"
_SUMMARY = "summary"
_OURS = frozenset({_MODEL, _SUMMARY})
"""The text that the key of another step has in the place of a call's id."""
_ESCAPE = "~"


def run_key(place: str, within: str | None = None) -> str:
    """Return the key of the run that begins at that place of its execution.

    `within` is the key of the run that it is a part of.
    """
    own = f"run{place}"
    return own if within is None else f"{within}/{own}"


def is_run_within(run: str, key: str) -> bool:
    """Return whether `run` is the key of the run that has `key`, or of one within it."""
    return run == key or run.startswith(f"{key}/")


def is_within_another(run: str) -> bool:
    """Return whether the run with that key is a part of another one."""
    return "/" in run


def model_key(run: str, turn: int) -> str:
    """Return the place of a turn's model call in its execution."""
    return f"{run}/t{turn}/{_MODEL}"


def summary_key(run: str, turn: int) -> str:
    """Return the place, in its execution, of the summary that was made for a turn."""
    return f"{run}/t{turn}/{_SUMMARY}"


def call_key(run: str, turn: int, call_id: str) -> str:
    """Return the place of a tool call in its execution: another one for every id that a model may make up."""
    return f"{run}/t{turn}/{call_id}{_ESCAPE if call_id.rstrip(_ESCAPE) in _OURS else ''}"


class StepPlace(NamedTuple):
    """The parts of the key of a step of a run: the run, the turn and, of a tool call, the id of the call."""

    run: str
    turn: int
    call_id: str | None = None


def place_in(key: str) -> StepPlace:
    """Return what `key` was made of.

    Raises:
        ValueError: it is not the key of a step of a run.
    """
    run, _, rest = key.partition("/t")
    turn, _, step = rest.partition("/")
    if not turn.isdecimal() or not step:
        raise ValueError(f"{key!r} is not the key of a step of a run")
    if step in _OURS:
        return StepPlace(run, int(turn))
    call_id = step[: -len(_ESCAPE)] if step.rstrip(_ESCAPE) in _OURS else step
    return StepPlace(run, int(turn), call_id)
