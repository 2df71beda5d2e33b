"""minigd under attack: damaged files, kills, faults and odd calls, `python -m benchmarks.attack`.

Each attempt must end in the right result or in a clear error. Anything else is counted, listed, and
makes the exit code 1.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minigd as gd
from benchmarks import attack_data, attack_stops
from benchmarks.environment import describe
from minigd.errors import CheckpointError

RESULTS = Path(__file__).parent / "results" / "attack.md"


class Tally:
    """How the attempts of one attack ended."""

    def __init__(self) -> None:
        self.right = self.errors = 0
        self.others: list[str] = []

    def attempt(
        self,
        what: str,
        action: Callable[[], bool],
        expected: type[Exception] | tuple[type[Exception], ...],
        named: str = "",
    ) -> None:
        """Count an attempt: `action` returns whether its result is right, or raises.

        An error counts as clear if it is one of those expected and has the text `named` in it.
        """
        try:
            right = action()
        except expected as error:
            clear = named in str(error)
            self.errors += clear
            if not clear:
                self.others.append(f"{what}: does not name {named}: {_short(error)}")
        except BaseException as error:
            self.others.append(f"{what}: {_short(error)}")
        else:
            self.right += right
            if not right:
                self.others.append(f"{what}: a wrong result, and no error")


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


# Model files mutated -----------------------------------------------------------------------------

HEADER = 128
"""Bytes before the numbers in a `.npy` file, most of which is blanks."""


def write_run(path: Path) -> None:
    """Write a small checkpoint of a run, which `minigd.load` reads too.

    One of its members is longer than what zipfile reads, and checks, at a time.
    """
    x = np.linspace(-1, 1, 24, dtype="float32").reshape(12, 2)
    layers = [gd.Dense(35), gd.BatchNorm(), gd.Tanh(), gd.Dense(35), gd.Tanh(), gd.Dense(1)]
    trainer = gd.Trainer(gd.Sequential(layers, inputs=2, seed=1), "mse", "adam", ["mae"])
    trainer.fit(x, x[:, :1], batch_size=5, epochs=2)
    trainer.save(path)


def content(path: Path) -> str:
    """Return the whole content of a run in a file, with exact numbers."""
    values = gd.Trainer.resume(path).state_dict()
    model = gd.load(path)
    return json.dumps([model.describe(), model.arrays(), values], default=_as_text)


def _as_text(value: Any) -> str:
    array = np.asarray(value)
    return f"{array.dtype.str} {array.shape} {array.tobytes().hex()}"


def flip(data: bytes, bit: int) -> bytes:
    """Return bytes with one bit flipped."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return bytes, some of them replaced, removed, repeated, cut off, zeroed or reversed."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        a, b = sorted(rng.randrange(len(changed) + 1) for _ in range(2))
        b = rng.choice((b, min(a + rng.randrange(9), len(changed))))
        piece = changed[a:b]
        changed[a : rng.choice((b, b, b, len(changed)))] = rng.choice(
            (rng.randbytes(b - a), b"", piece * 2, bytes(b - a), piece[::-1])
        )
    return bytes(changed)


def damaged_files(path: Path, rng: random.Random, times: int) -> Iterator[tuple[str, bytes]]:
    """Yield an archive that is damaged: each bit of its headers flipped, and other bytes changed.

    The members' own headers are also damaged, with matching zip checksums.
    """
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        places = archive.infolist()
        members = {one.filename: archive.read(one) for one in places}
        directory = archive.start_dir
    for one in places:
        # A name, and 50 bytes before it and after it.
        begin = one.header_offset
        for bit in range(8 * begin, 8 * (begin + 50 + len(one.filename) + HEADER)):
            yield f"bit {bit}", flip(data, bit)
    for bit in range(8 * directory, 8 * len(data)):
        yield f"bit {bit}", flip(data, bit)
    for name, member in members.items():
        for bit in range(8 * HEADER):
            yield f"bit {bit} of {name}", _archive(path, {**members, name: flip(member, bit)})
    for number in range(times):
        yield f"other bit, {number}", flip(data, rng.randrange(8 * len(data)))
        yield f"mutation {number}", mutate(data, rng)
        name = rng.choice(list(members))
        yield (
            f"mutation {number} of {name}",
            _archive(path, {**members, name: mutate(members[name], rng)}),
        )


def _archive(path: Path, members: dict[str, bytes]) -> bytes:
    again = path.with_name("again.npz")
    with zipfile.ZipFile(again, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return again.read_bytes()


def model_files(folder: Path, times: int) -> Tally:
    """Damage a checkpoint, and read it as a run and as a model."""
    tally = Tally()
    path, original = folder / "run.npz", folder / "original.npz"
    write_run(original)
    expected = content(original)
    for what, data in damaged_files(original, random.Random(0), times):
        path.write_bytes(data)
        tally.attempt(what, lambda: content(path) == expected, CheckpointError, str(path))
    return tally


# All of them -------------------------------------------------------------------------------------


class Attack(NamedTuple):
    """An attack, and how often it tries each random case."""

    run: Callable[[Path, int], Tally]
    times: int


# Calls --------------------------------------------------------------------------------------------


def calls(folder: Path, times: int) -> Tally:
    """Call everything public with one odd value, and this often with several at once."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from oracles import odd_calls

    os.chdir(folder)  # where a file with an odd name may be written
    tally = Tally()
    for ending in odd_calls.endings(several=times):
        tally.right += ending.kind == "result"
        tally.errors += ending.kind == "clear error"
        if ending.kind == "anything else":
            tally.others.append(str(ending))
    return tally


ATTACKS = {
    "model files mutated": Attack(model_files, 10_000),
    "data files mutated": Attack(attack_data.tables, 24_000),
    "data files cut while they are read": Attack(attack_data.cuts, 1_000),
    "kills": Attack(attack_stops.kills, 12),
    "faults": Attack(attack_stops.faults, 2_000),
    "calls": Attack(calls, 10_000),
}


def run(name: str, times: int) -> Tally:
    """Make an attack in a separate process, so that a killed process is counted too."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(ATTACKS[name].run, Path(folder), times).result()
        except BaseException as error:
            tally = Tally()
            tally.others.append(f"{name}: the attack did not come to its end: {_short(error)}")
            return tally


def report(tallies: dict[str, Tally], seconds: float) -> str:
    """Return the page."""
    lines = [
        "# Under attack",
        "",
        f"`python -m benchmarks.attack`, {time.strftime('%Y-%m-%d')}.",
        "",
        f"{describe()}; {seconds:.0f} s",
        "",
        "| attack | attempts | the right result | a clear error | anything else |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, tally in tallies.items():
        others = len(tally.others)
        attempts = tally.right + tally.errors + others
        lines.append(f"| {name} | {attempts:,} | {tally.right:,} | {tally.errors:,} | {others:,} |")
    lines += ["", *(f"- {other}" for tally in tallies.values() for other in tally.others[:50])]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attack", description=__doc__)
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help="; ".join(ATTACKS))
    parser.add_argument("--times", type=int, help="how often to try each thing that is drawn")
    options = parser.parse_args()
    unknown = [name for name in options.attacks if name not in ATTACKS]
    if unknown:
        parser.error(f"no such attack: {'; '.join(unknown)}; there are {'; '.join(ATTACKS)}")
    started = time.perf_counter()
    tallies = {
        name: run(name, options.times or ATTACKS[name].times) for name in options.attacks or ATTACKS
    }
    page = report(tallies, time.perf_counter() - started)
    print(page)
    # A page of a part must not replace the whole page.
    if not (options.attacks or options.times):
        RESULTS.write_text(page)
    sys.exit(any(tally.others for tally in tallies.values()))


if __name__ == "__main__":
    main()
