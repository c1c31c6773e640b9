"""The bodies of requests. They are strict: an unknown field is refused with `extra_forbidden`.

They are written by hand from the description of the API. The tests compare them with that description.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Metadata = dict[str, Any]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


# Content chunks


class TextChunkBody(Body):
    type: Literal["text"] = "text"
    text: str


class ImageUrl(Body):
    url: str
    detail: Literal["low", "auto", "high"] | None = None


class ImageUrlChunk(Body):
    type: Literal["image_url"] = "image_url"
    image_url: ImageUrl | str


class DocumentUrlChunk(Body):
    type: Literal["document_url"] = "document_url"
    document_url: str
    document_name: str | None = None


class ToolFileChunkBody(Body):
    type: Literal["tool_file"] = "tool_file"
    tool: str
    file_id: str
    file_name: str | None = None
    file_type: str | None = None


class ToolReferenceChunkBody(Body):
    type: Literal["tool_reference"] = "tool_reference"
    tool: str
    title: str
    url: str | None = None
    favicon: str | None = None
    description: str | None = None


class ReferenceChunk(Body):
    type: Literal["reference"] = "reference"
    reference_ids: list[int | str]


class FileChunk(Body):
    type: Literal["file"] = "file"
    file_id: str


class AudioChunk(Body):
    type: Literal["input_audio"] = "input_audio"
    input_audio: str


class ThinkingChunkBody(Body):
    type: Literal["thinking"] = "thinking"
    thinking: list[TextChunkBody | ToolReferenceChunkBody | ReferenceChunk]
    signature: str | None = None
    closed: bool = True


InputChunk = TextChunkBody | ImageUrlChunk | ToolFileChunkBody | DocumentUrlChunk | ThinkingChunkBody
OutputChunk = InputChunk | ToolReferenceChunkBody
ChatChunk = (
    TextChunkBody
    | ImageUrlChunk
    | DocumentUrlChunk
    | ReferenceChunk
    | FileChunk
    | ThinkingChunkBody
    | AudioChunk
)


# Tools and completion arguments


class Function(Body):
    name: str
    description: str = ""
    strict: bool = False
    parameters: dict[str, Any]


class ToolConfiguration(Body):
    exclude: list[str] | None = None
    include: list[str] | None = None
    requires_confirmation: list[str] | None = None


class FunctionToolBody(Body):
    type: Literal["function"] = "function"
    function: Function


class BuiltInToolBody(Body):
    type: Literal["web_search", "web_search_premium", "code_interpreter", "image_generation"]
    tool_configuration: ToolConfiguration | None = None


class DocumentLibraryToolBody(Body):
    type: Literal["document_library"]
    library_ids: list[str] = Field(min_length=1)
    tool_configuration: ToolConfiguration | None = None


class Authorization(Body):
    type: Literal["oauth2-token", "api-key"]
    value: str


class ConnectorToolBody(Body):
    type: Literal["connector"]
    connector_id: str
    authorization: Authorization | None = None
    tool_configuration: ToolConfiguration | None = None


Tool = Annotated[
    FunctionToolBody | BuiltInToolBody | DocumentLibraryToolBody | ConnectorToolBody,
    Field(discriminator="type"),
]
Tools = Annotated[list[Tool], Field(max_length=128)]


class JsonSchema(Body):
    name: str
    description: str | None = None
    schema_definition: dict[str, Any] = Field(alias="schema")
    strict: bool = False


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class Prediction(Body):
    type: Literal["content"] = "content"
    content: str = ""


ToolChoiceName = Literal["auto", "none", "any", "required"]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Penalty = Annotated[float, Field(ge=-2, le=2)]


class CompletionArgs(Body):
    stop: str | list[str] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    temperature: float | None = Field(None, ge=0, le=1)
    top_p: float | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, ge=0)
    random_seed: int | None = Field(None, ge=0)
    prediction: Prediction | None = None
    response_format: ResponseFormat | None = None
    tool_choice: ToolChoiceName = "auto"
    reasoning_effort: ReasoningEffort | None = None


Guardrails = list[dict[str, Any]] | None


# Agents


class CreateAgent(Body):
    model: str
    name: str
    description: str | None = None
    instructions: str | None = None
    tools: Tools = []
    completion_args: CompletionArgs = CompletionArgs()
    guardrails: Guardrails = None
    handoffs: list[str] | None = Field(None, min_length=1)
    metadata: Metadata | None = None
    version_message: str | None = Field(None, max_length=500)


class UpdateAgent(CreateAgent):
    model: str | None = None  # type: ignore[assignment]  # may be left out
    name: str | None = None  # type: ignore[assignment]  # may be left out
    deployment_chat: bool | None = None


# Conversations


class Entry(Body):
    object: Literal["entry"] = "entry"
    id: str | None = None
    created_at: str | None = None
    completed_at: str | None = None


class MessageInputBody(Entry):
    type: Literal["message.input"] = "message.input"
    role: Literal["user", "assistant"]
    content: str | list[InputChunk]
    prefix: bool = False


class MessageOutputBody(Entry):
    type: Literal["message.output"] = "message.output"
    agent_id: str | None = None
    model: str | None = None
    role: Literal["assistant"] = "assistant"
    content: str | list[OutputChunk]


class FunctionCallEntry(Entry):
    type: Literal["function.call"] = "function.call"
    agent_id: str | None = None
    model: str | None = None
    tool_call_id: str
    name: str
    arguments: dict[str, Any] | str
    confirmation_status: Literal["pending", "allowed", "denied"] | None = None


class FunctionResultBody(Entry):
    type: Literal["function.result"] = "function.result"
    tool_call_id: str
    result: str


class ToolExecutionBody(Entry):
    type: Literal["tool.execution"] = "tool.execution"
    agent_id: str | None = None
    model: str | None = None
    name: str
    arguments: str
    info: dict[str, Any] = {}


class AgentHandoffBody(Entry):
    type: Literal["agent.handoff"] = "agent.handoff"
    previous_agent_id: str
    previous_agent_name: str
    next_agent_id: str
    next_agent_name: str


InputEntry = (
    MessageInputBody
    | MessageOutputBody
    | FunctionResultBody
    | FunctionCallEntry
    | ToolExecutionBody
    | AgentHandoffBody
)
Inputs = str | list[InputEntry]
HandoffExecution = Literal["server", "client"]


class StartConversation(Body):
    inputs: Inputs
    stream: bool | None = None
    store: bool | None = None
    handoff_execution: HandoffExecution | None = None
    instructions: str | None = None
    tools: Tools | None = None
    completion_args: CompletionArgs | None = None
    guardrails: Guardrails = None
    name: str | None = None
    description: str | None = None
    metadata: Metadata | None = None
    agent_id: str | None = None
    agent_version: int | str | None = None
    model: str | None = None


class ToolConfirmationBody(Body):
    tool_call_id: str
    confirmation: Literal["allow", "deny"]


class AppendConversation(Body):
    inputs: Inputs = []
    stream: bool = False
    store: bool = True
    handoff_execution: HandoffExecution = "server"
    completion_args: CompletionArgs | None = None
    tool_confirmations: list[ToolConfirmationBody] | None = None


class RestartConversation(Body):
    inputs: Inputs
    stream: bool = False
    store: bool = True
    handoff_execution: HandoffExecution = "server"
    completion_args: CompletionArgs | None = None
    guardrails: Guardrails = None
    metadata: Metadata | None = None
    from_entry_id: str
    agent_version: int | str | None = None


# Chat completions


class FunctionCallBody(Body):
    name: str
    arguments: dict[str, Any] | str


class ToolCallBody(Body):
    id: str = "null"
    type: Literal["function"] = "function"
    function: FunctionCallBody
    index: int = 0


class SystemMessage(Body):
    role: Literal["system"]
    content: str | list[TextChunkBody | ThinkingChunkBody]


class UserMessage(Body):
    role: Literal["user"]
    content: str | list[ChatChunk] | None


class AssistantMessage(Body):
    role: Literal["assistant"]
    content: str | list[ChatChunk] | None = None
    tool_calls: list[ToolCallBody] | None = None
    prefix: bool = False


class ToolMessage(Body):
    role: Literal["tool"]
    content: str | list[ChatChunk] | None
    tool_call_id: str | None = None
    name: str | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class FunctionName(Body):
    name: str


class NamedToolChoice(Body):
    type: Literal["function"] = "function"
    function: FunctionName


class ChatCompletion(Body):
    model: str
    messages: list[Message]
    temperature: float | None = Field(None, ge=0, le=1.5)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=0)
    min_tokens: int | None = Field(None, ge=0)
    stream: bool = False
    stop: str | list[str] | None = None
    random_seed: int | None = Field(None, ge=0)
    metadata: Metadata | None = None
    response_format: ResponseFormat | None = None
    tools: Tools | None = None
    tool_choice: ToolChoiceName | NamedToolChoice = "auto"
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    n: int | None = Field(None, ge=1)
    prediction: Prediction | None = None
    parallel_tool_calls: bool = True
    reasoning_effort: ReasoningEffort | None = None
    prompt_mode: Literal["reasoning"] | None = None
    guardrails: Guardrails = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    safe_prompt: bool = False
