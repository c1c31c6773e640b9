"""The names of Mistral Workflows: their arguments, their defaults, and what has no counterpart."""

from __future__ import annotations

import dataclasses
import importlib
from datetime import timedelta
from typing import Any

import pytest

import outlast
import outlast.compat.mistral_workflows as workflows
import outlast.compat.mistral_workflows.plugins.mistralai as workflows_mistralai
from outlast.adapters.scripted import call
from outlast.compat.mistral_workflows import refusals
from outlast.compat.mistral_workflows.exceptions import ErrorCode, WorkflowsException

COMPAT = "outlast.compat.mistral_workflows"


@pytest.mark.parametrize("module", [workflows, workflows_mistralai])
def test_every_public_name_is_there_and_none_of_them_is_refused(module: Any) -> None:
    assert all(hasattr(module, name) for name in module.__all__)
    assert not set(module.__all__) & {*refusals.WORKFLOWS, *refusals.PLUGIN}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *((COMPAT, name) for name in refusals.WORKFLOWS),
        *((f"{COMPAT}.plugins.mistralai", name) for name in refusals.PLUGIN),
        (f"{COMPAT}.client", "get_mistral_client"),
        (f"{COMPAT}.conversational", "CanvasInput"),
        (f"{COMPAT}.models", "ScheduleDefinition"),
        (f"{COMPAT}.plugins.mistralai.connectors", "connector"),
        (f"{COMPAT}.plugins.mistralai.conversational_ui_components", "Card"),
    ],
)
def test_an_import_of_what_has_no_counterpart_says_what_to_do(module: str, name: str) -> None:
    there = module.replace(COMPAT, "mistralai.workflows")
    with pytest.raises(outlast.NotSupported, match=rf"{there}\.{name} has no counterpart: .{{20}}"):
        exec(f"from {module} import {name}")


def test_a_name_that_nobody_has_is_missing_as_usual() -> None:
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        exec(f"from {COMPAT} import nonsense")
    for module in ("client", "conversational", "models"):
        assert not hasattr(importlib.import_module(f"{COMPAT}.{module}"), "__path__")


def nothing() -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: workflows.activity(sticky_to_worker=True), "sticky_to_worker=: let one activity"),
        (lambda: workflows.activity(rate_limit={"rate": 1}), "rate_limit=: limit a worker"),  # type: ignore[arg-type]
        (lambda: workflows.activity(retries=3), "activity.. has no argument 'retries'. Its arguments: start"),
        (lambda: workflows.workflow.define("a", schedules=["daily"]), "schedules=: let cron"),
        (lambda: workflows.workflow.define("a", enforce_determinism=False), "let an activity do"),
        (lambda: workflows.workflow.define("a", on_behalf_of=True), "on_behalf_of="),
        (lambda: workflows.workflow.define("a", search_keys=["id"]), "find executions by tags"),
        (lambda: workflows.workflow.define("a", retention=3), "has no argument 'retention'"),
        (lambda: workflows.workflow.continue_as_new(None), "await outlast.workflow.continue_as_new"),
        (workflows.workflow.unsafe.skip_determinism_enforcement, "into an activity, and await it"),
        (lambda: workflows_mistralai.Agent(name="a", connectors=["github"]), "connectors=: give the agent"),
        (lambda: workflows_mistralai.Agent(name="a", guardrails=[]), "guardrails=: give functions"),
        (lambda: workflows_mistralai.Agent(name="a", temperature=0), "has no argument 'temperature'"),
        (lambda: workflows_mistralai.LocalSession(system_prompt_agent_handoff="x"), "instructions="),
        (lambda: workflows_mistralai.RemoteSession(retries=3), "has no argument 'retries'"),
    ],
)
def test_an_argument_without_a_counterpart_says_what_to_do(call: Any, said: str) -> None:
    with pytest.raises(outlast.NotSupported, match=said):
        call()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"detach": True}, "asyncio.create_task"),
        ({"api_key": "k"}, "MISTRAL_API_KEY"),
        ({"namespace": "n"}, "temporal://host:7233/namespace"),
        ({"enable_config_discovery": True}, "OUTLAST_BACKEND"),
    ],
)
async def test_a_worker_refuses_what_is_said_elsewhere(options: dict[str, Any], said: str) -> None:
    with pytest.raises(outlast.NotSupported, match=said):
        await workflows.run_worker([], **options)


async def test_a_run_takes_the_durability_of_its_workflow() -> None:
    agent = workflows_mistralai.Agent(name="a")
    with pytest.raises(outlast.NotSupported, match=r"outlast\.Runner\.run\(agent, inputs, id="):
        await workflows_mistralai.Runner.run(agent, "Hello", id="q-1")


@pytest.mark.parametrize(
    "decorator", [workflows.workflow.signal, workflows.workflow.query, workflows.activity]
)
def test_a_decorator_without_its_parentheses_says_so(decorator: Any) -> None:
    with pytest.raises(outlast.DefinitionError, match="with parentheses"):
        decorator(nothing)


def test_an_activity_has_the_defaults_of_mistral_workflows() -> None:
    decorated: Any = workflows.activity(name="compat_defaults")(nothing)
    options = decorated.definition.options
    assert (options.retry.max_attempts, options.retry.backoff_coefficient) == (3, 2.0)
    assert options.start_to_close_timeout == timedelta(minutes=5).total_seconds()
    assert decorated.definition.name == "compat_defaults"
    by_position: Any = workflows.activity(timedelta(seconds=1), 7, 1.5, "compat_by_position")(nothing)
    assert by_position.definition.options.retry.max_attempts == 7
    assert by_position.definition.name == "compat_by_position"


def test_an_agent_is_a_value_of_our_own_kind_that_does_not_change() -> None:
    agent = workflows_mistralai.Agent(name="clerk", handoffs=["boss"], output_type=int)
    assert isinstance(agent, outlast.Agent)
    assert agent.model == "mistral-medium-latest"
    assert dataclasses.replace(agent, id="ag_1").id == "ag_1"
    with pytest.raises(outlast.NotSupported, match="an agent does not change: give id= when you make it"):
        agent.id = "ag_2"  # type: ignore[misc]  # the mistake at hand


def test_agents_are_found_by_their_handoffs_each_once() -> None:
    leaf = workflows_mistralai.Agent(name="leaf")
    left = workflows_mistralai.Agent(name="left", handoffs=[leaf])
    root = workflows_mistralai.Agent(name="root", handoffs=[left, leaf])
    found = workflows_mistralai.Agent.iterate_agents_deeply_in_handoffs(root)
    assert [agent.name for agent in found] == ["root", "left", "leaf"]


@pytest.mark.parametrize("session", [workflows_mistralai.RemoteSession, workflows_mistralai.LocalSession])
def test_a_session_lets_a_tool_that_fails_end_the_run_unless_told_otherwise(session: Any) -> None:
    assert session().raise_on_tool_fail
    assert not session(False).raise_on_tool_fail
    assert dataclasses.replace(session(), server_url="http://localhost:1").raise_on_tool_fail
    assert session() == session()


def test_secrets_of_mcp_servers_are_named_by_variables() -> None:
    program = workflows_mistralai.MCPStdioConfig(
        type="stdio", command="npx", args=["-y", "server"], name="notion", env_mapping={"TOKEN": "TOKEN_A"}
    )
    assert program == workflows_mistralai.MCPStdioConfig(
        command="npx", args=["-y", "server"], name="notion", env={"TOKEN": "env:TOKEN_A"}
    )
    remote = workflows_mistralai.MCPStreamableHTTPConfig(
        url="https://example.org/mcp",
        name="notion",
        auth_token_env="ENDPOINT",
        header_mapping={"Notion-Token": "TOKEN_A"},
    )
    assert remote.headers == {"Authorization": "Bearer env:ENDPOINT", "Notion-Token": "env:TOKEN_A"}
    assert workflows_mistralai.MCPSSEConfig(url="https://example.org/sse", name="old").timeout == 60


@pytest.mark.parametrize(("max_turns", "said"), [(0, ["One moment."]), (1, ["Done."])])
async def test_at_the_limit_of_turns_a_run_returns_what_was_said(max_turns: int, said: list[str]) -> None:
    def look() -> str:
        """Look."""
        return "seen"

    session = outlast.ScriptedSession({"looker": [["One moment.", call("look")], "Done."]})
    agent = workflows_mistralai.Agent(name="looker", tools=[look])
    outputs = await workflows_mistralai.Runner.run(agent, ["Look."], max_turns, session)
    assert outputs == [outlast.TextChunk(text=text) for text in said]


async def test_a_run_that_fails_raises_the_exception_of_mistral_workflows() -> None:
    agent = workflows_mistralai.Agent(name="silent")
    with pytest.raises(WorkflowsException, match="Agent runner failed: ") as caught:
        await workflows_mistralai.Runner.run(agent, "Hello", session=outlast.ScriptedSession({"silent": []}))
    assert caught.value.code is ErrorCode.AGENT_EXECUTION_ERROR
    assert isinstance(caught.value.__cause__, outlast.ActivityFailed)


@workflows.workflow.define(name="compat_slow", execution_timeout=timedelta(milliseconds=20))
class Slow:
    @workflows.workflow.entrypoint
    async def run(self) -> None:
        await workflows.workflow.sleep(3600)


async def test_an_execution_timeout_ends_an_execution() -> None:
    with pytest.raises(outlast.ExecutionFailed, match="TimeoutError"):
        await outlast.execute_workflow(Slow, backend="memory:")
