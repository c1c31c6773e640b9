"""Mistral's models: the Agents and Conversations API, and chat completions of any server."""

from durable_agents.adapters.mistral.local import LocalSession
from durable_agents.adapters.mistral.remote import RemoteSession

__all__ = ["LocalSession", "RemoteSession"]
