"""The runtime's spans, from the file it left, to events: requests and queueing, batches and their stages, steps."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from analyzer.errors import ChildError
from analyzer.runtime.spans import FORMAT_VERSION, Row
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import Kind, Relation
from analyzer.timeline.table import ABSENT, Track

Rows = npt.NDArray[np.int64]
STAGES = ("compute_input", "compute_infer", "compute_output")
KINDS = ("client_request", "request", "batch", "step", "stage")
"""Names of what spans tell of, for ``Meta.collected``."""


@dataclass(frozen=True, slots=True)
class SpanFile:
    """A window of spans. ``columns`` has one array a column; ``utc_offset_ns`` is wall time minus monotonic time.

    ``utc_drift_ns`` is how far the two clocks parted within the window.
    """

    columns: dict[str, Rows]
    models: tuple[str, ...]
    workers: tuple[tuple[str, int], ...]
    dropped: int
    utc_offset_ns: int
    utc_drift_ns: int

    def of(self, kind: Row) -> dict[str, Rows]:
        chosen = self.columns["kind"] == kind
        return {name: column[chosen] for name, column in self.columns.items()}


def read_spans(path: Path) -> SpanFile:
    """Raises ChildError where the file is not what the runtime writes."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            header: dict[str, Any] = json.loads(file["header"].tobytes())
            table = file["rows"]
        if header["format_version"] != FORMAT_VERSION:
            raise ChildError(f"the spans of the runtime are of format {header['format_version']}; use one version")
        offsets = header["utc_offsets_ns"]
        return SpanFile(
            columns={name: table[:, place] for place, name in enumerate(header["columns"])},
            models=tuple(name for name, _ in header["models"]),
            workers=tuple((name, thread) for name, thread in header["workers"]),
            dropped=header["dropped"],
            utc_offset_ns=offsets[0],
            utc_drift_ns=abs(offsets[-1] - offsets[0]),
        )
    except (OSError, EOFError, KeyError, ValueError, IndexError, TypeError, zipfile.BadZipFile) as error:
        raise ChildError(f"the spans of the runtime can't be read: {error}") from error


def add_spans(build: TimelineBuilder, spans: SpanFile, process: int) -> list[Track]:
    """Adds everything of a window. Gives the names of the instances' threads."""
    models = np.array([build.name_id(name) for name in spans.models] or [ABSENT])
    _add_requests(build, spans.of(Row.REQUEST), models, process)
    _add_batches(build, spans, models, process)
    _add_steps(build, spans, models, process)
    return [Track(name, process=process, thread=thread) for name, thread in spans.workers if thread > 0]


def instances_of(spans: SpanFile) -> Rows:
    """Of each worker its place among the instances of its model, in the order of their names."""
    batches = spans.of(Row.BATCH)
    instance = np.full(len(spans.workers), ABSENT)
    for model in np.unique(batches["model"]):
        mine = np.unique(batches["worker"][batches["model"] == model])
        ordered = sorted(mine, key=lambda worker: _natural(spans.workers[worker][0]))
        instance[ordered] = np.arange(len(ordered))
    return instance


def _natural(name: str) -> tuple[str, int]:
    head, _, number = name.rpartition("_")
    return (head, int(number)) if number.isdigit() else (name, 0)


def _add_requests(build: TimelineBuilder, rows: dict[str, Rows], models: Rows, process: int) -> None:
    model = models[rows["model"]]
    build.add(
        Kind.REQUEST, rows["t0_ns"], rows["t3_ns"], build.name_id("request"),
        process=process, model_id=model, request=rows["id"], size=rows["rows"],
    )  # fmt: skip
    queued = rows["t1_ns"] > 0
    left_ns = np.where(rows["t2_ns"] > 0, rows["t2_ns"], rows["t3_ns"])
    build.add(
        Kind.STAGE, rows["t1_ns"][queued], left_ns[queued], build.name_id("queue"),
        process=process, model_id=model[queued], request=rows["id"][queued],
    )  # fmt: skip
    executed = rows["link"] > 0
    build.link(Relation.REQUEST_BATCH, rows["id"][executed], rows["link"][executed])
    stepped = executed & (rows["step"] > 0)
    build.link(Relation.BATCH_STEP, rows["link"][stepped], rows["step"][stepped])


def _add_batches(build: TimelineBuilder, spans: SpanFile, models: Rows, process: int) -> None:
    rows = spans.of(Row.BATCH)
    if not len(rows["id"]):
        return
    threads = np.array([thread or ABSENT for _, thread in spans.workers], np.int64)
    common: dict[str, npt.ArrayLike] = {
        "process": process,
        "thread": threads[rows["worker"]],
        "model_id": models[rows["model"]],
        "instance": instances_of(spans)[rows["worker"]],
        "batch": rows["id"],
    }
    build.add(Kind.BATCH, rows["t0_ns"], rows["t3_ns"], build.name_id("batch"), size=rows["rows"], **common)
    for stage, start, end in zip(STAGES, ("t0_ns", "t1_ns", "t2_ns"), ("t1_ns", "t2_ns", "t3_ns")):
        build.add(Kind.STAGE, rows[start], rows[end], build.name_id(stage), **common)


def _add_steps(build: TimelineBuilder, spans: SpanFile, models: Rows, process: int) -> None:
    rows = spans.of(Row.STEP)
    if not len(rows["id"]):
        return
    model = models[rows["model"]]
    build.add(
        Kind.STEP, rows["t0_ns"], rows["t3_ns"], model,
        process=process, model_id=model, request=rows["link"], step=rows["id"], size=rows["rows"],
    )  # fmt: skip
    build.link(Relation.REQUEST_STEP, rows["link"], rows["id"])
    requests = spans.of(Row.REQUEST)
    parents = dict(zip(rows["id"].tolist(), rows["link"].tolist()))
    made = [
        (parents[step], child)
        for step, child in zip(requests["step"].tolist(), requests["id"].tolist())
        if step in parents
    ]
    if made:
        build.link(Relation.REQUEST_CHILD, *np.array(made).T)


@dataclass(frozen=True, slots=True)
class Sent:
    """Requests as the load generator saw them: when each left and when its last answer came; CLOCK_MONOTONIC, ns."""

    model: str
    sent_ns: Rows
    answered_ns: Rows


def add_sent(build: TimelineBuilder, spans: SpanFile, sent: Sent) -> None:
    """Adds the client's requests of the window, each with the server's request that it must have been.

    They bear no common mark, so it goes by time: of the requests under way at a client while the server had one, the
    first that left is taken for it. With one request in flight that is certain.
    """
    rows = spans.of(Row.REQUEST)
    mine = (rows["step"] == 0) & (rows["failed"] == 0)
    mine &= np.isin(rows["model"], [place for place, name in enumerate(spans.models) if name == sent.model])
    served = [rows[name][mine] for name in ("t0_ns", "t3_ns", "id")]
    if not len(served[0]):
        return
    chosen = np.flatnonzero((sent.answered_ns >= served[0].min()) & (sent.sent_ns <= served[1].max()))
    chosen = chosen[np.argsort(sent.sent_ns[chosen], kind="stable")]
    began_ns, ended_ns = sent.sent_ns[chosen], sent.answered_ns[chosen]
    ids = _matched(began_ns, ended_ns, *(each[np.argsort(served[0], kind="stable")] for each in served))
    build.add(
        Kind.CLIENT_REQUEST, began_ns, ended_ns, build.name_id("client request"),
        model_id=build.name_id(sent.model), request=ids,
    )  # fmt: skip


def _matched(sent_ns: Rows, answered_ns: Rows, arrived_ns: Rows, left_ns: Rows, ids: Rows) -> Rows:
    """The server's id for each client request, both in order of their beginning; ABSENT where there is none."""
    found = np.full(len(sent_ns), ABSENT)
    begins, ends = sent_ns.tolist(), answered_ns.tolist()
    waiting: list[int] = []
    next_place = 0
    for arrived, left, number in zip(arrived_ns.tolist(), left_ns.tolist(), ids.tolist()):
        while next_place < len(begins) and begins[next_place] <= arrived:
            waiting.append(next_place)
            next_place += 1
        # Who was answered before this one came will not be found any more.
        waiting = [place for place in waiting if ends[place] >= arrived]
        place = next((place for place in waiting if ends[place] >= left), None)
        if place is not None:
            found[place] = number
            waiting.remove(place)
    return found
