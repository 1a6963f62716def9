"""The timeline's own file: a zip of NumPy arrays (``numpy.load`` opens it) and ``header.json``. Nothing is lost in it.

A column whose rows are all equal stands in the header as that one value.
"""

import struct
import zipfile
import zlib
from dataclasses import fields
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from analyzer.domain.record import Record
from analyzer.errors import InputError
from analyzer.timeline.table import (
    DTYPES,
    Anchor,
    Column,
    Counters,
    Device,
    Edges,
    Events,
    Meta,
    Series,
    Timeline,
    Track,
)

FORMAT_VERSION = 1
"""1: first version."""
SUFFIX = ".timeline"
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, msgspec.MsgspecError),
    *(KeyError, EOFError, ValueError, OverflowError, MemoryError, NotImplementedError, RuntimeError),
)
"""What zipfile, zlib and NumPy raise for a damaged file: sizes beyond all memory and unknown compression among it."""
_HEADER = "header.json"
_EDGES = tuple(each.name for each in fields(Edges))
_COUNTERS = ("series_id", "time_ns", "value")


class _Header(Record, frozen=True):
    format_version: int
    event_count: int
    constant: dict[str, int]
    meta: Meta
    tracks: tuple[Track, ...]
    devices: tuple[Device, ...]
    anchors: tuple[Anchor, ...]
    series: tuple[Series, ...]


class _Version(msgspec.Struct):
    format_version: int


def save(timeline: Timeline, path: Path) -> None:
    """Write the whole file beside its place and move it there, so that no torn file bears its name."""
    constant: dict[str, int] = {}
    partial = path.with_name(path.name + ".partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name in DTYPES:
                column = getattr(timeline.events, name)
                if len(column) and (column == column[0]).all():
                    constant[name] = int(column[0])
                else:
                    _write(archive, f"events/{name}", column)
            for name in _EDGES:
                _write(archive, f"edges/{name}", getattr(timeline.edges, name))
            for name in _COUNTERS:
                _write(archive, f"counters/{name}", getattr(timeline.counters, name))
            archive.writestr("names.json", msgspec.json.encode(timeline.names))
            archive.writestr(_HEADER, msgspec.json.encode(_header(timeline, constant)))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"can't write {path}: {error.strerror}; choose another place with --output") from None


def load(path: Path) -> Timeline:
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path)
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}") from None
    except _DAMAGE:
        raise InputError(f"{path} is not a whole timeline file; import the capture again") from None


def _read(archive: zipfile.ZipFile, path: Path) -> Timeline:
    raw = archive.read(_HEADER)
    version = msgspec.json.decode(raw, type=_Version).format_version
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path} has timeline format {version}, this program reads {FORMAT_VERSION}; import the capture again"
        )
    header = msgspec.json.decode(raw, type=_Header)
    columns = {name: _event_column(archive, name, header) for name in DTYPES}
    if any(len(column) != header.event_count for column in columns.values()):
        raise ValueError("columns of different lengths")
    samples = [_array(archive, f"counters/{name}") for name in _COUNTERS]
    return Timeline(
        events=Events(**columns),
        names=msgspec.json.decode(archive.read("names.json"), type=tuple[str, ...]),
        meta=header.meta,
        tracks=header.tracks,
        devices=header.devices,
        anchors=header.anchors,
        edges=Edges(*(_array(archive, f"edges/{name}") for name in _EDGES)),
        counters=Counters(header.series, *samples),
    )


def _header(timeline: Timeline, constant: dict[str, int]) -> _Header:
    return _Header(
        format_version=FORMAT_VERSION,
        event_count=len(timeline),
        constant=constant,
        meta=timeline.meta,
        tracks=timeline.tracks,
        devices=timeline.devices,
        anchors=timeline.anchors,
        series=timeline.counters.series,
    )


def _event_column(archive: zipfile.ZipFile, name: str, header: _Header) -> Column:
    if name in header.constant:
        return np.full(header.event_count, header.constant[name], DTYPES[name])
    return _array(archive, f"events/{name}").astype(DTYPES[name], copy=False)


def _write(archive: zipfile.ZipFile, name: str, column: Column) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, np.ascontiguousarray(column), allow_pickle=False)


def _array(archive: zipfile.ZipFile, name: str) -> Column:
    with archive.open(f"{name}.npy") as member:
        stream: IO[Any] = member
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
