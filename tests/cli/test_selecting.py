"""Verbs over executions that are chosen by ids or by a filter."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.cli.ages import age_of
from tests.cli.test_commands import COMMAND, call, running_worker


@pytest.fixture
def crates(shop: Path) -> None:
    """Three open executions of one workflow, and one of another."""
    for number in (1, 2, 3):
        call("start", "shop:order", "apple", "--id", f"order-{number}")
    call("start", "shop:refusal", "--id", "refusal-1")


def statuses() -> dict[str, str]:
    return {one["id"]: one["status"] for one in map(json.loads, call("list", "--json").stdout.splitlines())}


def ids(*arguments: str) -> list[str]:
    return [json.loads(line)["id"] for line in call("list", "--json", *arguments).stdout.splitlines()]


@pytest.mark.usefixtures("crates")
def test_a_list_has_what_the_filters_find() -> None:
    assert ids() == ["refusal-1", "order-3", "order-2", "order-1"]
    assert ids("--id-prefix", "order-") == ["order-3", "order-2", "order-1"]
    assert ids("--id-prefix", "order-", "--limit", "2") == ["order-3", "order-2"]
    some = call("list", "--limit", "2")
    assert (len(some.stdout.splitlines()), some.stderr) == (3, "only the newest 2; --limit N lists more\n")
    assert call("list", "--limit", "4").stderr == ""
    assert ids("--workflow", "refusal", "--status", "running") == ["refusal-1"]
    assert ids("--created-before", "1h") == []
    assert len(ids("--created-after", "1h")) == 4
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert ids("--created-after", tomorrow) == []
    assert len(ids("--created-before", tomorrow[:10])) == 4


@pytest.mark.usefixtures("crates")
def test_a_dry_run_lists_and_does_nothing() -> None:
    dry = call("terminate", "--id-prefix", "order-", "--dry-run")
    assert (dry.exit_code, dry.stderr) == (0, "3 executions would be terminated\n")
    assert [line.split()[0] for line in dry.stdout.splitlines()[1:]] == ["order-3", "order-2", "order-1"]
    assert call("cancel", "order-1", "--dry-run").stderr == "1 execution would be cancelled\n"
    assert set(statuses().values()) == {"running"}


@pytest.mark.usefixtures("crates")
def test_a_verb_is_done_once_to_each_that_is_found_and_to_nothing_else() -> None:
    call("terminate", "order-2")
    done = call("terminate", "--workflow", "order", "--yes", "--reason", "no apples")
    assert (done.exit_code, done.stdout) == (0, "order-3 is terminated\norder-1 is terminated\n")
    assert statuses() == {
        "order-1": "terminated",
        "order-2": "terminated",
        "order-3": "terminated",
        "refusal-1": "running",
    }
    retried = call("retry", "--created-after", "1h", "--yes")
    assert (retried.exit_code, len(retried.stdout.splitlines())) == (0, 3)
    assert set(statuses().values()) == {"running"}
    for verb, status in (("retry", "running"), ("cancel", "terminated"), ("resume", "running")):
        other = call(verb, "--status", status, "--yes")
        assert (other.exit_code, other.stdout, other.stderr) == (0, "", "no execution matches\n")
    nothing = call("retry", "--created-after", "1h", "--yes")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "no execution matches\n")
    again = call("cancel", "order-1", "order-1")
    assert again.stdout == "order-1 is asked to end\n"


@pytest.mark.usefixtures("crates")
def test_a_refusal_of_one_does_not_stop_the_others_and_is_in_the_exit_code() -> None:
    call("terminate", "order-2")
    mixed = call("terminate", "order-1", "order-2", "nobody", "order-3")
    assert (mixed.exit_code, mixed.stdout) == (1, "order-1 is terminated\norder-3 is terminated\n")
    assert [line.split(":")[0] for line in mixed.stderr.splitlines()] == [
        "error",
        "error",
        "2 of 4 are terminated",
    ]


@pytest.mark.usefixtures("crates")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give the ids of executions, or a filter such as --status"),
        (("order-1", "--workflow", "order"), "give ids or a filter, not both"),
        (("--status", "odd"), "'odd' is not one of"),
        (("--workflow", "order"), "nobody can be asked, because the input is not a terminal: give --yes"),
        (
            ("--created-after", "yesterday", "--yes"),
            "'yesterday' is not a time: write one like 2026-11-29T10:00",
        ),
    ],
)
def test_a_choice_that_may_be_a_mistake_changes_nothing(arguments: Sequence[str], message: str) -> None:
    for verb in ("cancel", "terminate", "retry", "resume"):
        if verb in ("retry", "resume") and "order" in arguments and len(arguments) == 2:
            continue  # There is nothing to ask about.
        refused = call(verb, *arguments)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert message in " ".join(refused.stderr.split())
    assert set(statuses().values()) == {"running"}


@pytest.mark.usefixtures("crates")
@pytest.mark.parametrize(("answer", "left"), [(b"n\n", 3), (b"y\n", 0), (b"\x03", 3)])
def test_a_person_is_asked_before_a_verb_is_done_to_all_that_is_found(answer: bytes, left: int) -> None:
    ours, theirs = pty.openpty()
    asked = subprocess.Popen(
        [*COMMAND, "terminate", "--workflow", "order"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if answer == b"\x03":
        assert asked.stderr is not None
        said = b""
        while b"[y/N]" not in said:
            said += os.read(asked.stderr.fileno(), 1000)
            assert asked.poll() is None
        asked.send_signal(signal.SIGINT)
    else:
        os.write(ours, answer)
    asked.communicate()
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == (0 if left == 0 else 1)
    assert sum(status == "running" for id, status in statuses().items() if "order" in id) == left


@pytest.mark.usefixtures("crates")
def test_executions_are_carried_in_bulk(tmp_path: Path) -> None:
    with running_worker("shop"):
        call("result", "order-1")
    there = ["--backend", "sqlite:///there.db"]
    exported = call("export", "--workflow", "order", "--output", "orders.jsonl")
    assert (exported.exit_code, exported.stdout) == (0, "")
    imported = call("import", "orders.jsonl", *there)
    assert (imported.exit_code, imported.stdout.split()) == (0, ["order-3", "order-2", "order-1"])
    assert call("import", "orders.jsonl", "--id", "x", *there).exit_code == 2
    lines = (tmp_path / "orders.jsonl").read_text().splitlines()
    (tmp_path / "mixed.jsonl").write_text(
        "\n".join([*lines, *lines[:1], "{}"]).replace('"order-1"', '"order-9"')
    )
    mixed = call("import", "mixed.jsonl", *there)
    assert mixed.exit_code == 1
    assert mixed.stdout == "order-9\n"
    assert len(mixed.stderr.splitlines()) == 3
    checked = call("check", "shop", "--file", "orders.jsonl", "--json")
    assert [json.loads(line)["departs"] for line in checked.stdout.splitlines()] == [False] * 3
    named = call("check", "shop", "--id", "order-1", "--json")
    assert [json.loads(line)["id"] for line in named.stdout.splitlines()] == ["order-1"]
    found = call("check", "shop", "--status", "completed", "--id-prefix", "order-2", "--json")
    assert [json.loads(line)["id"] for line in found.stdout.splitlines()] in ([], ["order-2"])
    for file, message in (
        ("nothing.jsonl", "No such file or directory: nothing.jsonl"),
        (".", "Is a directory"),
    ):
        for command in (["import", file], ["check", "shop", "--file", file]):
            refused = call(*command)
            assert refused.exit_code == 1
            assert message in refused.stderr
    (tmp_path / "noise").write_bytes(b"\xff\xfe\x00")
    assert "noise is not an export: it is not text in UTF-8" in call("import", "noise").stderr


@given(st.floats(0, 9999), st.sampled_from("smhdw"))
def test_an_age_is_a_number_and_a_unit(number: float, unit: str) -> None:
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[unit]
    age = age_of(f"{number:.3f}{unit}")
    assert age is not None
    assert abs(age.total_seconds() - number * seconds) <= 0.001 * seconds


@pytest.mark.parametrize("text", ["", "1", "d", "-1d", "1y", "1 d d", "1e3s", "1.2345s", "123456d"])
def test_other_texts_are_no_age(text: str) -> None:
    assert age_of(text) is None


@pytest.mark.usefixtures("shop")
def test_executions_are_tagged_and_found_by_their_tags() -> None:
    call("start", "shop:order", "apple", "--id", "t-1", "--tag", "team=blue", "--tag", "note=a=b")
    call("start", "shop:order", "apple", "--id", "t-2", "--tag", "team=red")
    assert "tags" not in call("list", "--id-prefix", "none").stdout
    assert ids("--tag", "team=blue") == ["t-1"]
    assert ids("--tag", "team=blue", "--tag", "note=a=b") == ["t-1"]
    assert ids("--tag", "team=blue", "--tag", "note=c") == []
    assert "note=a=b, team=blue" in call("list").stdout
    assert "note=a=b, team=blue" in call("show", "t-1").stdout
    moved = call("tag", "--tag", "team=blue", "--set", "team=red", "--remove", "note", "--yes")
    assert (moved.exit_code, moved.stdout) == (0, "t-1 is tagged\n")
    assert ids("--tag", "team=red") == ["t-2", "t-1"]
    assert json.loads(call("list", "--json").stdout.splitlines()[1])["tags"] == {"team": "red"}
    for wrong, code, message in (
        (["t-1"], 2, "give --set NAME=VALUE or --remove NAME"),
        (["t-1", "--set", "team"], 2, "'team' is not NAME=VALUE"),
        (["t-1", "--set", "a=1", "--set", "a=2"], 2, "tag 'a' is given twice"),
        (["t-1", "--set", "a=1", "--remove", "a"], 2, "tag 'a' is set and removed"),
        (["t-1", "--set", f"a={'x' * 201}"], 1, "at most 200"),
        (["nobody", "--set", "a=1"], 1, "no execution 'nobody'"),
    ):
        refused = call("tag", *wrong)
        assert (refused.exit_code, refused.stdout) == (code, "")
        assert message in " ".join(refused.stderr.split())
    many = [part for number in range(21) for part in ("--tag", f"t{number}=1")]
    refused = call("start", "shop:order", "apple", "--id", "t-3", *many)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "at most 20 tags" in refused.stderr
    assert ids() == ["t-2", "t-1"]
