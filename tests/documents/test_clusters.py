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


@pytest.mark.slow
@mpi.needed
def test_a_checkpoint_is_brought_to_disks_of_their_own(tmp_path):
    own = script("from pathlib") + (
        "\nimport os, sys\n"
        "rank = MPI.COMM_WORLD.rank\n"
        "os.makedirs(f'{sys.argv[1]}/{rank}', exist_ok=True)\n"
        "os.chdir(f'{sys.argv[1]}/{rank}')\n"
        "assert not bring('run.npz')\n"
        "if rank == 0:\n"
        "    Path('run.npz').write_bytes(b'of rank 0')\n"
        "assert bring('run.npz')\n"
    )
    (tmp_path / "bring.py").write_text(own)
    run = mpi.run(2, "-m", "mpi4py", str(tmp_path / "bring.py"), str(tmp_path))
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "1" / "run.npz").read_bytes() == b"of rank 0"


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
