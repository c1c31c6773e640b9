"""Simulation: workers, their store and their clocks in one process, with every fault chosen by one seed.

A seed stands for a *scenario*: a short random program of a workflow or of agents, a number of workers, and a
few faults, each with its place. The program runs twice in simulated time: once without faults and once with
them. Both must give the same result and the same transcript, and a referee watches every call of the store.
Nothing in a simulation is real: time jumps from one timer to the next, there is one thread and no system
call, and all that is random comes from the seed. So the same seed gives the same trace, byte for byte.

`scenario` draws scenarios, `faults` is the fault model, `host` and `store` make faults happen, `referee`
holds the rules, `loop` and `chance` keep the real world out, `simulation` runs it all, and `seeds` finds,
replays and shrinks what fails. `python -m outlast.testing.simulation --help` shows how to replay a seed.
"""

import outlast.testing.contracts  # noqa: F401 - programs come from there, and it says which extra is missing
