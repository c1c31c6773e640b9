"""Values: frozen, equal after JSON, and copied with changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from outlast.core.agent_run import AgentRun
from tests.core.strategies import agent_runs


@given(agent_runs(), st.fixed_dictionaries({}, optional={"turn": st.integers(), "agent": st.text()}))
def test_a_copy_with_changes_is_what_pydantic_would_copy(run: AgentRun, changes: dict[str, object]) -> None:
    before, copied, expected = run.model_copy(), run.with_(**changes), run.model_copy(update=changes)
    assert copied == expected
    assert vars(copied) == vars(expected)
    assert copied.model_fields_set == expected.model_fields_set
    assert (copied.__pydantic_extra__, copied.__pydantic_private__) == (None, None)
    assert copied.model_dump() == expected.model_dump()
    assert run == before
    assert run.model_fields_set == before.model_fields_set


@given(agent_runs())
def test_a_copy_is_as_frozen_as_the_value(run: AgentRun) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        run.with_(turn=1).turn = 2  # type: ignore[misc]  # this is what must fail
