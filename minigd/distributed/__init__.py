"""Several processes that train as one, and their messages over MPI.

It may import `backends` and what all folders may, but nothing above.
Start reading in `communicator.py`; `mpi.py` is the one for real processes.
"""
