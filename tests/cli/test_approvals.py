"""Deciding about tool calls from a shell."""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import call, lines, running_worker

BANK = """
import outlast
from outlast.adapters.scripted import call, say


@outlast.activity(requires_approval=True)
async def transfer(to: str, amount: int) -> str:
    return f"{amount} to {to}"


@outlast.workflow.define(name="transfers")
class Transfers:
    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        calls = [call("transfer", {"to": name, "amount": 5}) for name in ("Ann", "Bob", "Cid")]
        session = outlast.ScriptedSession({"clerk": [calls, say("Done.")]})
        agent = outlast.Agent(model="m", name="clerk", tools=[transfer])
        result = await outlast.Runner.run(agent, "Go.", session)
        return [entry.result for entry in result.entries if isinstance(entry, outlast.FunctionResult)]
"""


def waiting(number: int) -> list[dict[str, Any]]:
    """Return the calls that wait, once there are so many."""
    deadline = time.monotonic() + 30
    while len(found := lines("pending", "t-1", "--json")) != number:
        assert time.monotonic() < deadline
    return found


@pytest.mark.usefixtures("shop")
def test_calls_are_listed_allowed_edited_and_denied(tmp_path: Path) -> None:
    (tmp_path / "bank.py").write_text(BANK)
    call("start", "transfers", "--id", "t-1", "--module", "bank")
    assert call("pending", "t-1").stderr == "no call waits for a decision, and no question for an answer\n"
    with running_worker("bank"):
        ann, bob, cid = (one["call_id"] for one in waiting(3))
        assert [(one["execution"], one["call_id"]) for one in lines("pending", "--json")] == [
            ("t-1", ann),
            ("t-1", bob),
            ("t-1", cid),
        ]
        assert call("pending").stdout.splitlines()[1].split()[:2] == ["t-1", ann]
        table = call("pending", "t-1").stdout
        assert '{"to":"Bob","amount":5}' in table
        assert bob in table
        assert call("allow", "t-1", ann).stdout == f"allowed transfer (call {ann}) of execution t-1\n"
        wrong = call("allow", "t-1", bob, "--arguments", '{"to": "Bob", "amount": "few"}')
        assert (wrong.exit_code, wrong.stdout) == (1, "")
        assert "amount: must be of type integer" in wrong.stderr
        edited = json.dumps({"to": "Bob", "amount": 3})
        done = call("allow", "t-1", bob, "--arguments", edited, "--reason", "less")
        what = f"allowed transfer (call {bob}) of execution t-1"
        assert done.stdout == f'{what} with the arguments {{"to":"Bob","amount":3}}: less\n'
        done = call("deny", "t-1", cid, "--reason", "too much", "--by", "Dora")
        assert done.stdout == f"denied transfer (call {cid}) of execution t-1: too much\n"
        result = call("start", "transfers", "--id", "t-1", "--module", "bank", "--wait").stdout
    results = json.loads(result.splitlines()[-1])
    assert results[:2] == ["5 to Ann", "3 to Bob"]
    assert "too much" in results[2]
    shown = call("show", "t-1").stdout
    assert 'approval of transfer asked for: {"to":"Ann","amount":5}' in shown
    assert f"transfer allowed by {getpass.getuser()} with the arguments" in shown
    assert "transfer denied by Dora: too much" in shown
    assert '{"to":"Bob","amount":3}: less' in call("show", "t-1", "--full").stdout
    again = call("allow", "t-1", ann)
    assert (again.exit_code, "takes no more messages" in again.stderr) == (1, True)


@pytest.mark.usefixtures("shop")
def test_the_error_for_a_decision_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bank.py").write_text(BANK)
    call("start", "transfers", "--id", "t-1", "--module", "bank")
    refused = call("deny", "t-1", "none-such")
    assert refused.exit_code == 1
    assert "no call 'none-such' of execution 't-1' waits for a decision" in refused.stderr
    for text in ("{", "[1]"):
        assert call("allow", "t-1", "x", "--arguments", text).exit_code == 2


CURIOUS = """
import outlast


@outlast.workflow.define(name="curious")
class Curious:
    @outlast.workflow.entrypoint
    async def run(self) -> list[object]:
        how_many = await outlast.workflow.ask("How many?", int, to="ops")
        return [how_many, await outlast.workflow.ask("Why?")]
"""


@pytest.mark.usefixtures("shop")
def test_questions_are_listed_and_answered(tmp_path: Path) -> None:
    (tmp_path / "curious.py").write_text(CURIOUS)
    call("start", "curious", "--id", "t-1", "--module", "curious")
    with running_worker("curious"):
        [asked] = waiting(1)
        assert (asked["question"], asked["to"]) == ("How many?", "ops")
        assert "How many?" in call("pending").stdout
        wrong = call("answer", "t-1", asked["key"], "many")
        assert (wrong.exit_code, wrong.stdout) == (1, "")
        assert call("answer", "t-1", asked["key"], "-3", "--by", "Ann").stdout == f"answered {asked['key']}\n"
        misspelt = call("answer", "t-1", asked["key"], "4", "--bye", "Ann")
        assert misspelt.exit_code == 2
        late = call("answer", "t-1", asked["key"], "4")
        assert late.exit_code == 1
        assert asked["key"] in late.stderr
        [why] = waiting(1)
        assert call("answer", "t-1", why["key"], "-7").exit_code == 0
        result = call("start", "curious", "--id", "t-1", "--module", "curious", "--wait").stdout
    assert json.loads(result.splitlines()[-1]) == [-3, "-7"]
    shown = call("show", "t-1").stdout
    assert "question to ops: How many?" in shown
    assert "question answered by Ann: -3" in shown


DRIVER = """
import asyncio
import outlast
from outlast.adapters.scripted import call, say


@outlast.activity(heartbeat_timeout=None)
async def drive() -> str:
    await asyncio.sleep(600)
    return "there"


@outlast.workflow.define(name="driver")
class Driver:
    @outlast.workflow.entrypoint
    async def run(self) -> list[str]:
        agent = outlast.Agent(model="m", name="driver", tools=[drive])
        session = outlast.ScriptedSession({"driver": [call("drive")]})
        try:
            await outlast.Runner.run(agent, "Go.", session)
        except outlast.RunInterrupted as interrupted:
            [last] = outlast.Runner.messages(session)[-1:]
            return [str(interrupted), str(last.content)]
        return []
"""


@pytest.mark.usefixtures("shop")
def test_a_run_is_steered_from_a_shell(tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(DRIVER)
    call("start", "driver", "--id", "t-1", "--module", "driver")
    with running_worker("driver"):
        deadline = time.monotonic() + 30
        while "drive" not in call("show", "t-1").stdout:
            assert time.monotonic() < deadline
        assert call("say", "t-1", "Stop at Dijon.", "--by", "Ann").exit_code == 0
        assert call("interrupt", "t-1", "--reason", "too far", "--by", "Ann").exit_code == 0
        result = call("start", "driver", "--id", "t-1", "--module", "driver", "--wait").stdout
        late = call("say", "t-1", "Too late.")
    interrupted = "the run was interrupted by Ann: too far"
    assert json.loads(result.splitlines()[-1]) == [interrupted, "Stop at Dijon."]
    assert late.exit_code == 1
    shown = call("show", "t-1").stdout
    assert "message by Ann to driver: Stop at Dijon." in shown
    assert "run interrupted by Ann: too far" in shown
