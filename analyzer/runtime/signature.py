"""What a model takes and gives, and whether a request fits: checked once a request, from tables made at load."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class InputSpec:
    """``dims`` are as a client sends them: the batch dimension (-1) comes first where the model batches.

    ``inner`` is the shape the backend wants behind the batch dimension, where the config says ``reshape``.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    dtype: np.dtype[np.generic]
    optional: bool = False
    inner: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """``dims`` are as a client sees them; ``reshaped`` is true where the backend's own shape is another."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    dtype: np.dtype[np.generic]
    reshaped: bool = False


ShapeKey = tuple[object, ...] | None
