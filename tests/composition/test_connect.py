"""From a URL to a backend."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

import outlast
from outlast.adapters.memory.store import MemoryStore
from outlast.composition import backends


@outlast.workflow.define(name="connect_echo")
class Echo:
    @outlast.workflow.entrypoint
    async def run(self, text: str) -> str:
        return text


async def test_a_relative_sqlite_url_is_a_file_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert await outlast.execute_workflow(Echo, "hi", backend="sqlite:///runs.db") == "hi"
    assert (tmp_path / "runs.db").exists()


async def test_an_absolute_sqlite_url_has_four_slashes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'with space.db'}".replace(" ", "%20")
    assert await outlast.execute_workflow(Echo, "hi", backend=url) == "hi"
    assert (tmp_path / "with space.db").exists()


async def test_the_environment_names_the_default_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(backends.BACKEND_VARIABLE, "sqlite:///chosen.db?synchronous=normal")
    await outlast.execute_workflow(Echo, "hi")
    monkeypatch.delenv(backends.BACKEND_VARIABLE)
    await outlast.execute_workflow(Echo, "hi")
    assert sorted(name for name in os.listdir(tmp_path) if name.endswith(".db")) == [
        "chosen.db",
        "outlast.db",
    ]


@pytest.mark.parametrize("url", ["nonsense", "nonsense://user:secret@host/x", "x@y"])
def test_an_unknown_scheme_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(outlast.UnknownBackend) as refused:
        outlast.connect(url)
    assert "secret" not in str(refused.value)
    assert "sqlite" in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["sqlite://runs.db", "sqlite:///", "sqlite:", "sqlite:///a.db?journal=off", "memory://x", "memory:?a=b"],
)
def test_a_url_that_makes_no_sense_says_how_to_write_it(url: str) -> None:
    with pytest.raises(outlast.ConfigurationError, match=r"sqlite:///|memory:|synchronous="):
        outlast.connect(url)


async def test_a_package_can_add_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("elsewhere", f"{__name__}:open_elsewhere", backends.ENTRY_POINTS)
    monkeypatch.setattr(backends, "entry_points", lambda group: EntryPoints([point]))
    monkeypatch.setattr(EntryPoint, "load", lambda self: open_elsewhere)
    async with outlast.connect("elsewhere://x") as backend, backend.worker([Echo]):
        assert await (await backend.start(Echo, "hi")).result() == "hi"
    with pytest.raises(outlast.UnknownBackend, match="elsewhere"):
        outlast.connect("nowhere://x")


def open_elsewhere(url: str) -> outlast.Backend:
    assert url == "elsewhere://x"
    return outlast.connect("memory:")


async def test_execute_workflow_with_an_id_again_returns_the_same(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    assert await outlast.execute_workflow(Echo, "hi", id="e", backend=url) == "hi"
    assert await outlast.execute_workflow(Echo, "hi", id="e", backend=url) == "hi"
    with pytest.raises(outlast.ExecutionAlreadyExists, match="input"):
        await outlast.execute_workflow(Echo, "ho", id="e", backend=url)


async def test_a_backend_can_be_made_of_any_store() -> None:
    backend = outlast.journaled_backend(MemoryStore(outlast.SystemClock()))
    assert await outlast.execute_workflow(Echo, "hi", backend=backend) == "hi"
