"""Liveness and readiness: what is answered, and where."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any

import pytest

from outlast.cli.health import SILENT_SECONDS, Address, Health, OwnPulse, WorkerHealth, served
from outlast.core.errors import ConfigurationError

LOOPBACK = Address(0, "127.0.0.1")
GOOD = WorkerHealth(7, has_begun=True, silent_seconds=0.0, store_answers=True)
STARTING = WorkerHealth(8, has_begun=False, silent_seconds=0.0, store_answers=None)
SILENT = WorkerHealth(9, has_begun=True, silent_seconds=SILENT_SECONDS + 1, store_answers=True)
WITHOUT_STORE = WorkerHealth(10, has_begun=True, silent_seconds=0.0, store_answers=False)


def ask(port: int, path: str, method: str = "GET") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        is_json = body and response.headers.get_content_type() == "application/json"
        return response.status, json.loads(body) if is_json else None
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("health", "live", "ready", "states"),
    [
        (Health((GOOD,)), 200, 200, ["ready"]),
        (
            Health((STARTING, SILENT, WITHOUT_STORE, GOOD)),
            200,
            200,
            ["starting", "silent", "without store", "ready"],
        ),
        (Health((STARTING,)), 200, 503, ["starting"]),
        (Health((SILENT,)), 200, 503, ["silent"]),
        (Health((WITHOUT_STORE,)), 200, 503, ["without store"]),
        (Health((GOOD,), is_stopping=True), 200, 503, ["ready"]),
        (Health((SILENT,), is_alive=False), 503, 503, ["silent"]),
        (Health(()), 200, 503, []),
    ],
)
def test_each_question_has_its_answer(health: Health, live: int, ready: int, states: list[str]) -> None:
    with served(LOOPBACK, lambda: health) as port:
        status, document = ask(port, "/livez")
        assert status == live
        assert [worker["state"] for worker in document["workers"]] == states
        assert ask(port, "/readyz?verbose")[0] == ready
        assert ask(port, "/readyz", "HEAD") == (ready, None)
        assert ask(port, "/")[0] == 404
        assert ask(port, "/livez", "POST")[0] == 501


def test_many_ask_at_once_while_one_says_nothing() -> None:
    with served(LOOPBACK, lambda: Health((GOOD,))) as port:
        silent = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        silent.connect()
        found: list[int] = []
        threads = [threading.Thread(target=lambda: found.append(ask(port, "/readyz")[0])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        silent.close()
    assert found == [200] * 8


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid"])
def test_an_address_that_cannot_be_used_says_which_options_to_change(host: str) -> None:
    with served(LOOPBACK, lambda: Health(())) as port:
        place = served(Address(port, host), lambda: Health(()))
        with pytest.raises(ConfigurationError, match="another --health-port or --health-host"), place:
            pass


def test_a_worker_without_a_supervisor_is_dead_when_its_loop_stands_still() -> None:
    pulse = OwnPulse(1, dead_seconds=1e9)
    assert not pulse.health().is_ready
    pulse.beat()
    pulse.store_answers = True
    assert pulse.health().is_ready
    pulse.is_stopping = True
    assert not pulse.health().is_ready
    still = OwnPulse(1, dead_seconds=0.0)
    assert still.health().is_alive
    still.beat()
    assert not still.health().is_alive
