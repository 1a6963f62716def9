"""Small timelines by hand: device work with its calls, and requests of a server with their stages and batches."""

from copy import deepcopy

from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import Kind, Relation
from analyzer.timeline.table import Meta, Timeline

PROCESS = 9


class Scene:
    """Adds events one by one; times are given as they are to stand in the table."""

    def __init__(self) -> None:
        self.build = TimelineBuilder()
        self._correlation = 0

    def work(
        self, start: int, end: int, called: int | None = None, kind: Kind = Kind.KERNEL, name: str = "gemm", **more: int
    ) -> "Scene":
        """A device operation and, if it is said when that began, the call of one unit that launched it."""
        self._correlation += 1
        ids = {"process": PROCESS, "correlation": self._correlation}
        columns = {"device": 0, "stream": 7, **more}
        self.build.add(kind, start, end, self.build.name_id(name), **ids, **columns)
        if called is not None:
            thread = {"thread": more.get("stream", 7)}
            self.build.add(Kind.API, called, called + 1, self.build.name_id("cudaLaunchKernel"), **ids, **thread)
        return self

    def add(self, kind: Kind, name: str, start: int, end: int, model: str = "", **columns: int) -> "Scene":
        if model:
            columns["model_id"] = self.build.name_id(model)
        self.build.add(kind, start, end, self.build.name_id(name), **{"process": PROCESS, **columns})
        return self

    def request(self, number: int, start: int, end: int, model: str = "m") -> "Scene":
        return self.add(Kind.REQUEST, "request", start, end, model, request=number)

    def queue(self, number: int, start: int, end: int, model: str = "m") -> "Scene":
        return self.add(Kind.STAGE, "queue", start, end, model, request=number)

    def batch(
        self, number: int, requests: list[int], start: int, end: int, model: str = "m", instance: int = 0
    ) -> "Scene":
        """A batch with a row for each request, computing all the time."""
        ids = {"batch": number, "instance": instance}
        self.add(Kind.BATCH, "execute", start, end, model, size=len(requests), **ids)
        self.add(Kind.STAGE, "compute_infer", start, end, model, **ids)
        self.build.link(Relation.REQUEST_BATCH, requests, number)
        return self

    def timeline(self) -> Timeline:
        return deepcopy(self.build).build(Meta(producer="test"), nesting=[Kind.RANGE])


def ensemble_scene(gap_ns: int, *, requests: int = 40, step_ns: int = 1_000_000, wait_ns: int = 50_000) -> Scene:
    """Requests of an ensemble of two models, one after another, with so long a gap between its steps."""
    scene = Scene()
    whole = 2 * (wait_ns + step_ns) + gap_ns
    for number in range(requests):
        begin, request = number * (whole + 100_000), 10 * number + 1
        scene.request(request, begin, begin + whole, "pipeline")
        for place, model in enumerate(("first", "second")):
            start = begin + place * (wait_ns + step_ns + gap_ns)
            end, child = start + wait_ns + step_ns, request + 1 + place
            scene.add(Kind.STEP, model, start, end, model, request=request, step=child)
            scene.request(child, start, end, model).queue(child, start, start + wait_ns, model)
            scene.batch(child, [child], start + wait_ns, end, model)
            scene.build.link(Relation.REQUEST_CHILD, request, child)
            scene.build.link(Relation.BATCH_STEP, child, child)
    return scene


def instances_scene(slowdown: float, *, requests: int = 120, alone_ns: int = 1_000_000, kernels: bool = False) -> Scene:
    """Two instances of one model. Requests come alone, then in pairs, when each takes ``slowdown`` times as long.

    With ``kernels`` each execution has one: those of a pair at the same time where there is no slowdown, else in turns.
    """
    scene = Scene()
    at, number = 0, 0
    while number < requests:
        pair = 2 if number >= requests // 3 else 1
        took = round(alone_ns * (slowdown if pair == 2 else 1))
        for lane in range(pair):
            number += 1
            scene.request(number, at, at + took + 20_000).queue(number, at, at + 10_000)
            scene.batch(number, [number], at + 10_000, at + 10_000 + took, instance=lane)
            if kernels:
                begin = at + 10_000 + round(lane * (slowdown - 1) * alone_ns)
                own = {"batch": number, "instance": lane, "model_id": scene.build.name_id("m"), "stream": 7 + lane}
                scene.work(begin, begin + alone_ns, called=begin - 5_000, **own)
        at += took + 200_000
    return scene
