"""What a server and the process of a model tell each other, as bytes: frames over a socket, tensors beside them.

A frame is a tuple of plain values in Python's own marshal form: both ends are the same interpreter, and nothing is
quicker. A tensor in a frame is (name, type, shape, data), where data are the bytes of a small tensor, or where a large
one lies in the shared memory.
"""

import marshal
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from analyzer.runtime.backends.python_arena import Arena, Array, Window

Frame = tuple[Any, ...]
PackedTensor = tuple[str, str, tuple[int, ...], Any]

INLINE_BYTES = 16384
"""Tensors up to this size travel inside of the frame: there, copying them costs less than sharing them."""

# From the server.
START, EXECUTE = range(2)
# From the model's process.
READY, FAILED, DONE, SENT, CALL = range(5)

_LENGTH = struct.Struct("<I")
_LIMIT_BYTES = 2**28  # large tensors are not in frames: who says more than that sends noise
_TEXT = "O"
_DTYPES: dict[str, np.dtype[Any]] = {}


def encode(frame: Frame) -> bytes:
    payload = marshal.dumps(frame)
    return _LENGTH.pack(len(payload)) + payload


class FrameReader:
    """Bytes as they come to frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. Raises ValueError, EOFError or TypeError where the bytes are none of ours."""
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at >= _LENGTH.size:
            length = _LENGTH.unpack_from(data, at)[0]
            if length > _LIMIT_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            end = at + _LENGTH.size + length
            if end > size:
                break
            frame = marshal.loads(data[at + _LENGTH.size : end])
            at = end
            self._rest = b""  # who stops in the middle of this loop reads no more
            yield frame
        self._rest = data[at:]


def pack(name: str, array: Array, arena: Arena) -> PackedTensor:
    """BYTES tensors are object arrays of ``bytes``, as everywhere in the runtime."""
    if array.dtype.hasobject:
        data = marshal.dumps(array.ravel().tolist())
        if len(data) <= INLINE_BYTES:
            return name, _TEXT, array.shape, data
        return name, _TEXT, array.shape, (arena.put(np.frombuffer(data, np.uint8)), len(data))
    if array.nbytes <= INLINE_BYTES:
        return name, array.dtype.str, array.shape, array.tobytes()
    return name, array.dtype.str, array.shape, arena.put(array)


def unpack(packed: PackedTensor, window: Window) -> Array:
    """The array: a read-only one for a small tensor, the shared memory itself for a large one."""
    _, code, shape, data = packed
    if code == _TEXT:
        if type(data) is tuple:
            data = window.array(np.dtype(np.uint8), (data[1],), data[0])
        texts = np.empty(shape, dtype=np.object_)
        texts.reshape(-1)[:] = marshal.loads(data)
        return texts
    dtype = _DTYPES.get(code)
    if dtype is None:
        dtype = _DTYPES[code] = np.dtype(code)
    if type(data) is int:
        return window.array(dtype, shape, data)
    return np.ndarray(shape, dtype, data)
