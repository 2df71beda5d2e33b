"""Train where the partitions of a Dask data frame lie: `python docs/dask_partial_fit.py`.

The model travels and the rows stay. Each pass over a partition needs the model of the one before
it, so one worker trains at a time.
"""

import copy

import dask.dataframe
import numpy as np
import pandas as pd
from dask.distributed import Client, wait

import minigd as gd

COLUMNS = [f"x{i}" for i in range(5)]


def make_frame(rows: int = 4000, partitions: int = 8) -> "dask.dataframe.DataFrame":
    """Return the rows; yours come from `dask.dataframe.read_parquet` or `read_csv`."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, len(COLUMNS))), columns=COLUMNS)
    frame["y"] = frame["x0"] - 2 * frame["x1"] + np.sin(frame["x2"])
    return dask.dataframe.from_pandas(frame, npartitions=partitions)


def train_on(model: gd.MiniBatchRegressor, part: pd.DataFrame) -> gd.MiniBatchRegressor:
    """Make one pass over a partition, in the worker that has it.

    Dask may run a task again, so its arguments stay as they are.
    """
    return copy.deepcopy(model).partial_fit(part[COLUMNS], part["y"])


def errors(model: gd.MiniBatchRegressor, part: pd.DataFrame) -> float:
    """Return the sum of squared errors in a partition."""
    return float(((model.predict(part[COLUMNS]) - part["y"]) ** 2).sum())


def train(
    client: Client, frame: "dask.dataframe.DataFrame", epochs: int = 5
) -> gd.MiniBatchRegressor:
    """Train over all partitions, in another order in each epoch."""
    parts = client.compute(frame.to_delayed())  # futures: the rows stay in the workers
    wait(parts)
    model = client.scatter(gd.MiniBatchRegressor((32,), updater=gd.Adam(0.003), random_state=0))
    order = np.random.default_rng(0)
    for _ in range(epochs):
        for i in order.permutation(len(parts)):
            model = client.submit(train_on, model, parts[i], pure=False)
    total = sum(client.gather(client.map(errors, [model] * len(parts), parts)))
    print(f"mean squared error: {total / len(frame):.4f}")
    return model.result()


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        train(client, make_frame()).model_.save("model.npz")
