"""Shared memory that clients register: tensors are read from it and written to it in place, past the socket.

A client that makes its object smaller after it was registered is refused at the next use of the region. Where it does
so while a request on that region is being worked on, the model reads zeros, and an output that has no place is an error
(see ``bus_guard``). Copies by pwrite and pread took twice as long as copies through the mapping (600 KB: 59 and 45 us,
not 25).
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from analyzer.runtime.bus_guard import GuardedMap
from analyzer.runtime.cuda_memory import CudaDriver, CudaError, CudaRegion, LibCuda, open_region
from analyzer.runtime.device_tensor import DeviceTensor, as_array, on_device
from analyzer.runtime.dtypes import datatype_of_numpy
from analyzer.runtime.request import Delivery, ErrorKind, InferError
from analyzer.runtime.wire import Array, from_raw, invalid, to_raw

_T = TypeVar("_T")

_FOLDER = Path("/dev/shm")
_NAME_LIMIT = 255


@dataclass(frozen=True, slots=True)
class Region:
    """``byte_size`` bytes from ``offset`` on in the POSIX shared memory object ``key``; ``view`` are those bytes."""

    name: str
    key: str
    offset: int
    byte_size: int
    map: GuardedMap

    @property
    def view(self) -> memoryview:
        return self.map.view[self.offset :]

    def check(self) -> None:
        """Raises InferError where a part of the object is gone."""
        if self.map.file_bytes < self.offset + self.byte_size:
            text = f"shared memory region '{self.name}' is larger than its object '{self.key}', which was made smaller"
            raise InferError(ErrorKind.INVALID_ARGUMENT, text)
        if self.map.is_lost:
            text = (
                f"shared memory region '{self.name}' lost a part of its object '{self.key}', which was made smaller or "
                "found /dev/shm full; unregister it and register it again"
            )
            raise InferError(ErrorKind.INVALID_ARGUMENT, text)


class SharedMemory:
    """The registered regions, by name: POSIX shared memory, and memory of CUDA devices.

    A region that is unregistered stays mapped until the last tensor that lies in it is gone.
    """

    def __init__(self, load_cuda: Callable[[], CudaDriver] = LibCuda) -> None:
        self._regions: dict[str, Region] = {}
        self._cuda_regions: dict[str, CudaRegion] = {}
        self._load_cuda = load_cuda
        self._cuda: CudaDriver | None = None

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Maps the object that the client has made. Raises InferError."""
        self._check_new(name, byte_size)
        if offset < 0:
            raise invalid(f"shared memory region '{name}' needs an offset of 0 or more")
        self._regions[name] = Region(name, key, offset, byte_size, _mapped(key, offset, byte_size))

    def unregister(self, name: str = "") -> None:
        """Forgets one region, or all where none is named. That it was not registered is no error."""
        for known in [name] if name else list(self._regions):
            self._regions.pop(known, None)

    def status(self, name: str = "") -> Iterator[Region]:
        """One region, or all by name. Raises InferError for an unknown one."""
        if name and name not in self._regions:
            raise InferError(ErrorKind.NOT_FOUND, f"Unable to find system shared memory region: '{name}'")
        return iter([self._regions[key] for key in sorted(self._regions) if name in ("", key)])

    def register_cuda(self, name: str, handle: bytes, device: int, byte_size: int) -> None:
        """Opens the memory that a client has on a device, by its CUDA IPC handle. Raises InferError."""
        self._check_new(name, byte_size)
        try:
            if self._cuda is None:
                self._cuda = self._load_cuda()
            self._cuda_regions[name] = open_region(self._cuda, name, handle, device, byte_size)
        except CudaError as error:
            text = f"failed to register CUDA shared memory region '{name}': {error}; use system shared memory"
            raise InferError(ErrorKind.INVALID_ARGUMENT if self._cuda is None else ErrorKind.INTERNAL, text) from None

    def unregister_cuda(self, name: str = "") -> None:
        """As ``unregister``."""
        if name:
            self._cuda_regions.pop(name, None)
        else:
            self._cuda_regions.clear()

    def cuda_status(self, name: str = "") -> Iterator[CudaRegion]:
        """As ``status``."""
        if name and name not in self._cuda_regions:
            raise InferError(ErrorKind.NOT_FOUND, f"Unable to find cuda shared memory region: '{name}'")
        return iter([self._cuda_regions[key] for key in sorted(self._cuda_regions) if name in ("", key)])

    def check(self, place: Delivery) -> None:
        """Raises InferError for a place that is in no region."""
        cuda = self._cuda_regions.get(place.region)
        if cuda is None:
            self.view(place.region, place.offset, place.byte_size)
        else:
            _check_room(cuda, place.offset, place.byte_size)

    def is_cuda(self, name: str) -> bool:
        return name in self._cuda_regions

    def view(self, name: str, offset: int, byte_size: int) -> memoryview:
        """A part of a region of system shared memory, writable. Raises InferError."""
        region = self._regions.get(name)
        if region is None:
            raise InferError(ErrorKind.NOT_FOUND, f"Unable to find shared memory region: '{name}'")
        _check_room(region, offset, byte_size)
        region.check()
        begin = region.offset + offset
        return region.map.view[begin : begin + byte_size]

    def read(self, name: str, dtype: "np.dtype[np.generic]", shape: tuple[int, ...], place: Delivery) -> Array:
        """A tensor that lies in a region, without a copy: a DeviceTensor in CUDA memory. Raises InferError.

        The model can't write to it: it is the client's.
        """
        cuda = self._cuda_regions.get(place.region)
        if cuda is None:
            return from_raw(name, dtype, shape, self.view(place.region, place.offset, place.byte_size).toreadonly())
        _check_room(cuda, place.offset, place.byte_size)
        pointer = cuda.pointer + place.offset
        datatype = datatype_of_numpy(dtype)
        if dtype.hasobject or datatype is None:  # texts have no form on a device
            return from_raw(name, dtype, shape, _told(lambda: cuda.read(pointer, place.byte_size)))
        expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if place.byte_size != expected:
            raise invalid(f"input byte size mismatch for input '{name}'. Expected {expected}, got {place.byte_size}")
        return as_array(DeviceTensor(pointer, place.byte_size, cuda.device, datatype, shape, cuda))

    def write(self, name: str, array: Array, place: Delivery) -> None:
        """Puts an output in its place, whatever side of the bus it comes from. Raises InferError."""
        raw = np.frombuffer(to_raw(array), np.uint8) if array.dtype.hasobject else None
        size = array.nbytes if raw is None else len(raw)
        if size > place.byte_size:
            text = (
                f"shared memory size specified with the request for output '{name}' ({place.byte_size} bytes) "
                f"should be at least {size} bytes to hold the results"
            )
            raise InferError(ErrorKind.INTERNAL, text)
        cuda = self._cuda_regions.get(place.region)
        if cuda is not None:
            _check_room(cuda, place.offset, size)
            _told(lambda: _write_cuda(cuda, place.offset, array if raw is None else raw))
            return
        room = self.view(place.region, place.offset, place.byte_size)
        if raw is not None:
            room[:size] = raw.data
        else:
            device_tensor = on_device(array)
            source = array if device_tensor is None else _told(device_tensor.to_host)
            # Straight into its place, whatever the array's own layout is.
            np.ndarray(source.shape, source.dtype, room)[...] = source
        region = self._regions.get(place.region)
        if region is not None and region.map.is_lost:
            region.check()

    def _check_new(self, name: str, byte_size: int) -> None:
        if not name:
            raise invalid("a shared memory region needs a name")
        if name in self._regions or name in self._cuda_regions:
            raise InferError(ErrorKind.ALREADY_EXISTS, f"shared memory region '{name}' already in manager")
        if byte_size <= 0:
            raise invalid(f"shared memory region '{name}' needs a byte_size above 0")


def _write_cuda(region: CudaRegion, offset: int, array: Array) -> None:
    to, tensor = region.pointer + offset, on_device(array)
    if tensor is not None and tensor.device == region.device:
        region.driver.within(to, region.device, tensor.pointer, tensor.byte_size)
        return
    host = array if tensor is None else tensor.to_host()
    if host.nbytes:
        region.driver.to_device(to, region.device, np.ascontiguousarray(host))


def _told(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except CudaError as error:
        raise InferError(ErrorKind.INTERNAL, f"CUDA shared memory can't be used: {error}") from None


def _check_room(region: Region | CudaRegion, offset: int, byte_size: int) -> None:
    if offset < 0 or byte_size < 0 or offset + byte_size > region.byte_size:
        raise invalid(f"Invalid offset + byte size for shared memory region: '{region.name}'")


def _mapped(key: str, offset: int, byte_size: int) -> GuardedMap:
    """Opened as shm_open does it, so no key leads out of the folder of shared memory."""
    name = key.removeprefix("/")
    missing = InferError(ErrorKind.INTERNAL, f"Unable to open shared memory region: '{key}'")
    if not name or "/" in name or "\0" in name or name in (".", "..") or len(name.encode()) > _NAME_LIMIT:
        raise missing
    try:
        descriptor = os.open(_FOLDER / name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise missing from None
    try:
        if offset + byte_size > os.fstat(descriptor).st_size:
            raise InferError(ErrorKind.INTERNAL, f"Invalid shared memory region: '{key}'")
        return GuardedMap(descriptor, offset + byte_size)
    except (OSError, ValueError, OverflowError):
        raise missing from None
    finally:
        os.close(descriptor)
