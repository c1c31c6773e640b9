"""The agent of both LangGraph subjects: a model node and LangGraph's own tool node."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from serving import TEXT


@tool
async def echo(text: str) -> str:
    """Return the text."""
    return text


async def model(state: MessagesState) -> dict[str, Any]:
    messages = state["messages"]
    calls = sum(isinstance(message, ToolMessage) for message in messages)
    if calls >= int(str(messages[0].content)):
        return {"messages": [AIMessage(str(calls))]}
    call = {"name": "echo", "args": {"text": TEXT}, "id": f"c{calls}", "type": "tool_call"}
    return {"messages": [AIMessage("", tool_calls=[call])]}


def graph() -> Any:
    """Return the graph, not yet compiled."""
    built = StateGraph(MessagesState)
    built.add_node("model", model)
    built.add_node("tools", ToolNode([echo]))
    built.add_edge(START, "model")
    built.add_conditional_edges("model", tools_condition, {"tools": "tools", END: END})
    built.add_edge("tools", "model")
    return built


async def turns_of(compiled: Any, turns: int, thread: str) -> int:
    """Run the agent in a new thread."""
    config = {"configurable": {"thread_id": thread}, "recursion_limit": 2 * turns + 10}
    result = await compiled.ainvoke({"messages": [("user", str(turns))]}, config, durability="sync")
    return int(result["messages"][-1].content)
