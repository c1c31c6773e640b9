"""The contract suite of the journal port: inherit it, say how to make storage, and pytest runs it.

    class TestSqliteJournal(JournalContract):
        capabilities = ALL - {Capability.PUSH_WAKEUP}
        new_storage = SqliteStorage.in_temporary_file

Behind each guarantee of `ports.journal` (J1 to J7, I1 to I3, L1 to L5, P1 to P4, K1) stands at least one test
with its number; the others are about what the docstrings there say besides.
`test_random_programs_agree_with_a_list` then grows programs that nobody thought of. `testing.broken_stores`
holds stores that break one guarantee each, and the tests of this library prove that each is caught.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from durable_agents.testing.journal.appending import AppendingContract
from durable_agents.testing.journal.claiming import ClaimingContract
from durable_agents.testing.journal.creating import CreatingContract
from durable_agents.testing.journal.forgetting import CatalogueContract
from durable_agents.testing.journal.messages import MessageContract
from durable_agents.testing.journal.presence import PresenceContract
from durable_agents.testing.journal.stage import MEBIBYTE
from durable_agents.testing.journal.waking import WakingContract
from durable_agents.testing.journal_machine import JournalMachine
from durable_agents.testing.storage import ALL, Capability, Storage

__all__ = ["ALL", "MEBIBYTE", "Capability", "JournalContract", "Storage"]


class JournalContract(
    CreatingContract,
    AppendingContract,
    MessageContract,
    ClaimingContract,
    WakingContract,
    PresenceContract,
    CatalogueContract,
):
    """Every store passes all of it, but for tests of a capability that its storage lacks."""

    @pytest.mark.hypothesis
    def test_random_programs_agree_with_a_list(self) -> None:
        self.require(Capability.MOVABLE_CLOCK)
        self.explore(settings(stateful_step_count=30))

    @classmethod
    def explore(cls, chosen: settings) -> None:
        """Run random programs; raises what the first disagreement raises, with the program that led to it."""

        class Machine(JournalMachine):
            new_storage = cls.new_storage

        run_state_machine_as_test(Machine, settings=chosen)
