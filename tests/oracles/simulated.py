"""Several processes in one: threads that exchange the messages of processes."""

import contextvars
import threading

import numpy as np

from minigd.distributed.communicator import Communicator, Ended


class Board:
    """Where the threads meet, and put what the others are to see."""

    def __init__(self, size):
        self.size = size
        self.barrier = threading.Barrier(size, timeout=60)
        self.messages = {}
        self.said = {}
        self.all_said = threading.Barrier(size, timeout=20)


class Simulated(Communicator):
    """One of the threads."""

    def __init__(self, board, rank):
        self.board, self.rank, self.size = board, rank, board.size
        self.messages = 0

    def gather(self, value):
        self.messages += 1
        board, number = self.board, self.messages
        given = board.messages.setdefault(number, {})
        given[self.rank] = value
        try:
            board.barrier.wait()
        except threading.BrokenBarrierError:
            # One that has gone on may have failed since.
            if len(given) < self.size:
                raise Ended from None
        board.messages.pop(number - 2, None)
        return [given[rank] for rank in range(self.size)]

    def gather_rows(self, row):
        return np.stack(self.gather(row.copy()))

    def swap(self, blocks):
        return np.stack([each[self.rank] for each in self.gather(blocks.copy())])

    def exchange(self, words):
        board = self.board
        board.said[self.rank] = words
        board.barrier.abort()
        board.all_said.wait()
        return dict(board.said)


def run_ranks(size, work):
    """Return what ``work(communicator)`` gives in each of so many threads.

    The error of one is raised here, with all of them as `errors`.
    """
    board, results, errors = Board(size), [None] * size, [None] * size

    def one(rank):
        try:
            results[rank] = work(Simulated(board, rank))
        except BaseException as error:
            errors[rank] = error
            board.barrier.abort()

    threads = [
        threading.Thread(target=contextvars.Context().run, args=(one, rank), daemon=True)
        for rank in range(size)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    speaking = [error for error in errors if error is not None and not isinstance(error, Ended)]
    if speaking:
        speaking[0].errors = errors
        raise speaking[0]
    assert errors == [None] * size, errors
    return results
