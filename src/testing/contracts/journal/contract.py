"""The contract suite of the journal port: inherit it, say how to make storage, and pytest runs it.

    class TestSqliteJournal(JournalContract):
        capabilities = ALL - {StoreCapability.PUSH_WAKEUP}
        new_storage = SqliteStorage.in_temporary_file

Each guarantee of `ports.journal` (J1 to J14, I1 to I5, L1 to L9, P1 to P4, K1 to K4) has at least one test
with its number; the other tests check the rest of the docstrings there. Then
`test_random_programs_agree_with_a_list` makes random programs, which nobody would think of. This library's
own tests have stores that break one guarantee each, and prove that each is caught.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from outlast.testing.contracts.examples import USUAL_EXAMPLES, few_examples
from outlast.testing.contracts.journal.amending import AmendingContract
from outlast.testing.contracts.journal.appending import AppendingContract
from outlast.testing.contracts.journal.breaking import BreakingContract
from outlast.testing.contracts.journal.claiming import ClaimingContract
from outlast.testing.contracts.journal.combining import CombiningContract
from outlast.testing.contracts.journal.creating import CreatingContract
from outlast.testing.contracts.journal.crowds import CrowdsContract
from outlast.testing.contracts.journal.finding import FilteringContract
from outlast.testing.contracts.journal.forgetting import ForgettingContract
from outlast.testing.contracts.journal.holding import HoldingContract
from outlast.testing.contracts.journal.messages import InboxContract
from outlast.testing.contracts.journal.moments import MomentsContract
from outlast.testing.contracts.journal.noting import NotingContract
from outlast.testing.contracts.journal.presence import PresenceContract
from outlast.testing.contracts.journal.random_programs import JournalMachine
from outlast.testing.contracts.journal.sizes import SizesContract
from outlast.testing.contracts.journal.stage import MEBIBYTE
from outlast.testing.contracts.journal.storage import ALL, Storage, StoreCapability
from outlast.testing.contracts.journal.waking import WakingContract

__all__ = ["ALL", "MEBIBYTE", "JournalContract", "Storage", "StoreCapability"]


class JournalContract(
    CreatingContract,
    AppendingContract,
    AmendingContract,
    InboxContract,
    ClaimingContract,
    HoldingContract,
    WakingContract,
    PresenceContract,
    FilteringContract,
    CombiningContract,
    NotingContract,
    ForgettingContract,
    SizesContract,
    MomentsContract,
    CrowdsContract,
    BreakingContract,
):
    """Every store passes all tests, except those of a capability that its storage lacks."""

    @pytest.mark.hypothesis
    def test_random_programs_agree_with_a_list(self) -> None:
        self.require(StoreCapability.MOVABLE_CLOCK)
        self.explore(settings(few_examples(USUAL_EXAMPLES), stateful_step_count=30))

    @classmethod
    def explore(cls, chosen: settings) -> None:
        """Run random programs; raises the error of the first disagreement, with its program."""

        class Machine(JournalMachine):
            new_storage = cls.new_storage

        run_state_machine_as_test(Machine, settings=chosen)
