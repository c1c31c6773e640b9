"""Finding a workflow and its arguments in the words of a command line."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

import outlast
from outlast.cli.loading import workflow_called, workflows_in
from outlast.runtime.definitions.known_workflows import definition_of


@outlast.workflow.define(name="loading_order")
class Order:
    @outlast.workflow.entrypoint
    async def run(self, note: str, count: int = 1, tags: list[str] | None = None) -> str:
        return note


@outlast.workflow.define(name="loading_anything")
class Anything:
    @outlast.workflow.entrypoint
    async def run(self, value: Any, day: date | None = None) -> None:
        return None


ORDER, ANYTHING = definition_of(Order), definition_of(Anything)


def test_a_workflow_is_found_by_its_name_and_by_that_of_its_class() -> None:
    assert workflow_called("loading_order", __name__) is ORDER
    assert workflow_called(f"{__name__}:Order", None) is ORDER
    assert workflows_in([__name__, f"{__name__}:loading_order"]) == [ORDER, ANYTHING]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module", "module 'no_such_module' was not found"),
        ("json.no_such_module", "module 'json.no_such_module' was not found"),
        ("shop/orders.py", "give the module's name, such as shop.orders"),
        ("json", "module 'json' has no workflow; decorate a class with @workflow.define"),
        (f"{__name__}:Missing", "has no workflow 'Missing'; it has: loading_order, loading_anything"),
    ],
)
def test_the_error_names_the_target_that_cannot_be_loaded(target: str, message: str) -> None:
    with pytest.raises(outlast.ConfigurationError) as caught:
        workflows_in([target])
    assert message in str(caught.value)


def test_a_name_without_a_module_is_not_guessed() -> None:
    with pytest.raises(outlast.ConfigurationError, match="give --module MODULE"):
        workflow_called("Order", None)
