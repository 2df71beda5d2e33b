"""Processes that end in the way that the first argument names; `test_ends.py` reads how."""

import os
import signal
import sys

import numpy as np

import minigd as gd


def do(how):
    """Do to a process what is to be done, in the midst of the run."""
    if how in ("SIGKILL", "SIGSTOP", "SIGTERM"):
        os.kill(os.getpid(), getattr(signal, how))
    if how == "error":
        raise gd.DataError("line 3, column 'age': no number")
    if how == "disk":
        raise OSError(28, "No space left on device", "x.npz")


def main(how, path):
    """Train in all processes; the last one does it."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    last = comm.Get_rank() == comm.Get_size() - 1
    X = np.random.default_rng(0).normal(size=(400, 3))
    y = X[:, 0] * 2
    if how == "divergence":
        y[360] = 1e300
    if how == "before" and last:
        raise FileNotFoundError(2, "No such file or directory", "rows.csv")
    batches = gd.Batches(X, y, 40)
    if os.path.exists(path):
        trainer = gd.Trainer.resume(path, batches, comm=comm)
    else:
        layers = [gd.Dense(3), gd.Tanh(), gd.Dense(1)]
        model = gd.Sequential(layers, inputs=3, dtype="float64")
        trainer = gd.Trainer(model, "mse", gd.SGD(0.01), comm=comm)
    if how == "between":
        trainer.fit(batches)
        if last:
            raise RuntimeError("something between two fits")

    def act(event):
        if event.name == "update" and trainer.updates == 7 and last:
            do(how)

    saved = gd.Checkpoint(path, every_updates=5)
    trainer.fit(batches, until_epoch=3, callbacks=[act, saved])
    if comm.Get_rank() == 0:
        print("updates", trainer.updates, "sum", float(trainer.model.flat_params.sum()))


if __name__ == "__main__":
    main(*sys.argv[1:])
