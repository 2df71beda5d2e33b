"""`minigd export`: a model as a file for other programs, which includes the encoding of columns."""

import os

from minigd.cli.paths import check_output
from minigd.cli.trained import load_table, read
from minigd.data.tables.schema import Schema
from minigd.interop.onnx import export_onnx
from minigd.training.model_files import restore


def export(model: str | os.PathLike[str], onnx: str | os.PathLike[str]) -> str:
    """Write an ONNX file of a model, and return a few lines about its inputs and outputs.

    Parameters
    ----------
    model : path
        A file that `minigd train` or `Sequential.save` wrote.
    onnx : path
        Written completely or not at all.

    Raises
    ------
    DataError
        If a column is hashed, or holds dates in a format that ONNX has no operators for.
    CheckpointError, OSError, ImportError
        If the file is not a model, or can't be written, or onnx is missing.

    Examples
    --------
    >>> import tempfile, minigd as gd
    >>> source = gd.IterableSource([{"a": ["x", "y"], "b": [0, 1], "c": [1.5, 3]}], target="c")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trained = gd.TableModel(gd.Sequential([gd.Dense(1)], inputs=3), source.schema)
    ...     trained.save(f"{folder}/m.npz")
    ...     print(export(f"{folder}/m.npz", f"{folder}/m.onnx").replace(folder, "FOLDER"))
    inputs   a text, b float32
    outputs  prediction float32
    saved: FOLDER/m.onnx
    """
    check_output(onnx, ("saved",), model=model)
    description, arrays = read(model)
    if "table" in description or "run" in description:
        table = load_table(model)
        export_onnx(table, onnx)
        lines = _of_table(table.schema, str(table.model.dtype))
    else:
        network = restore(description, arrays)
        export_onnx(network, onnx, names=network.names)
        lines = [
            f"inputs   x {network.dtype}, {network.n_in} wide",
            f"outputs  y {network.dtype}, {network.n_out} wide",
        ]
    return "\n".join([*lines, f"saved: {os.fspath(onnx)}"])


def _of_table(schema: Schema, dtype: str) -> list[str]:
    kinds = (f"{c} {'text' if c in schema.texts else schema.dtype}" for c in schema.features)
    of_classes = f"text, probabilities {dtype}" if schema.classes else dtype
    return [f"inputs   {', '.join(kinds)}", f"outputs  prediction {of_classes}"]
