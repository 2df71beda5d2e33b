"""Generator against queue on MNIST: what each costs alone, and with a network trained on it.

Give the folder that holds the IDX files, gzipped or not, from
https://github.com/cvdfoundation/mnist: `python benchmarks/tutorials/mnist_feed.py FOLDER`.
TensorFlow is needed for its queue (`pip install tensorflow`), and left out where it is missing.
"""

import argparse
import importlib.metadata
import importlib.util
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from environment import describe
from measure import alternate, megabytes, ratios, spread, table, target, with_memory

import minigd as gd

SIZE = 128  # 60,000 rows are 468 such batches and a tail of 96
Contender = Callable[[], object]  # each call is an epoch


def source_of(folder: Path) -> gd.IdxSource:
    return gd.IdxSource(folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte")


def arrays_of(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return all images, as the tutorial held them: float32 from 0 to 1, and int64 labels."""
    source = source_of(folder)
    x, y = source.take(slice(0, source.rows))
    return x, y.astype(np.int64)


def generator(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield an epoch as the tutorial did: a shuffled copy of everything, and no tail."""
    order = np.random.permutation(len(x))  # noqa: NPY002  (as the tutorial)
    x, y = x[order], y[order]
    for i in range(len(x) // SIZE):
        yield x[i * SIZE : (i + 1) * SIZE], y[i * SIZE : (i + 1) * SIZE]


# minigd ------------------------------------------------------------------------------------------


def batches_of(folder: Path, prefetch: int) -> gd.Batches:
    return gd.Batches(source_of(folder), batch_size=SIZE, shuffle=True, prefetch=prefetch)


def trainer() -> gd.Trainer:
    layers = [gd.Dense(128, "he_normal"), gd.ReLU(), gd.Dense(10)]
    model = gd.Sequential(layers, inputs=784, seed=0)
    return gd.Trainer(model, gd.CategoricalCrossEntropy(from_logits=True), gd.Adam())


def log(event: gd.Event) -> None:
    """Print the accuracy of the batch every 1,000 updates."""
    if event.name == "update" and event.trainer.updates % 1000 == 0:
        right = event.trainer.model.predict(event.x).argmax(axis=1) == event.y
        say(event.trainer.updates, right.mean())


def say(updates: int, accuracy: float) -> None:
    print(f"  update {updates:,}: accuracy of the batch {accuracy:.1%}", file=sys.stderr)


def feed_minigd(folder: Path, prefetch: int) -> Contender:
    batches = batches_of(folder, prefetch)
    return lambda: sum(len(x) for x, y in batches)


def train_minigd(folder: Path, prefetch: int) -> Contender:
    batches, run = batches_of(folder, prefetch), trainer()
    return lambda: run.fit(batches, callbacks=[log])


def feed_generator(folder: Path) -> Contender:
    arrays = arrays_of(folder)
    return lambda: sum(len(x) for x, y in generator(*arrays))


def train_generator(folder: Path) -> Contender:
    """Train our network from the tutorial's generator."""
    arrays, run = arrays_of(folder), trainer()

    def epoch() -> None:
        for x, y in generator(*arrays):
            log(gd.Event("update", run, run.step(x, y), x, y))

    return epoch


# TensorFlow, in graph mode as in the tutorial ----------------------------------------------------


def tensorflow():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.ERROR)
    return tf


def network(tf, x, y):
    """Return the update and the accuracy of the same network."""
    first = tf.get_variable("W1", (784, 128), initializer=tf.keras.initializers.he_normal())
    second = tf.get_variable("W2", (128, 10), initializer=tf.keras.initializers.glorot_uniform())
    hidden = tf.nn.relu(
        tf.matmul(x, first) + tf.get_variable("b1", 128, initializer=tf.zeros_initializer())
    )
    z = tf.matmul(hidden, second) + tf.get_variable("b2", 10, initializer=tf.zeros_initializer())
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z))
    right = tf.equal(tf.argmax(z, axis=1), y)
    return tf.train.AdamOptimizer().minimize(loss), tf.reduce_mean(tf.cast(right, tf.float32))


def queue(folder: Path, train: bool) -> Contender:
    """Let TensorFlow's queue cut the batches, two threads filling it."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        images, labels = arrays_of(folder)
        one = tf.train.slice_input_producer([images, labels], shuffle=True)
        x, y = tf.train.batch(one, SIZE, num_threads=2, allow_smaller_final_batch=True)
        x, y = tf.reshape(x, (-1, 784)), tf.reshape(y, (-1,))
        update, accuracy = network(tf, x, y) if train else (x, y)
        # It never ends, so an epoch is so many batches; a tail comes only with the last of all.
        batches = -(-len(images) // SIZE)
        del images, labels
        session = tf.Session(graph=graph)
        session.run(tf.global_variables_initializer())
        tf.train.start_queue_runners(session, tf.train.Coordinator())
    updates = 0

    def epoch() -> None:
        nonlocal updates
        for _ in range(batches):
            updates += 1
            if train and updates % 1000 == 0:
                say(updates, session.run([update, accuracy])[1])
            else:
                session.run(update if train else (update, accuracy))

    return epoch


def fed(folder: Path) -> Contender:
    """Train TensorFlow's network from the tutorial's generator, through `feed_dict`."""
    tf = tensorflow()
    arrays = arrays_of(folder)
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, (None, 784))
        y = tf.placeholder(tf.int64, (None,))
        update, accuracy = network(tf, x, y)
        session = tf.Session(graph=graph)
        session.run(tf.global_variables_initializer())
    updates = 0

    def epoch() -> None:
        nonlocal updates
        for some_x, some_y in generator(*arrays):
            updates += 1
            feed = {x: some_x, y: some_y}
            if updates % 1000 == 0:
                say(updates, session.run([update, accuracy], feed)[1])
            else:
                session.run(update, feed)

    return epoch


# The comparison ----------------------------------------------------------------------------------


def epochs(contender: Callable[[Path], Contender], folder: Path, times: int) -> None:
    """Run a contender for its memory."""
    epoch = contender(folder)
    for _ in range(times):
        epoch()


def compare(ways: dict[str, Callable[[Path], Contender]], folder: Path, rounds: int) -> dict:
    memory = {name: with_memory(epochs, way, folder, 2)[1:] for name, way in ways.items()}
    seconds = alternate({name: way(folder) for name, way in ways.items()}, rounds)
    table(
        ["way", "seconds per epoch", "times plain minigd", "memory before, MB", "peak, MB"],
        [
            (
                name, spread(taken, ".3f"),
                spread(ratios(taken, next(iter(seconds.values())))),
                *(megabytes(size) for size in memory[name]),
            )
            for name, taken in seconds.items()
        ],
    )  # fmt: skip
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prefetch", type=int, default=4)
    options = parser.parse_args()
    ahead = f"`Batches(prefetch={options.prefetch})`"
    feeding: dict[str, Callable[[Path], Contender]] = {
        "minigd, `Batches`": partial(feed_minigd, prefetch=0),
        f"minigd, {ahead}": partial(feed_minigd, prefetch=options.prefetch),
        "the tutorial's generator": feed_generator,
    }
    training: dict[str, Callable[[Path], Contender]] = {
        "minigd, `Batches`": partial(train_minigd, prefetch=0),
        f"minigd, {ahead}": partial(train_minigd, prefetch=options.prefetch),
        "minigd, the tutorial's generator": train_generator,
    }
    versions = describe()
    if importlib.util.find_spec("tensorflow"):
        feeding["TensorFlow, `slice_input_producer` and `batch`, 2 threads"] = partial(
            queue, train=False
        )
        training["TensorFlow, the same queue"] = partial(queue, train=True)
        training["TensorFlow, the tutorial's generator"] = fed
        versions += f", TensorFlow {importlib.metadata.version('tensorflow')}"
    print(versions)
    print(
        f"60,000 images in batches of {SIZE}, shuffled; {options.rounds} epochs each, in turns: "
        "median (smallest to largest); anonymous resident memory over two epochs, each way in its "
        "own process\n"
    )
    print("## Feeding alone\n")
    compare(feeding, options.folder, options.rounds)
    print("## Feeding a 784-128-10 network, ReLU, Adam\n")
    seconds = compare(training, options.folder, options.rounds)
    plain, prefetched = list(seconds.values())[:2]
    held = [statistics.median(prefetched) / statistics.median(plain)]
    print(target("a prefetched epoch over a plain one, medians", held, 1.05, False))
    print(target("the same, turn by turn", ratios(prefetched, plain), 1.05, False))


if __name__ == "__main__":
    main()
