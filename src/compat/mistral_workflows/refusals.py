"""The names and arguments without a counterpart, and the advice for each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

from outlast.core.errors import NotSupported

PAGE = "see docs/how-to/migrating-from-mistral.md"

ASK = "ask a person with `await outlast.workflow.ask(question, AnswerType)`"
CHAT = f"`outlast.AgentWorkflow` is a conversation that waits for messages; {ASK}"
CLIENT = "call Mistral's SDK in an activity of your own: `from mistralai.client import Mistral`"
CONNECTOR = 'give the agent `tools=[outlast.ConnectorTool("name")]`, which Mistral\'s server runs'
QUEUE = "give the executions a `task_queue` of their own, and run one worker for it"
SCHEDULE = "let cron, or a timer of systemd or Kubernetes, call `outlast start` with an id made from the date"
SETTINGS = (
    "set OUTLAST_BACKEND to the URL of the backend and MISTRAL_API_KEY to the key, and give the options of a "
    "worker to `run_worker`"
)
TAGS = "find executions by tags: `outlast.workflow.tag({...})` in the workflow, or `tags=` at the start"
WATCH = "read what an execution does from `async for event in execution.events()`"
STICKY = "let one activity do the work that needs one process, or hold what is shared with `outlast.Depends`"

WORKFLOWS = {
    "DependencyInjector": "`Depends` needs no injector: a worker opens what it names, and closes it",
    "RateLimit": f"limit a worker with `max_concurrent_activities`; {QUEUE}",
    "Schedule": SCHEDULE,
    "ScheduleCalendar": SCHEDULE,
    "ScheduleInterval": SCHEDULE,
    "ScheduleOverlapPolicy": SCHEDULE,
    "SchedulePolicy": SCHEDULE,
    "ScheduleRange": SCHEDULE,
    "StickyWorkerSession": STICKY,
    "WorkflowsConfig": SETTINGS,
    "config": SETTINGS,
    "discover_all_workflows_in_package": "give `outlast worker` the module, and it finds the workflows",
    "get_registered_workflow_names": "keep the list that you give to `run_worker`",
    "get_sticky_worker_session": STICKY,
    "get_workflow_definition": "a workflow's class is its definition; `outlast check` checks it",
    "get_workflow_registration_ref": "workflows are not registered anywhere; workers announce what they run",
    "run_sticky_worker_session": STICKY,
    "task": WATCH,
    "task_from": WATCH,
}

PLUGIN = {
    **dict.fromkeys(
        (
            "ACCEPT_OPTION_VALUE",
            "AcceptDeclineConfirmation",
            "CanvasInput",
            "CanvasPayload",
            "CanvasResource",
            "ChatAssistantWorkflowOutput",
            "ChatAssistantWorkingTask",
            "ChatInput",
            "ChatInputModel",
            "ConfirmationInput",
            "ConfirmationInputModel",
            "DECLINE_OPTION_VALUE",
            "LE_CHAT_INPUT_TAG",
            "ResourceOutput",
            "TextOutput",
            "TodoList",
            "TodoListItem",
            "UIComponentResource",
            "input_tag",
            "is_accepted",
            "le_chat_input",
            "send_assistant_message",
        ),
        f"it draws in Mistral's chat application; {CHAT}",
    ),
    **dict.fromkeys(
        (
            "AgentUpdateRequest",
            "AssistantMessage",
            "ChatCompletionRequest",
            "ChatCompletionRequestMessage",
            "ChatCompletionResponse",
            "ConversationAppendRequest",
            "ConversationRequest",
            "ConversationResponse",
            "CreateAgentRequest",
            "DeltaMessage",
            "EmbeddingRequest",
            "EmbeddingResponse",
            "Function",
            "FunctionCall",
            "Mistral",
            "MistralEmbeddingsParams",
            "OCRRequest",
            "OCRResponse",
            "ResponseFormat",
            "SystemMessage",
            "Tool",
            "ToolCall",
            "ToolMessage",
            "UserMessage",
            "chat_parse_to_model",
            "get_mistral_client",
            "mistralai_append_conversation",
            "mistralai_append_conversation_stream",
            "mistralai_chat_complete",
            "mistralai_chat_parse",
            "mistralai_chat_stream",
            "mistralai_create_agent",
            "mistralai_embeddings",
            "mistralai_ocr",
            "mistralai_start_conversation",
            "mistralai_start_conversation_stream",
            "mistralai_update_agent",
        ),
        f"{CLIENT}, or give the work to an agent with `Runner.run`",
    ),
    **dict.fromkeys(
        (
            "ConnectorAuthInterceptor",
            "ConnectorAuthTimeout",
            "ConnectorError",
            "ConnectorSlot",
            "ConnectorToolCallError",
            "ResolvedConnectorBinding",
            "ToolCallClient",
            "connector",
            "connector_get_auth_url",
            "connector_get_mcp_app_resource_uris",
            "connector_resolve",
            "connector_tool_call",
            "uses_connectors",
        ),
        CONNECTOR,
    ),
    "LocalSessionInputs": "the inputs of a run are texts, chunks and entries; see `Runner.run`",
    "LocalSessionOutputs": "the outputs of a run are chunks, `outlast.TextChunk` among them",
    "MCPConfig": "annotate with `outlast.ports.tools.ToolSource`",
    "RemoteSessionInputs": "the inputs of a run are texts, chunks and entries; see `Runner.run`",
    "RemoteSessionOutputs": "the outputs of a run are chunks, `outlast.TextChunk` among them",
    "collect_mcp_tools": "give the servers to the agent: `mcp_clients=[...]`",
    "execute_mcp_tool": "give the servers to the agent: `mcp_clients=[...]`",
    "MockSession": "write the replies of the model with `outlast.ScriptedSession`",
}


def refusing(module: str, known: Mapping[str, str]) -> Callable[[str], NoReturn]:
    """Return the `__getattr__` of a module, which refuses the names in `known` with their advice.

    Raises (when called):
        NotSupported: the framework has the name, and there is no counterpart.
        AttributeError: nobody has it.
    """

    def missing(name: str) -> NoReturn:
        if name in known:
            raise NotSupported(f"{_there(module)}.{name} has no counterpart: {known[name]} ({PAGE})")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return missing


def refusing_all(module: str, advice: str) -> Callable[[str], NoReturn]:
    """Return the `__getattr__` of a module without a counterpart: every public name is refused."""

    def missing(name: str) -> NoReturn:
        if not name.startswith("_"):
            raise NotSupported(f"{_there(module)}.{name} has no counterpart: {advice} ({PAGE})")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return missing


def refuse_arguments(
    what: str, given: Collection[str], advice: Mapping[str, str], possible: Collection[str] = ()
) -> None:
    """Refuse the keyword arguments that `what` does not take.

    Raises:
        NotSupported: there is one. It says what to write instead of one that the framework has.
    """
    for name in given:
        if name in advice:
            raise NotSupported(f"{what} has no counterpart of {name}=: {advice[name]} ({PAGE})")
        raise NotSupported(f"{what} has no argument {name!r}. Its arguments: {', '.join(possible)}")


def _there(module: str) -> str:
    """Return the name that the module has in the framework."""
    return module.replace("outlast.compat.mistral_workflows", "mistralai.workflows")
