"""`outlast inspect`, as a shell starts it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from typer.testing import CliRunner

from outlast.cli.commands import app
from outlast.cli.inspecting import title_of
from tests.children import Child

COMMAND = [sys.executable, "-m", "outlast.cli", "inspect"]


@contextmanager
def serving(*options: str) -> Iterator[Child]:
    process = Child([*COMMAND, *options], stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("shop")
def test_the_page_is_served_under_the_printed_url_until_ctrl_c() -> None:
    CliRunner().invoke(app, ["start", "shop:order", "apple"])
    backend = "sqlite:///shop.db?synchronous=normal"
    with serving("shop", "--port", "0", "--backend", backend, "--read-only") as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[0-9a-f]{48}", url)
        with httpx2.Client(follow_redirects=True) as client:
            assert '<div id="app">' in client.get(url).text
            about = client.get(f"{url.partition('?')[0]}api/about").json()
        assert (about["title"], about["read_only"]) == ("sqlite:///shop.db", True)
        process.send_signal(signal.SIGINT)
        assert (process.stdout.read(), process.wait(30)) == (b"", 0)


@pytest.mark.usefixtures("shop")
def test_a_port_in_use_is_one_clear_error() -> None:
    CliRunner().invoke(app, ["start", "shop:order", "apple"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = CliRunner().invoke(app, ["inspect", "--port", str(port)])
    assert refused.exit_code == 1
    assert f"cannot listen on port {port}" in refused.stderr


@pytest.mark.parametrize(
    ("url", "title"),
    [
        ("rediss://user:pass%2Fword@redis.example:6380/1?password=secret#x", "rediss://redis.example:6380/1"),
        ("temporal://host:7233/default?api_key_env=KEY", "temporal://host:7233/default"),
        ("sqlite:////var/runs.db", "sqlite:////var/runs.db"),
        ("memory:", "memory:"),
    ],
)
def test_the_title_has_no_secret(url: str, title: str) -> None:
    assert title_of(url) == title
