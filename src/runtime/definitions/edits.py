"""Checking the edits of a fork against the types of what they replace, as far as this process knows these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from outlast.core.errors import CannotRerun
from outlast.core.records import AnyRecord, ExecutionStarted, StepKind, StepScheduled
from outlast.core.reruns import INPUT
from outlast.core.tool_output import ToolOutput
from outlast.core.values import faults
from outlast.ports.definitions import ActivityDefinition
from outlast.ports.llm import ModelReply
from outlast.runtime.definitions.activity import activities_named
from outlast.runtime.definitions.callables import innermost
from outlast.runtime.definitions.known_workflows import known_definition


def check_edits(records: Sequence[AnyRecord], edits: Mapping[str, Any]) -> None:
    """Raise `CannotRerun` unless each edit is of the type of what it replaces in a journal."""
    steps = {record.key: record for record in records if isinstance(record, StepScheduled)}
    for key, value in edits.items():
        wrong: Sequence[str] = ()
        if key == INPUT:
            wrong = _faults_in_input(records[0], value)
        elif (step := steps.get(key)) is not None:
            wrong = _faults_in_result(step, value, records[0])
        if wrong:
            raise CannotRerun(f"the edit of {key!r} does not fit: {'; '.join(wrong)}")


def _faults_in_input(started: AnyRecord, arguments: Any) -> Sequence[str]:
    assert isinstance(started, ExecutionStarted)
    definition = known_definition(started.workflow)
    if definition is None or not isinstance(arguments, dict):
        return ()
    return definition.signature.faults_in_arguments(arguments)


def _faults_in_result(step: StepScheduled, result: Any, started: AnyRecord) -> Sequence[str]:
    try:
        if step.kind in (StepKind.MODEL, StepKind.SUMMARY):
            ModelReply.model_validate(result)
        elif step.kind is StepKind.CHILD:
            child = known_definition(step.name)
            return () if child is None else child.signature.faults_in_result(result)
        elif "source" in step.about:
            ToolOutput.model_validate(result)
        else:
            return _faults_in_result_of_activity(step.name, result, started)
    except ValidationError as error:
        return faults(error)
    return ()


def _faults_in_result_of_activity(name: str, result: Any, started: AnyRecord) -> Sequence[str]:
    """Return what is wrong with a result for every activity that the step may have called."""
    found = [definition.signature.faults_in_result(result) for definition in _called(name, started)]
    return () if any(not wrong for wrong in found) else next(iter(found), ())


def _called(name: str, started: AnyRecord) -> Sequence[ActivityDefinition]:
    """Return the activities of that name: those of the workflow's own module, if it has one."""
    assert isinstance(started, ExecutionStarted)
    known = activities_named(name)
    workflow = known_definition(started.workflow)
    home = None if workflow is None else workflow.cls.__module__
    return [one for one in known if innermost(one.fn).__module__ == home] or known
