"""MNIST: test accuracy and seconds per epoch of a linear and a one-layer network.

Pass the folder with the four IDX files, gzipped or not: `python benchmarks/mnist.py FOLDER`. They
are at https://github.com/cvdfoundation/mnist. Only benchmarks and notebooks use them.
"""

import argparse
import gzip
import statistics
import struct
import sys
from pathlib import Path

import numpy as np
from environment import describe

import minigd as gd


def read_idx(path: Path) -> np.ndarray:
    """Return the array in an IDX file: big-endian dimensions, then bytes."""
    packed = path.with_name(path.name + ".gz")
    content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
    zero, kind, dimensions = struct.unpack(">HBB", content[:4])
    if zero != 0 or kind != 8:
        raise SystemExit(f"{path} is no IDX file of unsigned bytes")
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def load(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images of one part as rows of 784 numbers from 0 to 1, and their labels."""
    images = read_idx(folder / f"{part}-images-idx3-ubyte")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte")
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255), labels


NETWORKS = {
    "softmax regression, 784-10": ([], 10, gd.Adam(0.001)),
    "784-128-10, ReLU": ([(gd.Dense, (128, "he_normal")), (gd.ReLU, ())], 10, gd.Adam(0.001)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    X, y = load(options.folder, "train")
    X_test, y_test = load(options.folder, "t10k")

    print(describe())
    print(f"{len(X)} rows in batches of 100, {options.epochs} epochs, Adam, seed 0\n")
    print("| network | test accuracy | seconds per epoch (median) | updates |")
    print("| --- | --- | --- | --- |")
    for name, (hidden, classes, updater) in NETWORKS.items():
        layers = [kind(*arguments) for kind, arguments in hidden]
        model = gd.Sequential([*layers, gd.Dense(classes), gd.Softmax()], inputs=784, seed=0)
        history = model.fit(
            X,
            y,
            loss="categorical_crossentropy",
            updater=updater,
            batch_size=100,
            epochs=options.epochs,
            metrics=["accuracy"],
            progress=sys.stderr.isatty(),
        )
        accuracy = model.evaluate(X_test, y_test)["accuracy"]
        seconds = statistics.median(history["seconds"])
        print(f"| {name} | {accuracy:.2%} | {seconds:.2f} | {history['updates'][-1]:,.0f} |")


if __name__ == "__main__":
    main()
