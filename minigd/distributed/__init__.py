"""Several processes that train as one: what they tell each other, over MPI.

It may import `backends` and what all folders may, and nothing above.
Start reading in `communicator.py`; `mpi.py` is the one for real processes.
"""
