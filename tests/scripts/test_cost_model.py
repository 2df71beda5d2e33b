"""The model of messages: its rounds against closed forms, its bytes against minigd's messages."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from oracles import simulated

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import cost_model  # noqa: E402

NETWORK = cost_model.Network("a network", 3.0, 7.0)


@pytest.mark.parametrize("size", [2, 3, 4, 6, 8, 31, 64])
@pytest.mark.parametrize("row", [5, 9_000, 600_000])
def test_an_allgather_takes_the_bytes_of_all_others_and_the_rounds_of_its_algorithm(size, row):
    found = cost_model.gathered(np.zeros(size), row, NETWORK)
    power = size & (size - 1) == 0
    short = size * row < (524_288 if power else 81_920)
    rounds = int(np.ceil(np.log2(size))) if short else size - 1
    np.testing.assert_allclose(found, 3 * rounds + (size - 1) * row / 7, rtol=1e-12)


@pytest.mark.parametrize(("size", "block", "waits"), [(8, 10, 1), (64, 10, 2), (8, 40_000, 7)])
def test_an_alltoall_takes_a_block_for_each_other_process(size, block, waits):
    found = cost_model.swapped(np.zeros(size), block, NETWORK)
    np.testing.assert_allclose(found, 3 * waits + (size - 1) * block / 7, rtol=1e-12)


@pytest.mark.parametrize("size", [1, 100, 10**7])
def test_all_wait_for_the_last(size):
    clock = np.zeros(6)
    clock[4] = 50.0
    alike = cost_model.reduced(np.zeros(6), size, cost_model.CPU, NETWORK)
    assert (cost_model.reduced(clock, size, cost_model.CPU, NETWORK) >= 50).all()
    assert cost_model.reduced(clock, size, cost_model.CPU, NETWORK).max() <= alike.max() + 50.001


def test_one_process_sends_nothing():
    assert cost_model.reduced(np.array([2.0]), 10**6, cost_model.CPU, NETWORK) == [2.0]


class Counting(simulated.Simulated):
    """Notes how many bytes each message has for one other process."""

    def gather_rows(self, row):
        self.sent.append(("gathered", row.nbytes))
        return super().gather_rows(row)

    def swap(self, blocks):
        self.sent.append(("swapped", blocks[0].nbytes))
        return super().swap(blocks)


@pytest.mark.parametrize(("size", "entries"), [(2, 100), (4, 5000), (3, 300_000)])
def test_the_messages_are_those_that_minigd_sends(size, entries, monkeypatch):
    monkeypatch.setattr(simulated, "Simulated", Counting)
    monkeypatch.setattr(Counting, "sent", [], raising=False)

    def work(communicator):
        communicator.sent = []
        communicator.mean(np.ones(entries, "float32"), [1, 1.0, 0.5, 0])
        return communicator.sent

    modeled = []
    for name in ("gathered", "swapped"):
        original = getattr(cost_model, name)

        def noted(clock, block, network, name=name, original=original):
            modeled.append((name, block))
            return original(clock, block, network)

        monkeypatch.setattr(cost_model, name, noted)
    cost_model.reduced(np.zeros(size), 4 * entries, cost_model.CPU, NETWORK)
    for sent in simulated.run_ranks(size, work):
        assert [name for name, _ in sent] == [name for name, _ in modeled]
        for (_, real), (_, block) in zip(sent, modeled, strict=True):
            assert real == pytest.approx(block, abs=4)


def test_the_guide_quotes_what_the_model_says():
    guide = (ROOT / "docs" / "clusters.md").read_text()
    quoted = re.findall(r"^\| (.+) \| (.+) \| ([\d,]+) rows \| ([\d,]+) rows \|$", guide, re.M)
    assert len(quoted) == len(cost_model.PLACES)
    for (node, network), (name, process, least, half) in zip(
        cost_model.PLACES, quoted, strict=True
    ):
        assert (name, process) == (network.name, node.name)
        for gain, rows in ((1, least), (4, half)):
            found = cost_model.smallest_batch(512, 8, gain, node, network)
            assert f"{found:,}" == rows
