"""Checking the edits of a fork against the types of what they replace, as far as this process knows these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from outlast.core.errors import CannotRerun, OutlastError, UnknownDefinition
from outlast.core.records import AnyRecord, ExecutionStarted, StepKind, StepScheduled
from outlast.core.reruns import INPUT
from outlast.core.tool_output import ToolOutput
from outlast.core.values import faults
from outlast.ports.llm import ModelReply
from outlast.runtime.definitions.activity import defined_activity
from outlast.runtime.definitions.workflow import known_definition


def check_edits(records: Sequence[AnyRecord], edits: Mapping[str, Any]) -> None:
    """Raise `CannotRerun` unless each edit is of the type of what it replaces in a journal."""
    steps = {record.key: record for record in records if isinstance(record, StepScheduled)}
    for key, value in edits.items():
        try:
            if key == INPUT:
                _check_input(records[0], value)
            elif (step := steps.get(key)) is not None:
                _check_result(step, value)
        except ValidationError as error:
            raise CannotRerun(f"the edit of {key!r} does not fit: {'; '.join(faults(error))}") from None
        except OutlastError as error:
            raise CannotRerun(f"the edit of {key!r} does not fit: {error}") from error


def _check_input(started: AnyRecord, arguments: Any) -> None:
    assert isinstance(started, ExecutionStarted)
    definition = known_definition(started.workflow)
    if definition is not None and isinstance(arguments, dict):
        definition.signature.load_arguments(arguments)


def _check_result(step: StepScheduled, result: Any) -> None:
    if step.kind in (StepKind.MODEL, StepKind.SUMMARY):
        ModelReply.model_validate(result)
    elif "source" in step.about:
        ToolOutput.model_validate(result)
    else:
        with suppress(UnknownDefinition):
            defined_activity(step.name).signature.load_result(result)
