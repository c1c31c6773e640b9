"""Fingerprints: texts that are equal exactly for equal things, which a store keeps instead of the things."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from outlast.core.json import JSON, canonical


def execution_fingerprint(workflow: str, arguments: Mapping[str, JSON]) -> str:
    """Return the fingerprint of a workflow and its arguments."""
    return _fingerprint([workflow, dict(arguments)])


def call_fingerprint(agent: str, tool: str, arguments: Mapping[str, JSON]) -> str:
    """Return the fingerprint of an agent's call of a tool."""
    return _fingerprint([agent, tool, dict(arguments)])


def _fingerprint(data: JSON) -> str:
    return sha256(canonical(data).encode()).hexdigest()
