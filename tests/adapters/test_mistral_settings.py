"""The settings of both sessions: the check at once, and the settings that are read at each call."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from outlast.adapters.mistral import LocalSession, RemoteSession
from outlast.adapters.mistral.api_errors import of_status
from outlast.core.agents import AgentGraph, AgentSpec
from outlast.core.entries import MessageInput
from outlast.core.errors import (
    ConfigurationError,
    DefinitionError,
    MalformedReply,
    MissingCredentials,
    MissingExtra,
    ModelOverloaded,
    ModelRefused,
    NotSupported,
)
from outlast.ports.durability.steps import Step
from outlast.ports.llm import ModelRequest
from outlast.runtime.attempts.shared_resources import SharedResources
from outlast.runtime.attempts.system_clock import SystemClock
from outlast.runtime.definitions.agent import Agent
from outlast.runtime.runs.bounds import Bounds
from outlast.runtime.runs.runner import run_agent
from outlast.runtime.runs.undurable_context import PlainContext

both = pytest.mark.parametrize("make", [RemoteSession, LocalSession])


def graph(**fields: Any) -> AgentGraph:
    agent = AgentSpec(name="a", model="m", **fields)
    return AgentGraph(start="a", agents={"a": agent})


def request() -> ModelRequest:
    new = (MessageInput(content="Go."),)
    return ModelRequest(graph=graph(), agent="a", turn=1, history=(), new=new, idempotency_key="k")


@both
def test_sessions_with_equal_settings_are_equal_and_show_no_key(make: Callable[..., Any]) -> None:
    session = make(api_key="key-123", timeout=timedelta(minutes=1))
    assert session == make(api_key="key-123", timeout=timedelta(minutes=1))
    assert session != make(api_key="key-124", timeout=timedelta(minutes=1))
    assert hash(session) == hash(make(api_key="key-123", timeout=timedelta(minutes=1)))
    assert "key-123" not in f"{session!r} {session}"
    assert session.timeout_seconds == 60
    assert make().timeout_seconds == 300


@both
@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": ""},
        {"api_key": "two\nlines"},
        {"api_key": "schlüssel"},
        {"server_url": "localhost:8000"},
        {"server_url": "ftp://host"},
        {"server_url": "https://host?key=1"},
        {"server_url": "http://[::1"},
        {"server_url": "http://host:port"},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"timeout": timedelta(seconds=-1)},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_at_once(
    make: Callable[..., Any], settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError):
        make(**settings)


@both
def test_credentials_in_the_address_are_refused_and_not_repeated(make: Callable[..., Any]) -> None:
    for url in ("https://user:secret@host", "user:secret@host", "https://host?api_key=secret"):
        with pytest.raises(ConfigurationError, match="give the key as api_key") as refusal:
            make(server_url=url)
        assert "secret" not in str(refusal.value)


@both
async def test_no_error_repeats_the_key(make: Callable[..., Any]) -> None:
    session = make(api_key="key-7f3a", server_url="http://127.0.0.1:1")
    sent_back: list[Exception] = [
        of_status(500, "no such key: key-7f3a", {}),
        of_status(400, "no such key: key-7f3a", {}),
        MalformedReply("the answer is not JSON: 'Bearer key-7f3a'"),
    ]
    for error in sent_back:
        with pytest.raises(type(error)) as raised:
            async with session.guarded(session.endpoint()):
                raise error
        assert "***" in str(raised.value)
        assert "key-7f3a" not in "".join(traceback.format_exception(raised.value))
    clean = ModelOverloaded(503, "busy", 2.5)
    with pytest.raises(ModelOverloaded) as raised:
        async with session.guarded(session.endpoint()):
            raise clean
    assert raised.value is clean


@both
def test_the_address_may_end_with_its_version(make: Callable[..., Any]) -> None:
    for url in ("http://host:8000", "http://host:8000/", "http://host:8000/v1", "http://host:8000/v1/"):
        assert make(server_url=url).endpoint().url == "http://host:8000"
    assert make(server_url="http://host/models/v1").endpoint().url == "http://host/models"


@both
def test_the_environment_is_read_when_a_call_is_made(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make()
    monkeypatch.setenv("MISTRAL_API_KEY", "key-from-environment\n")
    monkeypatch.setenv("MISTRAL_SERVER_URL", "http://gateway/v1")
    assert session.endpoint().secret == "key-from-environment"
    assert session.endpoint().url == "http://gateway"
    given = make(api_key="key-given", server_url="http://given").endpoint()
    assert (given.secret, given.url) == ("key-given", "http://given")


@both
async def test_without_a_key_mistral_is_not_called_and_other_servers_are(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MISTRAL_API_KEY", raising=False)
    monkeypatch.delenv("MISTRAL_SERVER_URL", raising=False)
    async with SharedResources() as resources:
        with pytest.raises(MissingCredentials, match="set MISTRAL_API_KEY where the worker runs"):
            await make().reply(request(), resources)
    assert make(server_url="http://127.0.0.1:1").endpoint().secret is None


@both
async def test_without_the_sdk_the_extra_is_named(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mistralai.client", None)
    async with SharedResources() as resources:
        with pytest.raises(MissingExtra, match=r"outlast\[mistral\]"):
            await make(server_url="http://127.0.0.1:1").reply(request(), resources)


@both
def test_completion_arguments_that_the_api_does_not_know_are_refused(make: Callable[..., Any]) -> None:
    make().check(graph(completion_args={"temperature": 0.1}))
    with pytest.raises(DefinitionError, match="'a' has unknown completion_args: temprature"):
        make().check(graph(completion_args={"temprature": 0.1}))


def test_a_local_session_refuses_built_in_tools_by_name() -> None:
    searching = graph(built_in_tools=({"type": "web_search"},))
    RemoteSession().check(searching)
    with pytest.raises(NotSupported, match="LocalSession cannot run built-in tool 'web_search' of agent 'a'"):
        LocalSession().check(searching)


@both
async def test_a_reply_may_take_as_long_as_the_session_says(make: Callable[..., Any]) -> None:
    seconds: list[float] = []

    class Watched(PlainContext):
        async def run_step(self, step: Step) -> Any:
            seconds.append(step.options.start_to_close_timeout)
            raise ModelRefused(400, "that is all")

    async with SharedResources() as resources:
        for timeout in (None, 1200.0):
            session = make(server_url="http://127.0.0.1:1", timeout=timeout)
            context = Watched(resources, SystemClock())
            with pytest.raises(ModelRefused):
                await run_agent(Agent(model="m", name="a"), "Go.", session, Bounds(), context)
    assert seconds[0] == 600
    assert seconds[1] > 1200


def test_each_fallback_model_has_the_time_of_a_reply() -> None:
    agent = graph(fallback_models=("n", "o"))["a"]
    assert LocalSession(timeout=300).seconds_max(agent) == 900
