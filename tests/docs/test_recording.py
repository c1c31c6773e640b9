"""The recording of the demonstration: made of what it printed, by a script that works."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tests.docs.pages import DOCS

script = runpy.run_path(str(DOCS / "recording.py"))
PRINTED = (DOCS / "demo.txt").read_text(encoding="utf-8")


def test_the_picture_is_made_of_what_was_printed() -> None:
    picture = (DOCS / "images" / "demo.svg").read_text(encoding="utf-8")
    assert script["recording"](PRINTED) == picture, "run `python docs/recording.py`"
    assert "<script" not in picture
    assert len(re.findall(r"<text ", picture)) == len(PRINTED.splitlines()) + 1


def test_lines_appear_in_order_and_no_wait_is_long() -> None:
    lines = ["", "  1.00 s  a", "b", " 20.00 s  c", " 19.00 s  d", " 19.50 s  e"]
    assert script["moments"](lines) == [0.0, 1.0, 1.0, 4.0, 4.0, 4.5]


def test_numbers_that_differ_in_every_run_are_always_the_same_ones(tmp_path: Path) -> None:
    printed = (
        f"{tmp_path}/demo.db\nprocess 31 started\n"
        "worker ada-pc:31:0a1b2c3d was lost; ada-pc:47:4d3c2b1a took over"
    )
    assert script["anonymous"](printed, tmp_path) == (
        "/tmp/demo/demo.db\nprocess 4711 started\n"
        "worker host:4711:00001267 was lost; host:4811:000012cb took over\n"
    )


@pytest.mark.server
@pytest.mark.crash
@pytest.mark.nightly
async def test_the_script_records_a_run_whose_worker_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MISTRAL_API_KEY", raising=False)
    printed = await script["transcript"]()
    assert "process 4711 killed (SIGKILL)" in printed
    assert "Proven: 6 tools were called and had 6 effects; none ran twice, none was lost." in printed
    assert printed.splitlines()[:4] == PRINTED.splitlines()[:4]
