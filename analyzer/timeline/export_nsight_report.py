"""A timeline as an Nsight Systems report, written by Nsight's own library through ``nvtx.writer``.

The library is part of an installed Nsight Systems; the environment variable ``NSYS_WRITER_BACKEND`` says where it is,
else it is looked for beside the ``nsys`` on PATH. A report that is written so has ranges, marks and counters: work of a
GPU becomes ranges of a stream that is named after the device and its stream.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.errors import ChildError, InputError, MissingExtraError
from analyzer.timeline.export_tracks import Layout, layout
from analyzer.timeline.kinds import Kind
from analyzer.timeline.table import Counters, Ns, Rows, Timeline

BACKEND_VARIABLE = "NSYS_WRITER_BACKEND"
SUFFIX = ".nsys-rep"
_LIBRARY = "libNvtxwBackend.so"
_DOMAIN = "serving-analyzer"


def write(timeline: Timeline, path: Path) -> None:
    if path.suffix != SUFFIX:
        raise InputError(f"{path} can't be a report of Nsight Systems; let its name end in {SUFFIX}")
    if not path.parent.is_dir():
        raise InputError(f"can't write {path}: no such folder; choose another place with --output")
    library = _library()
    try:
        from nvtx import writer
    except ImportError:
        raise MissingExtraError("writing a report needs nvtx 0.2.16 or newer; pip install 'nvtx>=0.2.16'") from None
    try:
        backend = writer.load_backend(library)
        try:
            with writer.Session(str(path.with_suffix("")), backend=backend) as session:
                _fill(timeline, session)
        finally:
            backend.close()
    except (OSError, writer.WriterError) as error:
        raise ChildError(f"Nsight's {library.name} could not write {path} ({error}); try --format nvtxt") from None
    if not path.exists():
        raise ChildError(f"Nsight's {library.name} wrote no {path}; try --format nvtxt")


def _library() -> Path:
    told = os.environ.get(BACKEND_VARIABLE)
    if told:
        if Path(told).is_file():
            return Path(told)
        raise InputError(f"{BACKEND_VARIABLE} names {told}, which is no file; set it to Nsight's {_LIBRARY}")
    nsys = shutil.which("nsys")
    homes = Path(nsys).resolve().parents[:2] if nsys else ()
    for home in homes:
        for found in (home / _LIBRARY, *sorted(home.glob(f"host-linux-*/{_LIBRARY}"))):
            if found.is_file():
                return found
    raise MissingExtraError(
        f"a {SUFFIX} is written by Nsight Systems itself, which is not found; install it and set {BACKEND_VARIABLE} to "
        f"its {_LIBRARY}, or choose --format nvtxt"
    )


def _fill(timeline: Timeline, session: Any) -> None:
    """One stream for each track, in which ranges nest; the library takes times as those of the wall clock."""
    events, found = timeline.events, layout(timeline)
    offset_ns = next((anchor.offset_ns for anchor in timeline.anchors if anchor.clock == "utc"), 0)
    domain = session.get_domain(_DOMAIN)
    texts = {key: domain.get_registered_string(timeline.names[key]) for key in np.unique(events.name_id).tolist()}
    for place, rows in _by_place(found):
        with session.create_stream(_path(found, place), domain=domain) as stream:
            start, end = (column[rows] + offset_ns for column in (events.start_ns, events.end_ns))
            kinds, names = events.kind[rows].tolist(), events.name_id[rows].tolist()
            for kind, name, begin, finish in zip(kinds, names, start.tolist(), end.tolist(), strict=True):
                told = {"message": texts[name], "category": Kind(kind).name.lower()}
                if kind == Kind.MARK:
                    stream.write_mark(begin, **told)
                else:
                    stream.write_pushpop(begin, finish, **told)
    if timeline.counters.series:
        with session.create_stream("counters", domain=domain) as stream:
            _count(timeline.counters, offset_ns, domain, stream)


def _count(counters: Counters, offset_ns: int, domain: Any, stream: Any) -> None:
    for number, series in enumerate(counters.series):
        mine = counters.series_id == number
        where = f"GPU {series.device} {series.name}" if series.device >= 0 else series.name
        counter = domain.get_counter(f"{where} [{series.unit}]" if series.unit else where, float)
        times: Ns = counters.time_ns[mine] + offset_ns
        stream.write_counter_batch(counter, np.ascontiguousarray(counters.value[mine]), timestamps=times)


def _by_place(found: Layout) -> Iterator[tuple[int, Rows]]:
    order = np.argsort(found.place, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(found.place[order])) + 1):
        if len(rows):
            yield int(found.place[rows[0]]), rows


def _path(found: Layout, place: int) -> str:
    """The track's name behind those of what it belongs to; lanes of one name are told apart by their number."""
    names = []
    at = place
    while at >= 0:
        names.append(found.places[at].name)
        at = found.places[at].parent
    twins = [number for number, other in enumerate(found.places) if other == found.places[place]]
    lane = f" ({twins.index(place) + 1})" if len(twins) > 1 else ""
    return " / ".join(reversed(names)) + lane
