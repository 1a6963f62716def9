"""Stands in for cupti.cupti of cupti-python and for the libcupti below it, which writes real records into real buffers.

Offsets and lengths are those of CUPTI's header, written down here a second time: a mistake in the reader's does not
cancel out.
"""

import ctypes
import struct
import threading
from enum import IntEnum

LENGTHS = {1: 96, 2: 88, 4: 40, 5: 40, 9: 32, 10: 216, 17: 56, 22: 96, 38: 56, 39: 24}
"""Of CUPTI 13.0."""
LENGTHS_12_6 = {**LENGTHS, 1: 88, 10: 208, 38: 40}
LENGTHS_13_3 = {**LENGTHS, 10: 232}
_MAX_LIMIT_REACHED, _INVALID_KIND = 12, 21
_UNNAMED_FROM = 600
_NAMES = {
    4: {17: "cuCtxSynchronize", 126: "cuStreamSynchronize", 277: "cuMemcpyHtoDAsync_v2", 307: "cuLaunchKernel"},
    5: {17: "cudaGetDevice_v3020", 41: "cudaMemcpyAsync_v3020", 131: "cudaStreamSynchronize_v3020",
        165: "cudaDeviceSynchronize_v3020", 211: "cudaLaunchKernel_v7000"},
}  # fmt: skip


class ActivityKind(IntEnum):
    MEMCPY = 1
    MEMSET = 2
    DRIVER = 4
    RUNTIME = 5
    CONCURRENT_KERNEL = 10
    MEMCPY2 = 22
    SYNCHRONIZATION = 38
    EXTERNAL_CORRELATION = 39


class ExternalCorrelationKind(IntEnum):
    CUSTOM0 = 3


class CallbackDomain(IntEnum):
    DRIVER_API = 1
    RUNTIME_API = 2


class Result(IntEnum):
    ERROR_INVALID_PARAMETER = 1
    ERROR_UNKNOWN = 999
    ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED = 39


class CuptiError(Exception):
    def __init__(self, status):
        super().__init__(Result(status).name)
        self.status = status


class FakeLibrary:
    """The functions that are called by ctypes. ``drops``: how many records each window loses by itself."""

    def __init__(self, lengths, drops=0, flush_status=0):
        self._drops = drops
        self._dropped = 0
        self._lengths = lengths
        self._flush_status = flush_status
        self._callbacks = None
        self._buffer = (0, 0, 0)  # address, size, used
        self._lock = threading.Lock()

    def cuptiActivityRegisterCallbacks(self, requested, completed):
        self._callbacks = requested, completed
        return 0

    def cuptiActivityFlushAll(self, flag):
        assert flag.value == 1
        with self._lock:
            self._hand_over()
        return self._flush_status

    def cuptiActivityGetNumDroppedRecords(self, context, stream, count):
        count._obj.value, self._dropped = self._dropped, self._drops
        return 0

    def cuptiActivityGetNextRecord(self, buffer, valid, record):
        place = 0
        if record._obj.value is not None:
            place = record._obj.value - buffer.value
            place += self._lengths[_kind_at(buffer.value + place)]
        if place >= valid.value:
            return _MAX_LIMIT_REACHED
        length = self._lengths.get(_kind_at(buffer.value + place), 0)
        if not length or place + length > valid.value:
            return _INVALID_KIND if not length else _MAX_LIMIT_REACHED
        record._obj.value = buffer.value + place
        return 0

    def write(self, data):
        with self._lock:
            address, size, used = self._buffer
            if used + len(data) > size:
                self._hand_over()
                address, size, used = self._request()
            if not address:
                self._dropped += 1
                return
            ctypes.memmove(address + used, data, len(data))
            self._buffer = address, size, used + len(data)

    def cut(self, count):
        """Takes bytes off the end of what was written."""
        address, size, used = self._buffer
        self._buffer = address, size, used - count

    def _request(self):
        buffer, size, most = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t(7)
        self._callbacks[0](ctypes.byref(buffer), ctypes.byref(size), ctypes.byref(most))
        assert most.value == 0
        assert (buffer.value or 0) % 8 == 0
        self._buffer = buffer.value or 0, size.value, 0
        if buffer.value:
            ctypes.memset(buffer.value, 0, size.value)
        return self._buffer

    def _hand_over(self):
        address, size, used = self._buffer
        self._buffer = 0, 0, 0
        if address:
            self._callbacks[1](None, 0, address, size, used)


class FakeCupti:
    """``records`` are written as the window ends. ``refuses`` is the status of ``activity_enable``.

    With ``can_select`` False it is a library that can't switch single calls off.
    """

    ActivityKind = ActivityKind
    ExternalCorrelationKind = ExternalCorrelationKind
    CallbackDomain = CallbackDomain
    Result = Result
    cuptiError = CuptiError

    def __init__(self, clock, records=(), refuses=0, lengths=LENGTHS, can_select=True, **library):
        self.library = FakeLibrary(lengths, **library)
        self.records = list(records)
        self.enabled = []
        self._lengths = lengths
        self._clock = clock
        self._refuses = refuses
        self._can_select = can_select
        self._off = set()
        self._stacks = threading.local()
        self._names = {}
        self._correlation = 0
        self._lock = threading.Lock()

    @property
    def marks(self):
        """The ids that the calling thread has pushed."""
        if not hasattr(self._stacks, "ids"):
            self._stacks.ids = []
        return self._stacks.ids

    def get_timestamp(self):
        return self._clock()

    def activity_enable(self, kind):
        if self._refuses:
            raise CuptiError(self._refuses)
        self.enabled.append(ActivityKind(kind))
        self._off = {each for each in self._off if each[0] != kind}

    def activity_disable(self, kind):
        self.write(*self.records)
        self.records = []
        self.enabled.remove(kind)

    def activity_enable_runtime_api(self, number, enable):
        self._switch(5, number, enable)

    def activity_enable_driver_api(self, number, enable):
        self._switch(4, number, enable)

    def activity_push_external_correlation_id(self, kind, number):
        assert kind == ExternalCorrelationKind.CUSTOM0
        self.marks.append(number)

    def activity_pop_external_correlation_id(self, kind):
        if not self.marks:
            raise CuptiError(Result.ERROR_UNKNOWN)
        return self.marks.pop()

    def get_callback_name(self, domain, number):
        if number >= _UNNAMED_FROM:
            raise CuptiError(Result.ERROR_INVALID_PARAMETER)
        kind = 4 if domain == CallbackDomain.DRIVER_API else 5
        return _NAMES[kind].get(number, f"cudaAsks{number}_v3020")

    def write(self, *records):
        """Records, if their kind is collected."""
        for kind, fields in records:
            if kind in self.enabled and (kind, fields.get("cbid")) not in self._off:
                self.library.write(self._bytes(kind, fields))

    def launch(self, name="gemm"):
        """What the calling thread does to have a kernel run: the calls, each with its mark before it."""
        with self._lock:
            self._correlation += 1
            number = self._correlation
        now = self._clock()
        marks = [mark(number, self.marks[-1])] if self.marks else []
        self.write(*marks, call(now, now + 9, number), *marks, call(now + 1, now + 8, number, cbid=307, kind=4))
        self.write(kernel(now + 10, now + 20, number, name))
        return number

    def _switch(self, kind, number, enable):
        if not self._can_select:
            raise RuntimeError("function is not found")
        assert kind in self.enabled
        assert not enable
        self._off.add((kind, number))

    def _bytes(self, kind, fields):
        data = bytearray(self._lengths[kind])
        struct.pack_into("<I", data, 0, kind)
        for name, value in fields.items():
            offset, code = _FIELDS[kind][name]
            struct.pack_into(f"<{code}", data, offset, self._pointer(value) if name == "name" else value)
        return bytes(data)

    def _pointer(self, text):
        return ctypes.addressof(self._names.setdefault(text, ctypes.create_string_buffer(text.encode())))


def _kind_at(address):
    return ctypes.c_uint32.from_address(address).value


_COPY = {
    "copy_kind": (4, "B"), "src_kind": (5, "B"), "dst_kind": (6, "B"), "bytes": (8, "Q"), "start": (16, "Q"),
    "end": (24, "Q"), "device_id": (32, "I"), "context_id": (36, "I"), "stream_id": (40, "I"),
}  # fmt: skip
_CALL = {
    "cbid": (4, "I"), "start": (8, "Q"), "end": (16, "Q"), "process_id": (24, "I"), "thread_id": (28, "I"),
    "correlation_id": (32, "I"), "return_value": (36, "I"),
}  # fmt: skip
_FIELDS = {
    1: {**_COPY, "correlation_id": (44, "I")},
    2: {"value": (4, "I"), "bytes": (8, "Q"), "start": (16, "Q"), "end": (24, "Q"), "device_id": (32, "I"),
        "stream_id": (40, "I"), "correlation_id": (44, "I")},
    4: _CALL,
    5: _CALL,
    9: {},
    10: {"start": (16, "Q"), "end": (24, "Q"), "device_id": (40, "I"), "stream_id": (48, "I"), "grid_x": (52, "i"),
         "grid_y": (56, "i"), "grid_z": (60, "i"), "block_x": (64, "i"), "block_y": (68, "i"), "block_z": (72, "i"),
         "correlation_id": (92, "I"), "name": (104, "q")},
    17: {},
    22: {**_COPY, "correlation_id": (60, "I")},
    38: {"type": (4, "I"), "start": (8, "Q"), "end": (16, "Q"), "correlation_id": (24, "I"), "context_id": (28, "I"),
         "stream_id": (32, "I")},
    39: {"external_kind": (4, "I"), "external_id": (8, "Q"), "correlation_id": (16, "I")},
}  # fmt: skip


def kernel(start, end, correlation, name="gemm", stream=7, device=0):
    shape = {"grid_x": 2, "grid_y": 2, "grid_z": 2, "block_x": 64, "block_y": 2, "block_z": 1}
    fields = {"start": start, "end": end, "correlation_id": correlation, "name": name, "stream_id": stream}
    return 10, {**fields, "device_id": device, **shape}


def memcpy(start, end, correlation, copy_kind=1, src_kind=1, dst_kind=3, size=4096, kind=1):
    return kind, {
        "start": start, "end": end, "correlation_id": correlation, "copy_kind": copy_kind, "src_kind": src_kind,
        "dst_kind": dst_kind, "bytes": size, "stream_id": 7, "device_id": 0,
    }  # fmt: skip


def memset(start, end, correlation, size=512):
    fields = {"start": start, "end": end, "correlation_id": correlation, "bytes": size, "stream_id": 7, "device_id": 0}
    return 2, fields


def call(start, end, correlation, cbid=211, kind=5, thread=99):
    return kind, {
        "start": start, "end": end, "correlation_id": correlation, "cbid": cbid, "process_id": 77,
        "thread_id": thread & 0xFFFFFFFF,
    }  # fmt: skip


def sync(start, end, correlation, type=3):
    return 38, {
        "start": start, "end": end, "correlation_id": correlation, "type": type, "stream_id": 0xFFFFFFFF,
        "context_id": 1,
    }  # fmt: skip


def mark(correlation, number, kind=3):
    return 39, {"correlation_id": correlation, "external_id": number, "external_kind": kind}
