"""A folder with a user's module, as the command line finds it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SHOP = """
import asyncio
import outlast


@outlast.activity()
async def price_of(article: str) -> float:
    return 2.5


@outlast.workflow.define(name="order")
class Order:
    @outlast.workflow.entrypoint
    async def run(self, article: str, count: int = 1) -> dict[str, float]:
        return {"total": count * await price_of(article)}


@outlast.workflow.define(name="refusal")
class Refusal:
    @outlast.workflow.entrypoint
    async def run(self, reason: str = "out of stock") -> None:
        raise ValueError(reason)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: it holds `shop.py`, and executions go to an SQLite file beside it."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OUTLAST_BACKEND", "sqlite:///shop.db")
    yield tmp_path
    sys.modules.pop("shop", None)
