"""The contract suite of the durability port: inherit it, say how to make storage, and pytest runs it.

    class TestMemoryDurability(DurabilityContract):
        new_storage = InMemory

It knows a backend only as users do (`start`, `get`, `list`, `worker`, handles, workflows and activities), and
storage only as something that several processes have open, one of which may die. Behind each of the promises
D1 to D26 of `ports.durability` stands at least one test with its number. The library's own tests hold
backends that break one promise each, and prove that each is caught.
"""

from __future__ import annotations

from outlast.testing.contracts.durability.agent_programs import AgentProgramContract
from outlast.testing.contracts.durability.agent_tools import AgentToolContract
from outlast.testing.contracts.durability.agents import AgentContract
from outlast.testing.contracts.durability.approvals import ApprovalContract
from outlast.testing.contracts.durability.argument_names import ArgumentNameContract
from outlast.testing.contracts.durability.children import ChildContract
from outlast.testing.contracts.durability.code import CodeContract
from outlast.testing.contracts.durability.contexts import ContextContract
from outlast.testing.contracts.durability.deadlines import DeadlineContract
from outlast.testing.contracts.durability.dependencies import DependencyContract
from outlast.testing.contracts.durability.executions import ExecutionContract
from outlast.testing.contracts.durability.failure_holds import FailureHoldContract
from outlast.testing.contracts.durability.failures import FailureContract
from outlast.testing.contracts.durability.finding import FindingContract
from outlast.testing.contracts.durability.held_back import HeldBackContract
from outlast.testing.contracts.durability.isolation import IsolationContract
from outlast.testing.contracts.durability.leases import LeaseContract
from outlast.testing.contracts.durability.many_tools import ManyToolsContract
from outlast.testing.contracts.durability.messages import MessageContract
from outlast.testing.contracts.durability.method_references import MethodReferenceContract
from outlast.testing.contracts.durability.money import MoneyContract
from outlast.testing.contracts.durability.pausing import PausingContract
from outlast.testing.contracts.durability.poison import PoisonContract
from outlast.testing.contracts.durability.programs import ProgramContract
from outlast.testing.contracts.durability.questions import QuestionContract
from outlast.testing.contracts.durability.raising import RaisingContract
from outlast.testing.contracts.durability.rerun_programs import RerunProgramContract
from outlast.testing.contracts.durability.reruns import RerunContract
from outlast.testing.contracts.durability.resume_contract import ResumeContract
from outlast.testing.contracts.durability.runs import RunContract
from outlast.testing.contracts.durability.stage import DurabilityContractBase
from outlast.testing.contracts.durability.steering import SteeringContract
from outlast.testing.contracts.durability.steps import StepContract
from outlast.testing.contracts.durability.storage import ALL, BackendCapability, DurabilityStorage
from outlast.testing.contracts.durability.text import TextContract
from outlast.testing.contracts.durability.typed_values import TypedValueContract
from outlast.testing.contracts.durability.updates import UpdateContract
from outlast.testing.contracts.durability.values import ValueContract
from outlast.testing.contracts.durability.waits import WaitsContract
from outlast.testing.contracts.durability.workers import WorkerContract

__all__ = ["ALL", "BackendCapability", "DurabilityContract", "DurabilityStorage"]


class DurabilityContract(
    AgentContract,
    AgentProgramContract,
    AgentToolContract,
    ApprovalContract,
    ContextContract,
    DeadlineContract,
    DependencyContract,
    ExecutionContract,
    ManyToolsContract,
    StepContract,
    MessageContract,
    MethodReferenceContract,
    MoneyContract,
    QuestionContract,
    RaisingContract,
    SteeringContract,
    ChildContract,
    RunContract,
    TextContract,
    UpdateContract,
    ValueContract,
    TypedValueContract,
    ArgumentNameContract,
    CodeContract,
    WorkerContract,
    LeaseContract,
    IsolationContract,
    PoisonContract,
    PausingContract,
    FailureContract,
    FailureHoldContract,
    FindingContract,
    HeldBackContract,
    WaitsContract,
    RerunContract,
    RerunProgramContract,
    ResumeContract,
    ProgramContract,
    DurabilityContractBase,
):
    """Every backend passes all of it, except tests of a capability that its storage lacks."""
