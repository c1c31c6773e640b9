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
from outlast.adapters.scripted.session import call, say


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
    assert call("pending", "t-1").stderr == "no call waits for a decision\n"
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
