"""Fixtures of the fault tests: chance, by a seed that can be given, and a file of effects."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from outlast.testing.contracts.crash.effects import EFFECTS, Effects


@pytest.fixture
def effects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Effects:
    """Count the effects of the workers of this process here."""
    monkeypatch.setenv(EFFECTS, str(tmp_path / "effects"))
    return Effects(tmp_path / "effects")


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("OUTLAST_SEED") or random.randrange(2**32))
    print(f"OUTLAST_SEED={seed}")
    return random.Random(seed)
