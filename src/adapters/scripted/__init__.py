"""A session that plays a script instead of asking a model."""

from outlast.adapters.scripted.model import (
    ModelCall,
    ModelFailure,
    Reply,
    ScriptExhausted,
    WrongReply,
    call,
    calls,
    fail,
    handoff,
    is_output_value,
    output_text,
    say,
)
from outlast.adapters.scripted.session import Script, ScriptedSession

__all__ = [
    "ModelCall",
    "ModelFailure",
    "Reply",
    "Script",
    "ScriptExhausted",
    "ScriptedSession",
    "WrongReply",
    "call",
    "calls",
    "fail",
    "handoff",
    "is_output_value",
    "output_text",
    "say",
]
