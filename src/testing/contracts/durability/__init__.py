"""The parts of the durability contract suite; `testing.durability_contract` puts them together."""

import pytest

pytest.register_assert_rewrite(
    *(f"{__name__}.{part}" for part in ("code", "executions", "messages", "programs", "steps", "workers"))
)
