"""The values of random programs against a store: few of each, so that programs meet the same ones again."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from outlast.core.records import Status
from outlast.ports.finding import Where

IDS = ("e", "f")

ids = st.sampled_from(IDS)
workflows = st.sampled_from(["v", "w"])
workers = st.sampled_from(["a", "b"])
seconds = st.sampled_from([0.0, 0.25, 1.0, 5.0, 10.0])
leases = st.sampled_from([1.0, 5.0, 10.0])
contents = st.binary(max_size=8)
batches = st.lists(contents, max_size=2)
shares = st.sampled_from([1.0, None, 0.5, 0.0])
"""The share of the messages that an append consumes."""
wake_ins = st.sampled_from([None, 0.0, 5.25, 100.0, -100.0])
counts = st.sampled_from([None, 0, 1, 3])
"""The value of `fruitless` in an append."""
reasons = st.none() | st.sampled_from(["", "a reason", "ünïcode 'quoted'"])
overviews = st.none() | st.sampled_from(["", "an overview", "ünïcode 'quoted'"])
words = st.sampled_from([None, None, "", "timer", "signal"])
"""Words for a wait."""
taggings = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2"]), max_size=2)
changes_of_tags = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2", None]), max_size=2)
filters = st.builds(
    Where,
    workflow=st.sampled_from([None, None, "v", "w"]),
    status=st.sampled_from([None, None, *Status]),
    tags=st.just({}) | taggings,
    id_prefix=st.sampled_from([None, None, "", "e", "f", "fg"]),
    waiting_for=st.sampled_from([None, None, "timer", "signal"]),
)
ends = st.sampled_from([status for status in Status if status not in (Status.RUNNING, Status.PAUSED)])
nths = st.integers(min_value=0, max_value=len(IDS) - 1)


@dataclass(frozen=True)
class Moment:
    """The time of a step, and the open store that it uses."""

    store: int
    after_seconds: float
    reopens: bool = False
    """The store is closed and opened first. A worker still owns its executions until their leases run out."""


moments = st.builds(
    Moment,
    store=st.sampled_from([0, 1]),
    after_seconds=st.sampled_from([0.0, 0.0, 0.25, 5.0, 10.0]),
    reopens=st.sampled_from([False, False, False, True]),
)
NOW = Moment(store=0, after_seconds=0.0)
