"""An `async def` test that nobody awaits would always pass; so each way to write one is shown to fail."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

FAILING_TESTS = """
import asyncio

import pytest
from hypothesis import given, strategies as st


class Contract:
    @pytest.fixture
    async def three(self):
        await asyncio.sleep(0)
        yield 3

    async def test_in_an_inherited_class(self, three):
        await asyncio.sleep(0)
        assert three == 4

    @given(number=st.integers())
    async def test_in_an_inherited_class_under_given(self, number):
        await asyncio.sleep(0)
        assert number < 100


class TestOne(Contract):
    pass


class TestOther(Contract):
    pass


async def test_in_a_function():
    await asyncio.sleep(0)
    assert False


@given(number=st.integers())
async def test_in_a_function_under_given(number):
    await asyncio.sleep(0)
    assert number < 100


async def test_whose_callback_raises():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
"""


def test_every_way_to_write_an_async_test_can_fail(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((REPOSITORY / "tests" / "conftest.py").read_text())
    (tmp_path / "test_failing.py").write_text(FAILING_TESTS)
    configuration = ["-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(tmp_path)]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *configuration, "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    report = finished.stdout
    assert "7 failed" in report.splitlines()[-1], report
    reasons = {"assert 3 == 4": 2, "assert 100 < 100": 3, "assert False": 1, "ZeroDivisionError": 1}
    assert {reason: len(re.findall(rf"^E +{reason}", report, re.MULTILINE)) for reason in reasons} == reasons
