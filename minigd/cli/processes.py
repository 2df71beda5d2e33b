"""The processes that a launcher such as mpiexec has started together for one command."""

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence

from minigd.distributed.communicator import ALONE, Communicator
from minigd.distributed.mpi import connect
from minigd.progress import log
from minigd.training.processes import Together

_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Variables for the number of processes: of MPICH and its relatives, Open MPI, Slurm's srun."""


@functools.cache
def processes() -> Communicator:
    """Return the processes that were started together; without mpiexec, this one alone."""
    sizes = [os.environ.get(name, "") for name in _SIZES]
    if not any(size.isdigit() and int(size) > 1 for size in sizes):
        return ALONE
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        reason = "is not installed" if isinstance(error, ImportError) else "finds no MPI library"
        log(f"mpi4py {reason}: each process works alone (`pip install mpi4py`)")
        return ALONE
    return connect(MPI.COMM_WORLD)


def is_for_another(arguments: Sequence[str]) -> bool:
    """Tell whether the first process runs a command that all others were started with, too."""
    communicator = processes()
    with together(communicator):
        given = communicator.gather(list(arguments))
    return communicator.rank > 0 and given.count(given[0]) == communicator.size


def together(communicator: Communicator) -> contextlib.AbstractContextManager[None]:
    """Return a context that ends all processes if one of them fails in it."""
    return Together(communicator) if communicator.size > 1 else contextlib.nullcontext()


@contextlib.contextmanager
def first_alone_prints(communicator: Communicator) -> Iterator[None]:
    """Print only in the first process."""
    with contextlib.ExitStack() as stack:
        if communicator.rank:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


@contextlib.contextmanager
def first_goes_ahead(communicator: Communicator) -> Iterator[bool]:
    """Let the first process run the block before all others; tell each whether it is the first.

    The others find what the first one has written.
    """
    if communicator.rank:
        communicator.wait()
    yield not communicator.rank
    if not communicator.rank:
        communicator.wait()
