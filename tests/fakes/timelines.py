"""Small timelines by hand: device work with its calls, and requests of a server with their stages and batches."""

from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.table import Kind, Meta, Relation, Timeline

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
        self.build.add(kind, start, end, self.build.name_id(name), process=PROCESS, **columns)
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
        return self.build.build(Meta(producer="test"), nesting=[Kind.RANGE])
