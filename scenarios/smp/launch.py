"""The keys around the parameters: how processes are started, and on which instances.

"Run a Distributed Training Job Using the SageMaker Python SDK", "Parameters for mpi"; the estimator's ``distribution``,
``instance_type`` and ``instance_count`` are those of the SageMaker Python SDK's estimators.
"""

from __future__ import annotations

from loadahead.scenarios.smp.keys import Key, table_of
from loadahead.scenarios.smp.values import COUNT, FLAG, TEXT, TEXTS

ENABLED = Key(name="enabled", allowed=FLAG, default=True, why="predicted is what the library does where it is on")
MPI = table_of(
    Key(
        name="processes_per_host", allowed=COUNT, becomes="hardware.gpus_per_host", why="a process has a GPU of its own"
    ),
    Key(name="custom_mpi_options", allowed=TEXTS, why="MPI starts the processes and carries no activations"),
)
# What starts the processes, by the names of their tables.
STARTED_BY = {"mpi": "mpi.enabled", "torch_distributed": "torch_distributed.enabled"}
STARTS = table_of(
    *(
        Key(name=name, allowed=FLAG, default=False, why="the processes are those of the degrees, whoever starts them")
        for name in STARTED_BY.values()
    )
)
INSTANCES = table_of(
    Key(
        name="instance_type",
        allowed=TEXT,
        becomes="hardware.machine",
        why='"ml." in front is left out',
    ),
    Key(
        name="instance_count",
        allowed=COUNT,
        becomes="parallel.data_parallel_degree",
        why="hosts times processes per host, divided by the other degrees",
    ),
)
AROUND = {ENABLED.name: ENABLED} | STARTS | MPI | INSTANCES
