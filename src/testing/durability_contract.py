"""The contract suite of the durability port: inherit it, say how to make storage, and pytest runs it.

    class TestMemoryDurability(DurabilityContract):
        new_storage = InMemory

It knows a backend only as users do (`start`, `get`, `list`, `worker`, handles, workflows and activities), and
storage only as something that several processes have open, one of which may die. Behind each of the promises
D1 to D18 of `ports.durability` stands at least one test with its number. `testing.broken_backends` holds
backends that break one promise each, and the tests of this library prove that each is caught.
"""

from __future__ import annotations

from durable_agents.testing.durability.agents import AgentContract
from durable_agents.testing.durability.approvals import ApprovalContract
from durable_agents.testing.durability.code import CodeContract
from durable_agents.testing.durability.executions import ExecutionContract
from durable_agents.testing.durability.messages import MessageContract
from durable_agents.testing.durability.programs import ProgramContract
from durable_agents.testing.durability.stage import ContractBase
from durable_agents.testing.durability.steps import StepContract
from durable_agents.testing.durability.storage import ALL, Capability, DurabilityStorage
from durable_agents.testing.durability.text import TextContract
from durable_agents.testing.durability.updates import UpdateContract
from durable_agents.testing.durability.values import ValueContract
from durable_agents.testing.durability.workers import WorkerContract

__all__ = ["ALL", "Capability", "DurabilityContract", "DurabilityStorage"]


class DurabilityContract(
    AgentContract,
    ApprovalContract,
    ExecutionContract,
    StepContract,
    MessageContract,
    TextContract,
    UpdateContract,
    ValueContract,
    CodeContract,
    WorkerContract,
    ProgramContract,
    ContractBase,
):
    """Every backend passes all of it, but for tests of a capability that its storage lacks."""
