"""The demonstration: a process is killed in the middle of an analysis, and another process finishes it."""
