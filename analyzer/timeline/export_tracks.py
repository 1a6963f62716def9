"""Events to the tracks that a viewer draws: processes with their threads, models with their instances, GPUs with their
streams, requests side by side. No two events of a track overlap unless one holds the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analyzer.domain.record import Record
from analyzer.timeline.export_lanes import codes, disjoint_lanes, nesting_lanes
from analyzer.timeline.kinds import GPU_KINDS, Kind
from analyzer.timeline.table import ABSENT, Column, Rows, Timeline

_THREAD_KINDS = (Kind.RANGE, Kind.MARK, Kind.API, Kind.OS_CALL, Kind.OVERHEAD, Kind.OPERATOR)


class Place(Record, frozen=True):
    """A track. ``parent`` is the number of another; process and thread are set where the track is one itself."""

    name: str
    parent: int = ABSENT
    process: int = ABSENT
    thread: int = ABSENT


@dataclass(frozen=True, slots=True)
class Layout:
    """``place`` has the number of each row's track; every track stands behind its parent."""

    places: tuple[Place, ...]
    place: Column
    processes: dict[int, int]
    devices: dict[int, int]


def layout(timeline: Timeline) -> Layout:
    return _Layout(timeline).made()


class _Layout:
    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.events = timeline.events
        self.place = np.full(len(timeline), ABSENT, np.int64)
        self.places: list[Place] = []
        self.known: dict[tuple[str | int, ...], int] = {}
        self.names = {(each.process, each.thread, each.device, each.stream): each.name for each in timeline.tracks}
        self.device_names = {each.id: each.name for each in timeline.devices}
        self.has_many_gpu_users = len(np.unique(self.events.process[timeline.rows(*GPU_KINDS)])) > 1

    def made(self) -> Layout:
        events = self.events
        for process in np.unique(events.process[events.process >= 0]).tolist():
            self._process(process)
        for series in self.timeline.counters.series:
            self._process(series.process)
            self._device(series.device)
        self._threads()
        by_row = np.arange(len(events))
        self._lanes("client requests", self.timeline.rows(Kind.CLIENT_REQUEST), (events.process,), by_row)
        self._serving()
        self._lanes("start/end ranges", self.timeline.rows(Kind.SPAN), (events.process,), by_row)
        where = (events.device, events.stream, events.process)
        self._lanes("stream", self.timeline.rows(*GPU_KINDS), where, by_row)
        self._lanes("synchronization", self.timeline.rows(Kind.SYNC), where, by_row)
        return Layout(
            places=tuple(self.places),
            place=self.place,
            processes={int(key[1]): number for key, number in self.known.items() if key[0] == "process"},
            devices={int(key[1]): number for key, number in self.known.items() if key[0] == "GPU"},
        )

    def _threads(self) -> None:
        rows = self.timeline.rows(*_THREAD_KINDS)
        group = codes(self.events.process[rows], self.events.thread[rows])[0]
        self._assign("thread", rows, group, np.zeros(len(rows), np.int64))

    def _serving(self) -> None:
        """A request with its stages and steps is one unit, a batch with its stages another."""
        events = self.events
        rows = self.timeline.rows(Kind.REQUEST, Kind.STEP, Kind.STAGE, Kind.BATCH)
        is_batch = (events.kind[rows] == Kind.BATCH) | ((events.batch[rows] >= 0) & (events.request[rows] < 0))
        alone = -2 - np.arange(len(events))  # a unit of its own for what names neither request nor batch
        batch_unit = np.where(events.batch >= 0, events.batch, alone)
        request_unit = np.where(events.request >= 0, events.request, alone)
        models = (events.process, self.request_models)
        self._lanes("requests", rows[~is_batch], models, request_unit)
        self._lanes("instance", rows[is_batch], (events.process, events.model_id, events.instance), batch_unit)

    @cached_property
    def request_models(self) -> Column:
        """The model that a row's request asked for, which is the ensemble in the case of a step."""
        events = self.events
        requests = self.timeline.rows(Kind.REQUEST)
        known, first = np.unique(events.request[requests], return_index=True)
        if not len(known):
            return events.model_id
        place = np.searchsorted(known, events.request).clip(max=len(known) - 1)
        is_known = (known[place] == events.request) & (events.request >= 0)
        return np.where(is_known, events.model_id[requests[first]][place], events.model_id)

    def _lanes(self, family: str, rows: Rows, keys: Sequence[Column], unit: Column) -> None:
        """Units of a group get lanes of their own while they overlap."""
        if not len(rows):
            return
        group = codes(*(key[rows] for key in keys))[0]
        code = codes(group, unit[rows])[0]
        order = np.argsort(code, kind="stable")
        begin = np.flatnonzero(np.diff(code[order], prepend=-1))
        start = self.events.start_ns[rows][order][begin]  # rows are in order of start
        end = np.maximum.reduceat(self.events.end_ns[rows][order], begin)
        by_start = np.argsort(start, kind="stable")
        lane = np.empty(len(begin), np.int64)
        lane[by_start] = disjoint_lanes(start[by_start], end[by_start], group[order][begin][by_start])
        self._assign(family, rows, group, lane[code])

    def _assign(self, family: str, rows: Rows, group: Column, lane: Column) -> None:
        if not len(rows):
            return
        outer = codes(group, lane)[0]
        inner = nesting_lanes(self.events.start_ns[rows], self.events.end_ns[rows], outer)
        code, sample = codes(outer, inner)
        numbers = [
            self._track(family, int(rows[row]), bool(lane[row] or inner[row]), int(code[row]))
            for row in sample.tolist()
        ]
        self.place[rows] = np.array(numbers, np.int64)[code]

    def _track(self, family: str, row: int, is_further: bool, number: int) -> int:
        """The track of a row. Further lanes bear the same name: viewers draw those as one."""
        events = self.events
        process, thread = int(events.process[row]), int(events.thread[row])
        device, stream = int(events.device[row]), int(events.stream[row])
        if family == "thread":
            name = self.names.get((process, thread, ABSENT, ABSENT)) or f"thread {thread}"
            if is_further or thread <= 0:  # viewers take a thread without a number for a process
                name = "host" if thread < 0 else name
                name = f"{name} (overlapping)" if is_further else name
                return self._add((family, number), Place(name, self._process(process)))
            return self._add((family, number), Place(name, self._process(process), process, thread))
        if family in {"stream", "synchronization"}:
            holder = self._device(device) if device >= 0 else self._process(process)
            name = self._stream(family, process, device, stream)
            return self._add((family, number), Place(name, holder))
        model = self.timeline.names[int(events.model_id[row])] if events.model_id[row] >= 0 else "unknown model"
        if family == "instance":
            holder = self._add(("model", process, model), Place(f"model {model}", self._process(process)))
            return self._add((family, number), Place(f"instance {max(0, int(events.instance[row]))}", holder))
        name = f"requests of {self._request_model(row)}" if family == "requests" else family
        holder = self._process(process) if process >= 0 else self._add(("clients",), Place("load generator"))
        return self._add((family, number), Place(name, holder))

    def _request_model(self, row: int) -> str:
        model_id = int(self.request_models[row])
        return self.timeline.names[model_id] if model_id >= 0 else "unknown model"

    def _stream(self, family: str, process: int, device: int, stream: int) -> str:
        own = self.names.get((process, ABSENT, device, stream))
        name = f"stream {stream}" if stream >= 0 else "unknown stream"
        name = f"{name}, {own}" if own else name
        name = f"{name}, process {process}" if self.has_many_gpu_users else name
        return name if family == "stream" else f"{family}, {name}"

    def _process(self, process: int) -> int:
        if process < 0:
            return ABSENT
        name = self.names.get((process, ABSENT, ABSENT, ABSENT)) or "process"
        return self._add(("process", process), Place(name, process=process))

    def _device(self, device: int) -> int:
        if device < 0:
            return ABSENT
        return self._add(("GPU", device), Place(f"GPU {device} {self.device_names.get(device, '')}".rstrip()))

    def _add(self, key: tuple[str | int, ...], place: Place) -> int:
        number = self.known.get(key)
        if number is None:
            number = self.known[key] = len(self.places)
            self.places.append(place)
        return number
