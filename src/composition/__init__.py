"""The composition root: the only place that sees the engine and every adapter."""
