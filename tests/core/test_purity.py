"""The core does no I/O, and its results depend only on its input."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from outlast.core.json import decode, encode
from outlast.core.records import encode_record
from tests.core import sample
from tests.core.programs import Recording, executions
from tests.core.stories import Story, stories


@functools.cache
def sampled() -> bytes:
    """Return some stories and some journals, as JSON."""
    runs: list[Any] = []
    journals: list[Any] = []

    @settings(max_examples=50, database=None)
    @given(stories())
    def add_run(story: Story) -> None:
        runs.append([decode(story.start.to_json()), [decode(event.to_json()) for event in story.events]])

    @settings(max_examples=50, database=None)
    @given(executions())
    def record(recording: Recording) -> None:
        journals.append([decode(encode_record(record)) for record in recording.journal])

    add_run()
    record()
    return encode([runs, journals], depth_max=200)


def run_sample(*deeds: str, hash_seed: str = "0") -> subprocess.CompletedProcess[bytes]:
    """Run the sample in a process of its own."""
    return subprocess.run(
        [sys.executable, str(Path(sample.__file__)), *deeds],
        input=sampled(),
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )


def test_the_core_does_no_io_and_its_answers_do_not_depend_on_the_hash_seed() -> None:
    runs = [run_sample(hash_seed=seed) for seed in ("1", "2")]
    assert [(run.returncode, run.stderr) for run in runs] == [(0, b""), (0, b"")]
    one, other = (run.stdout.strip() for run in runs)
    assert len(one) == 64
    assert one == other


@pytest.mark.parametrize("deed", sample.IMPURE)
def test_the_hook_that_forbids_io_bites(deed: str) -> None:
    ended = run_sample(deed)
    assert ended.returncode != 0
    assert b"the core is not pure" in ended.stderr
