"""Keras 3: `compile` and `fit`, on the backend that KERAS_BACKEND names.

Rows in memory are given as arrays, which `fit` shuffles and cuts; those of a CSV file come from
tf.data, which parses a batch of lines at a time, in parallel and ahead. Options go to `compile`:
its own for many small steps are `steps_per_execution` and, on TensorFlow, `jit_compile`.
"""

from typing import Any

import keras
import numpy as np

from benchmarks.workloads import Data, Workload


class Training:
    """A compiled model and what `fit` is given."""

    def __init__(self, workload: Workload, data: Data, options: dict[str, Any]) -> None:
        keras.utils.set_random_seed(0)
        *hidden, n_out = workload.widths[1:]
        self.model = keras.Sequential(
            [
                keras.Input((workload.widths[0],)),
                *(keras.layers.Dense(units, activation=workload.activation) for units in hidden),
                keras.layers.Dense(n_out),
            ]
        )
        self.model.set_weights([array for layer in data.weights for array in layer])
        losses = {
            "binary": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
            "classes": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "mse": lambda: keras.losses.MeanSquaredError(),
        }
        updater = keras.optimizers.Adam(workload.learning_rate, epsilon=1e-8)
        self.model.compile(updater, losses[workload.loss](), **options)
        self.given: dict[str, Any]
        if workload.path is not None:
            self.given = {"x": _lines(workload)}
        else:
            y = data.y.astype(np.float32).reshape(-1, 1) if workload.loss == "binary" else data.y
            self.given = {"x": data.x, "y": y, "batch_size": workload.batch_size, "shuffle": True}

    @property
    def updates(self) -> int:
        return int(self.model.optimizer.iterations.numpy())

    def train(self, epochs: int) -> list[float]:
        return self.model.fit(**self.given, epochs=epochs, verbose=0).history["loss"]

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        arrays = self.model.get_weights()
        return list(zip(arrays[::2], arrays[1::2], strict=True))


def _lines(workload: Workload) -> Any:
    import tensorflow as tf

    def parse(lines: Any) -> tuple[Any, Any]:
        columns = [[0.0]] * (workload.widths[0] + 1)
        values = tf.stack(tf.io.decode_csv(lines, columns), axis=1)
        return values[:, :-1], values[:, -1:]

    lines = tf.data.TextLineDataset(workload.path).skip(1).batch(workload.batch_size)
    batches = lines.map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    # Without the number of steps, Keras begins one more at the end of each epoch, and counts it.
    counted = batches.apply(tf.data.experimental.assert_cardinality(workload.steps))
    return counted.prefetch(tf.data.AUTOTUNE)


def prepare(workload: Workload, data: Data, **options: Any) -> Training:
    return Training(workload, data, options)
