"""Programs for Mistral Workflows run on four backends once their import lines are changed."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import outlast
from outlast.ports.durability.backend import Backend
from outlast.testing.mistral_server import Call, Execute, HandOff, MistralServer, ModelPrompt, Reply, Say
from tests.adapters.redis_servers import VALKEY, shared_url
from tests.adapters.temporal_server import shared_server
from tests.compat.programs import FOLDER, IMPORT, load, migrated, rules

pytestmark = pytest.mark.server

FAILED = (
    "Agent runner failed: tool 'currency_of' failed with ActivityFailed: activity 'currency_of' failed after "
    "2 attempts with ValueError: no such country"
)
NAMES = sorted(file.name.removesuffix(".py.txt") for file in FOLDER.iterdir())


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModuleType]:
    """The migrated programs, by name."""
    folder = tmp_path_factory.mktemp("programs")
    return {name: load(name, folder) for name in NAMES}


@pytest.fixture(params=["memory", "sqlite", "redis", "temporal"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """A backend of each kind."""
    match request.param:
        case "memory":
            url = "memory:"
        case "sqlite":
            url = f"sqlite:///{tmp_path}/runs.db"
        case "redis":
            server = shared_url(VALKEY)
            url = f"{server}{'&' if '?' in server else '?'}prefix={uuid.uuid4().hex}"
        case _:
            url = f"temporal://{shared_server()}/default"
    async with outlast.connect(url) as opened:
        yield opened


@pytest.fixture
def mistral(monkeypatch: pytest.MonkeyPatch) -> Iterator[MistralServer]:
    """A stand-in for Mistral's API, which sessions find as they find the real one."""
    with MistralServer(model) as server:
        monkeypatch.setenv("MISTRAL_API_KEY", server.api_key)
        monkeypatch.setenv("MISTRAL_SERVER_URL", server.url)
        yield server
        server.raise_errors()


def model(call: ModelPrompt) -> Reply:
    """Answer as a model that uses what the programs offer."""
    results = list(call.results.values())
    asked = call.text
    match call.agent, results:
        case "finance-agent", []:
            return [Call("get_interest_rate", {"year": 2024})]
        case "finance-agent", [rate]:
            return [Say(f"It was {rate}.")]
        case "deal-coordinator", []:
            return [HandOff("risk-agent")]
        case "risk-agent", []:
            loan = {"deal_type": "loan", "amount": 400_000}
            return [Execute("web_search", {}), Call("calculate_risk_score", loan)]
        case "risk-agent", [risk]:
            return [Say(f"The risk is {risk}")]
        case None, [currency]:
            return [Say(f"It is the {currency}.")]
        case None, [] if asked == "Thank you.":
            return [Say("You are welcome.")]
        case None, []:
            return [Call("currency_of", {"country": "Atlantis" if "Atlantis" in asked else "France"})]
    raise AssertionError(f"nobody asked for {call.agent}")


@asynccontextmanager
async def started(backend: Backend, workflow: Any, *args: Any, others: Any = ()) -> AsyncIterator[Any]:
    """An execution, with a worker."""
    queue = uuid.uuid4().hex
    async with backend.worker([workflow, *others], task_queue=queue):
        yield await backend.start(workflow, *args, task_queue=queue)


@pytest.mark.parametrize("name", NAMES)
def test_only_import_lines_change(name: str) -> None:
    before = (FOLDER / f"{name}.py.txt").read_text().splitlines()
    after = migrated(name).splitlines()
    assert len(before) == len(after)
    changed = [line for line, now in zip(before, after, strict=True) if line != now]
    assert changed
    assert all(IMPORT.match(line) for line in changed)
    assert not [line for line in after if IMPORT.match(line) and "mistralai." in line.split(" as ")[0][:20]]


def test_the_command_of_the_page_changes_a_file_as_the_rules_do(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text((FOLDER / "deals.py.txt").read_text())
    expressions = [part for old, new in rules() for part in ("-e", f"s/{old}/{new}/")]
    subprocess.run(["sed", "-i.bak", "-E", *expressions, file], check=True)
    assert file.read_text() == migrated("deals")
    assert len(rules()) == 2


async def test_an_agent_with_a_tool(
    backend: Backend, programs: dict[str, ModuleType], mistral: MistralServer
) -> None:
    workflow = programs["finance"].FinanceAgentWorkflow
    async with started(backend, workflow, "What was the rate in 2024?") as execution:
        assert await execution.result() == {"answer": 'It was {"interest_rate":1.62}.'}


async def test_a_handoff_and_a_tool_of_the_server(
    backend: Backend, programs: dict[str, ModuleType], mistral: MistralServer
) -> None:
    workflow = programs["deals"].DealAnalysisWorkflow
    async with started(backend, workflow, "A loan of 400000 euros") as execution:
        result = await execution.result()
    assert result["analysis"].startswith('The risk is {"risk_score":40.0,')


@pytest.mark.parametrize(
    ("country", "result"),
    [
        ("France", {"first": "It is the euro.", "second": "You are welcome."}),
        (
            "Atlantis",
            {"failed": True, "said": FAILED},
        ),
    ],
)
async def test_a_session_is_used_twice_and_a_tool_that_fails_ends_the_run(
    backend: Backend,
    programs: dict[str, ModuleType],
    mistral: MistralServer,
    country: str,
    result: dict[str, Any],
) -> None:
    async with started(backend, programs["local_agent"].LocalAgentWorkflow, country) as execution:
        assert await execution.result() == result


async def test_signals_queries_updates_and_conditions(
    backend: Backend, programs: dict[str, ModuleType]
) -> None:
    module = programs["review"]
    review = module.Review(document_id="d-1", reviewers=2)
    async with started(backend, module.ReviewWorkflow, review) as execution:
        await execution.signal("approve", "Ann")
        assert await execution.update("set_priority", 3, id="p") == {"before": 1, "now": 3}
        assert await execution.query("status") == "1 approvals"
        await execution.signal("approve", "Ben")
        assert await execution.result() == {
            "document": "d-1",
            "approved_by": ["Ann", "Ben"],
            "priority": 3,
            "in_time": True,
            "ticket": 36,
        }


async def test_children_items_and_errors(backend: Backend, programs: dict[str, ModuleType]) -> None:
    module = programs["batch"]
    module.attempts.clear()
    async with started(backend, module.BatchWorkflow, others=[module.OrderWorkflow]) as execution:
        assert await execution.result() == {
            "direct": 6,
            "beside": 4,
            "listed": [0, 2, 4, 6, 8],
            "chained": ["page 1", "page 2", "page 3"],
            "placed": ["page 7", "page 8"],
            "refused": True,
            "has_id": True,
        }
    assert module.attempts == ["forbidden"]


async def test_input_from_a_person(backend: Backend, programs: dict[str, ModuleType]) -> None:
    async with started(backend, programs["expenses"].ExpenseWorkflow, "Ann") as execution:
        async for event in execution.events():
            if event.kind == "question_asked":
                break
        [question] = await execution.questions()
        await execution.answer(question.key, {"amount": 12.5, "purpose": "train"})
        assert await execution.result() == {"employee": "Ann", "amount": 12.5, "purpose": "train"}
