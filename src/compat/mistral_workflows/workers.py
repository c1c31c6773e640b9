"""Workers, with the arguments that Mistral Workflows gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outlast.compat.mistral_workflows.refusals import SETTINGS, refuse_arguments
from outlast.composition import running
from outlast.ports.durability.backend import Backend

REFUSED = {
    "detach": "write `task = asyncio.create_task(workflows.run_worker([...]))`",
    "api_key": "sessions read MISTRAL_API_KEY where the worker runs, or are given `api_key=`",
    "namespace": "it is part of the backend's URL: `temporal://host:7233/namespace`",
    "enable_config_discovery": SETTINGS,
}


async def run_worker(
    workflows: Sequence[type[Any]],
    detach: bool = False,
    api_key: str | None = None,
    namespace: str | None = None,
    enable_config_discovery: bool | None = None,
    *,
    backend: Backend | str | None = None,
    **options: Any,
) -> None:
    """Run a worker until SIGINT or SIGTERM; then stop gracefully.

    The backend is that of OUTLAST_BACKEND, else an SQLite file in the working directory. The options are
    those of `outlast.run_worker`.

    Raises:
        NotSupported: an argument has no counterpart.
    """
    refused = {
        "detach": detach,
        "api_key": api_key,
        "namespace": namespace,
        "enable_config_discovery": enable_config_discovery,
    }
    refuse_arguments("run_worker()", [name for name, value in refused.items() if value], REFUSED)
    await running.run_worker(workflows, backend, **options)
