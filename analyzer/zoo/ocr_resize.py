"""Images to another size. Copied beside each model of the Python backend that needs it, so it imports only numpy."""

import numpy as np
from numpy.typing import NDArray


def resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bilinear between the centres of the pixels, as image libraries do it that don't smooth first."""
    rows, columns = (_weights(old, new) for old, new in zip(image.shape[:2], size))
    lines = image.astype(np.float32)
    low, high, part = rows
    lines = lines[low] + (lines[high] - lines[low]) * part[:, None, None]
    low, high, part = columns
    lines = lines[:, low] + (lines[:, high] - lines[:, low]) * part[None, :, None]
    return np.rint(lines).astype(np.uint8)


def _weights(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.floor(at).astype(np.intp)
    return low, np.minimum(low + 1, old - 1), (at - low).astype(np.float32)
