"""Stands in for the module cupti.cupti of cupti-python 13.0: the functions and record fields that its stubs state."""

import ctypes
from enum import IntEnum
from types import SimpleNamespace


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
    CUSTOM0 = 5


class CallbackDomain(IntEnum):
    DRIVER_API = 1
    RUNTIME_API = 2


class Result(IntEnum):
    ERROR_UNKNOWN = 999
    ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED = 39


class CuptiError(Exception):
    def __init__(self, status):
        super().__init__(Result(status).name)
        self.status = status


class FakeCupti:
    """Hands over ``records`` at each flush; ``refuses`` is the status of ``activity_enable``."""

    ActivityKind = ActivityKind
    ExternalCorrelationKind = ExternalCorrelationKind
    CallbackDomain = CallbackDomain
    Result = Result
    cuptiError = CuptiError

    def __init__(self, clock, records=(), refuses=0, dropped=0):
        self.records = list(records)
        self.enabled = []
        self.marks = []
        self._clock = clock
        self._refuses = refuses
        self._dropped = dropped
        self._completed = None

    def get_timestamp(self):
        return self._clock()

    def activity_register_callbacks(self, requested, completed):
        size_bytes, record_count = requested()
        assert size_bytes % 8 == 0
        assert record_count == 0
        self._completed = completed

    def activity_enable(self, kind):
        if self._refuses:
            raise CuptiError(self._refuses)
        self.enabled.append(ActivityKind(kind))

    def activity_disable(self, kind):
        self.enabled.remove(kind)

    def activity_flush_all(self, flag):
        records, self.records = self.records, []
        self._completed(records)

    def activity_get_num_dropped_records(self, context, stream, dropped):
        ctypes.c_size_t.from_address(dropped).value = self._dropped

    def activity_push_external_correlation_id(self, kind, number):
        self.marks.append(number)

    def activity_pop_external_correlation_id(self, kind):
        if not self.marks:
            raise CuptiError(Result.ERROR_UNKNOWN)
        return self.marks.pop()

    def get_callback_name(self, domain, number):
        return f"{CallbackDomain(domain).name.lower()}_{number}"


def kernel(start, end, correlation, name="gemm", stream=7, device=0):
    grid = dict.fromkeys(("grid_x", "grid_y", "grid_z"), 2)
    block = {"block_x": 64, "block_y": 2, "block_z": 1}
    return SimpleNamespace(
        kind=10, start=start, end=end, correlation_id=correlation, name=name, stream_id=stream, device_id=device,
        **grid, **block,
    )  # fmt: skip


def memcpy(start, end, correlation, copy_kind=1, src_kind=1, dst_kind=3, size=4096):
    return SimpleNamespace(
        kind=1, start=start, end=end, correlation_id=correlation, copy_kind=copy_kind, src_kind=src_kind,
        dst_kind=dst_kind, bytes=size, stream_id=7, device_id=0,
    )  # fmt: skip


def call(start, end, correlation, cbid=13, kind=5, thread=99):
    return SimpleNamespace(
        kind=kind, start=start, end=end, correlation_id=correlation, cbid=cbid, process_id=77, thread_id=thread
    )


def sync(start, end, correlation, type=3):
    return SimpleNamespace(
        kind=38, start=start, end=end, correlation_id=correlation, type=type, stream_id=0xFFFFFFFF, context_id=1
    )


def mark(correlation, number):
    return SimpleNamespace(kind=39, correlation_id=correlation, external_id=number, external_kind=5)
