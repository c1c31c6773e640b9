"""The journal on a Redis or Valkey server or cluster: many workers on many machines, one truth."""

from durable_agents.adapters.redis.deltas import RedisDeltas
from durable_agents.adapters.redis.settings import RedisSettings
from durable_agents.adapters.redis.store import RedisStore

__all__ = ["RedisDeltas", "RedisSettings", "RedisStore"]
