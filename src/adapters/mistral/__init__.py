"""Mistral's models: the Agents and Conversations API, and chat completions of any server."""

from outlast.adapters.mistral.local import LocalSession
from outlast.adapters.mistral.remote import RemoteSession

__all__ = ["LocalSession", "RemoteSession"]
