"""What two real processes do under mpiexec; `test_real_ranks.py` reads what they say."""

import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import minigd as gd
from minigd.data.sources import csv_pieces
from minigd.distributed import communicator
from minigd.distributed.mpi import connect

comm = None  # that of both processes


def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(41, 3))
    return X, (X[:, 0] > X[:, 1]).astype(float), rng.integers(1, 4, size=41) / 2


def train(comm, **options):
    """Train with all that couples or draws, and return parameters and history."""
    X, y, w = data()
    inner = [gd.BatchNorm(), gd.Dropout(0.2), gd.Dense(6), gd.Tanh()]
    layers = [gd.Dense(6), gd.Residual(inner), gd.Dense(1), gd.Sigmoid()]
    model = gd.Sequential(layers, inputs=3, dtype="float64", seed=3)
    history = model.fit(
        X, y, loss="binary_crossentropy", updater=gd.SGD(0.3), batch_size=10, sample_weight=w,
        metrics=["accuracy", "roc_auc"], validation_data=(X[:7], y[:7]), epochs=3, accumulate=2,
        clip_norm=0.1, comm=comm, **options,
    )  # fmt: skip
    return model.flat_params.tolist(), {k: v for k, v in history.items() if k != "seconds"}


def sums():
    """Return sums by gathering and by slices, of numbers whose sum depends on the order."""
    joined = connect(comm)
    joined.renew()
    found = []
    for small in (0, 65_536):
        communicator.SMALL = small
        v = (np.array([1.0, -1.0])[joined.rank] * np.arange(5) + 0.1).astype("float32")
        joined.sum(v)
        found.append(v.tolist())
    return found


def errors():
    """Return what this rank raises where one fails, where all do, and with other seeds."""
    X, y, _ = data()
    found = []

    def fail(event):
        if event.name == "update" and comm.rank == 1:
            raise gd.DataError("line 3 of a file")

    def run(callbacks=(), wide=3, seed=0):
        model = gd.Sequential([gd.Dense(1)], inputs=wide, seed=seed)
        model.fit(X, y, loss="mse", batch_size=10, callbacks=callbacks, comm=comm)

    for options in ({"callbacks": [fail]}, {"wide": 2}, {"seed": comm.rank}):
        try:
            run(**options)
        except BaseException as error:
            found.append(f"{type(error).__name__}: {error}")
    run()  # and another run can begin
    return found


def checkpoint(folder):
    """Stop two processes in mid-epoch, and return whether rank 1 has written a file."""
    X, y, _ = data()
    path = Path(folder, f"run{comm.rank}.npz")
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], inputs=3), "mse", "sgd", ["mae"], comm=comm)
    stop = [lambda event: trainer.updates == 3 and trainer.stop()]
    trainer.fit(gd.Batches(X, y, 10), callbacks=[*stop, gd.Checkpoint(path)])
    return path.exists(), trainer.updates


def shell(folder):
    """Run commands in both; return the code, what each has printed, and passes shared."""
    from minigd.cli.main import main

    path, out = comm.bcast(f"{folder}/rows.csv"), comm.bcast(f"{folder}/m.npz")
    if comm.rank == 0:
        X, y, _ = data()
        np.savetxt(path, np.c_[X, y], "%.4f", ",", header="a,b,c,y", comments="")
    comm.Barrier()
    shared, read = [], csv_pieces._seen_in
    csv_pieces._seen_in = lambda *given: shared.append(given) or read(*given)

    def command(*words):
        printed, logged = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(logged):
            try:
                code = main([*words])
            except SystemExit as error:
                code = error.code
        return code, printed.getvalue(), logged.getvalue()

    train = ["--target", "y", "--epochs", "2", "--out", out]
    trained = *command("train", path, *train), sorted(os.listdir(folder)), len(shared)
    os.chdir(folder)  # where only rank 0 has a file
    missing, piped = (command("train", data, *train) for data in ("*.csv", "-"))
    own = ["--json"] if comm.rank else []
    alike, other = command("evaluate", out, path), command("evaluate", out, path, *own)
    return trained, missing, piped, alike, other


if __name__ == "__main__":
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    with tempfile.TemporaryDirectory() as folder:
        own = {
            "trained": train(comm),
            "again": train(comm),
            "sums": sums(),
            "errors": errors(),
            "checkpoint": checkpoint(folder),
            "shell": shell(folder),
        }
        everything = comm.gather(own)
    if comm.rank == 0:
        alone = train(None)
        print(json.dumps({"alone": alone, "ranks": everything}))
    sys.exit(0)
