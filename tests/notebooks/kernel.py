"""A Jupyter kernel, the process that runs the cells of a notebook."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CELL_SECONDS = 60.0


@dataclass
class Cell:
    """The outcome of one cell."""

    printed: str = ""
    shown: dict[str, str] = field(default_factory=dict)
    """The value of its last line, by MIME type."""
    error: str = ""


class Kernel:
    """A kernel that was started."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def run(self, code: str) -> Cell:
        """Run a cell, and return its outcome."""
        cell = Cell()

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    cell.printed += content["text"]
                case "execute_result" | "display_data":
                    cell.shown = content["data"]
                case "error":
                    cell.error = f"{content['ename']}: {content['evalue']}"

        await self._client.execute_interactive(code, timeout=CELL_SECONDS, output_hook=take)
        return cell


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Kernel]:
    """Start a kernel in `folder`, and end it with the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Jupyter's own are not what is tested.
        from jupyter_client.manager import AsyncKernelManager

        manager = AsyncKernelManager(kernel_name="python3")
        await manager.start_kernel(cwd=str(folder))
        client = manager.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=CELL_SECONDS)
            yield Kernel(client)
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)
