"""The files that deploy workers: they parse, their commands exist, and their times fit together."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from outlast.cli.working import CLOSING_SECONDS
from tests.docs.pages import REPOSITORY, blocks_of

FOLDER = REPOSITORY / "deploy"
PAGE = REPOSITORY / "docs" / "how-to" / "deploying.md"
HADOLINT = Path(sys.executable).with_name("hadolint")
MARGIN = timedelta(seconds=15)
"""The page says that whatever ends a worker by force must wait that much longer than `--stop-timeout`."""


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return content


def pod() -> dict[str, Any]:
    content = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    specification: dict[str, Any] = content["spec"]["template"]["spec"]
    return specification


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # as configparser's own docs do
    parser.read(FOLDER / "outlast-worker.service")
    return parser["Service"]


def commands() -> Iterator[list[str]]:
    """Yield the arguments of `outlast` in each file."""
    yield from (service["command"] for name, service in compose()["services"].items() if name != "redis")
    yield pod()["containers"][0]["args"]
    yield shlex.split(unit()["ExecStart"])[1:]


def stops() -> Iterator[tuple[list[str], timedelta]]:
    """Yield the arguments of each worker with the time after which it is ended by force."""
    worker = compose()["services"]["worker"]
    yield worker["command"], timedelta(seconds=int(worker["stop_grace_period"].removesuffix("s")))
    yield pod()["containers"][0]["args"], timedelta(seconds=pod()["terminationGracePeriodSeconds"])
    yield shlex.split(unit()["ExecStart"])[1:], timedelta(seconds=int(unit()["TimeoutStopSec"]))


@pytest.mark.parametrize("command", [*commands()], ids=lambda command: " ".join(command)[:40])
def test_a_command_and_its_options_exist(command: list[str]) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "outlast.cli", command[0], "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"},
    ).stdout
    options = {word for word in command if word.startswith("--")}
    assert options
    assert options <= set(re.findall(r"--[a-z-]+", shown))
    assert (FOLDER / f"{command[1]}.py").exists()


@pytest.mark.parametrize(("command", "grace"), [*stops()], ids=["compose", "kubernetes", "systemd"])
def test_a_worker_is_not_ended_by_force_before_it_has_handed_over(
    command: list[str], grace: timedelta
) -> None:
    stop = timedelta(seconds=float(command[command.index("--stop-timeout") + 1]))
    assert timedelta(seconds=CLOSING_SECONDS) < MARGIN
    assert grace >= stop + MARGIN


def test_probes_ask_what_a_worker_answers() -> None:
    [container] = pod()["containers"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "health"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
    [port] = container["ports"]
    args = container["args"]
    assert (port["name"], str(port["containerPort"])) == ("health", args[args.index("--health-port") + 1])
    assert args[args.index("--health-host") + 1] == "0.0.0.0"
    dockerfile = (FOLDER / "Dockerfile").read_text()
    assert f"EXPOSE {port['containerPort']}\n" in dockerfile
    assert f"http://127.0.0.1:{port['containerPort']}/livez" in dockerfile


def test_nothing_is_open_to_other_machines_and_nothing_runs_as_root() -> None:
    services = compose()["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for name in ("worker", "inspector"):
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
        assert services[name]["cap_drop"] == ["ALL"]
    assert services["worker"]["deploy"]["replicas"] == 2
    user = re.search(r"^USER (\d+)$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    assert int(user[1]) == pod()["containers"][0]["securityContext"]["runAsUser"] > 0
    assert unit()["DynamicUser"] == "yes"


def test_no_file_holds_a_secret() -> None:
    given = [compose()["services"]["worker"]["environment"]["MISTRAL_API_KEY"]]
    assert all(value.startswith("${MISTRAL_API_KEY:?") for value in given)
    assert pod()["containers"][0].get("env", []) == []


def test_the_page_shows_the_files_as_they_are() -> None:
    shown = {block.title: block.text for block in blocks_of(PAGE) if block.title}
    files = [file for file in FOLDER.iterdir() if file.suffix not in (".py", ".pyc") and file.is_file()]
    assert shown == {f"deploy/{file.name}": file.read_text() for file in files}


def test_the_program_defines_its_workflow() -> None:
    program = "import deals; print(deals.DealAnalysis.__name__)"
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=FOLDER, capture_output=True, text=True, check=True
    )
    assert found.stdout == "DealAnalysis\n"


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint has no wheel for this machine")
def test_the_dockerfile_has_no_fault_that_hadolint_finds() -> None:
    # DL3013 wants versions beside the names of packages; the wheel has them.
    found = subprocess.run(
        [HADOLINT, "--no-color", "--ignore", "DL3013", FOLDER / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout) == (0, "")


def has_compose() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not has_compose(), reason="docker compose is not installed")
def test_docker_reads_the_compose_file() -> None:
    subprocess.run(
        ["docker", "compose", "--file", FOLDER / "compose.yaml", "config", "--quiet"],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "MISTRAL_API_KEY": "k", "HOME": "/tmp"},
        check=True,
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    text = (
        (FOLDER / "outlast-worker.service")
        .read_text()
        .replace("/opt/deals/.venv/bin/outlast", sys.executable)
    )
    file = tmp_path / "outlast-worker.service"
    file.write_text(text)
    found = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    assert "outlast-worker.service" not in found.stderr
