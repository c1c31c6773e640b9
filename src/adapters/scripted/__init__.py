"""A session that plays a script instead of asking a model."""

from outlast.adapters.scripted.session import Reply, Script, ScriptedSession, call, handoff, say

__all__ = ["Reply", "Script", "ScriptedSession", "call", "handoff", "say"]
