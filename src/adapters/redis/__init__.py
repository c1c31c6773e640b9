"""The journal on a Redis or Valkey server or cluster, shared by workers on any number of machines."""

from outlast.adapters.redis.deltas import RedisDeltas
from outlast.adapters.redis.settings import RedisSettings
from outlast.adapters.redis.store import RedisStore

__all__ = ["RedisDeltas", "RedisSettings", "RedisStore"]
