"""Batches padded to a few fixed sizes, for libraries that plan anew at each size they see.

The rows added are copies of row 0, as zeros may be no valid input (an index, a length); their answers are cut off.
"""

from collections.abc import Sequence

import numpy as np

from analyzer.runtime.backends.base import ModelError, ModelFiles
from analyzer.runtime.request import ErrorKind, InferError, Tensors

BATCH_SIZES = "batch_sizes"


def read_batch_sizes(files: ModelFiles) -> tuple[int, ...]:
    """The parameter ``batch_sizes`` such as "1,8,32", ascending; empty where it isn't set.

    Sizes above ``max_batch_size`` are left out and it is the last of them, so that one list serves a model whose
    ``max_batch_size`` is being searched. Raises ModelError.
    """
    text = files.parameter(BATCH_SIZES)
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise ModelError(f"model '{files.name}' has {BATCH_SIZES} '{text}'; give numbers of rows such as \"1,8,32\"")
    sizes = sorted({int(part) for part in parts})
    largest = files.config.max_batch_size
    if not largest:
        raise ModelError(f"model '{files.name}' has {BATCH_SIZES}, which needs a max_batch_size of 1 or more")
    return (*(size for size in sizes if size < largest), largest)


def size_for(rows: int, sizes: Sequence[int]) -> int:
    """The smallest size that holds so many rows; ``rows`` itself where no sizes are fixed."""
    return next((size for size in sizes if size >= rows), rows)


def pad(inputs: Tensors, rows: int, size: int) -> Tensors:
    """Every input with ``size`` rows, those of others repeated from row 0; the same arrays where nothing is missing."""
    if rows == size:
        return inputs
    return {name: np.concatenate([array, np.repeat(array[:1], size - rows, axis=0)]) for name, array in inputs.items()}


def cut(model: str, outputs: Tensors, rows: int, size: int) -> Tensors:
    """The first ``rows`` rows of every output. Raises InferError where one has not a row for each of the batch."""
    if rows == size:
        return outputs
    for name, array in outputs.items():
        if not array.ndim or array.shape[0] != size:
            raise InferError(
                ErrorKind.INTERNAL,
                f"output '{name}' of model '{model}' has shape {array.shape} for a padded batch of {size} rows; "
                f"{BATCH_SIZES} needs outputs with a row for each row of the batch",
            )
    return {name: array[:rows] for name, array in outputs.items()}
