"""The scripts of the page on clusters run: under mpiexec, and on a local cluster of Dask."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from oracles import mpi

import minigd as gd

DOCS = Path(__file__).parents[2] / "docs"


def script(start):
    """Return the example of the page that begins with these words."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "clusters.md").read_text(), re.S)
    (found,) = [block for block in blocks if block.startswith(start)]
    return found


@pytest.mark.slow
@mpi.needed
def test_the_script_for_slurm_trains_and_goes_on_with_another_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(6000, 3))
    np.save("x.npy", x)
    np.save("y.npy", x[:, 0])
    own = script("import os")
    for size, epochs in ((2, 2), (3, 4)):
        Path("train.py").write_text(own.replace("until_epoch=20", f"until_epoch={epochs}"))
        run = mpi.run(size, "-m", "mpi4py", "train.py")
        assert run.returncode == 0, run.stderr
        assert gd.Trainer.resume("run.npz").updates == 2 * epochs


GO_ON = """
import numpy as np
import minigd as gd

comm = MPI.COMM_WORLD
path = f"run{comm.rank}.npz"
batches = gd.Batches(np.eye(6), np.arange(6.0), 2)
if bring(path):
    trainer = gd.Trainer.resume(path, batches, comm=comm)
else:
    trainer = gd.Trainer(gd.Sequential([gd.Dense(1)], 6), "mse", gd.SGD(0.1), comm=comm)
trainer.fit(batches, epochs=1, callbacks=[gd.Checkpoint(path)])
print(comm.rank, trainer.updates)
"""


@pytest.mark.slow
@mpi.needed
def test_a_checkpoint_is_brought_to_disks_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(script("from pathlib") + GO_ON)
    files = {2: ["run0.npz"], 3: ["run0.npz", "run1.npz", "run2.npz"]}
    for size, updates in ((2, 3), (3, 6)):
        run = mpi.run(size, "-m", "mpi4py", "train.py")
        assert run.returncode == 0, run.stderr
        assert sorted(run.stdout.splitlines()) == [f"{rank} {updates}" for rank in range(size)]
        assert sorted(path.name for path in tmp_path.glob("run*")) == files[size]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of distributed's own threads
def test_the_script_for_dask_trains_as_a_loop_over_the_partitions(capsys):
    distributed = pytest.importorskip("distributed")
    pytest.importorskip("dask.dataframe")
    own = runpy.run_path(str(DOCS / "dask_partial_fit.py"))
    frame = own["make_frame"](rows=600, partitions=3)
    with distributed.Client(processes=False, dashboard_address=None, n_workers=2) as client:
        found = own["train"](client, frame, epochs=2)
    alone = gd.MiniBatchRegressor((32,), updater=gd.Adam(0.003), random_state=0)
    order, columns = np.random.default_rng(0), own["COLUMNS"]
    parts = [part.compute() for part in frame.to_delayed()]
    for _ in range(2):
        for i in order.permutation(3):
            alone.partial_fit(parts[i][columns], parts[i]["y"])
    for name, array in alone.model_.arrays().items():
        np.testing.assert_array_equal(found.model_.arrays()[name], array)
    whole = frame.compute()
    error = ((alone.predict(whole[columns]) - whole["y"]) ** 2).mean()
    assert f"mean squared error: {error:.4f}" in capsys.readouterr().out
