"""Prometheus families of the server, scraped along a run, and what they did over the counted window.

While the load runs a page is only fetched and cut down to the wanted lines; it is read when the run is over.
"""

import asyncio
from collections.abc import Iterator, Sequence
from math import isfinite, nan

from perf_client.http_control import read_body
from perf_client.metrics_source import GPU_FAMILIES, MetricsSource
from perf_client.profile import Metric
from perf_client.prometheus import Series, cut_down, family_pattern, parse
from perf_client.record import MetricsSample
from perf_client.sampling import Sampling, Unmeasured
from perf_client.server_statistics import window_bounds
from perf_client.target import Target
from perf_client.transports.base import BadAnswer, Clock
from perf_client.transports.dial import Dial
from perf_client.transports.http import parse_head

_TIMEOUT_S = 5.0


class MetricsScraper(Sampling[bytes]):
    """Fetches the page at the interval. Raises LoadError for a URL that isn't one."""

    def __init__(self, source: MetricsSource, clock: Clock) -> None:
        super().__init__(self._fetch, clock, source.interval_s)
        scheme, separator, rest = source.url.rpartition("://")
        place, _, path = rest.partition("/")
        self._target = Target.parse(f"{scheme}{separator}{place}", "http")
        self._path = f"/{path}"
        self._dial = Dial(self._target)
        self._pattern = family_pattern((*GPU_FAMILIES, *source.families))

    async def _fetch(self) -> bytes:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status, page = await self._get()
        except (OSError, TimeoutError, EOFError, BadAnswer, ValueError) as error:
            why = str(error) or "no answer"
            raise Unmeasured(f"no metrics at {self._target.authority}{self._path} ({why})") from None
        if status != 200:
            raise Unmeasured(f"no metrics at {self._target.authority}{self._path} (status {status})")
        return cut_down(page, self._pattern)

    async def _get(self) -> tuple[int, bytes]:
        reader, writer = await self._dial.open_streams()
        try:
            request = f"GET {self._path} HTTP/1.1\r\nHost: {self._target.authority}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            head = parse_head(await reader.readuntil(b"\r\n\r\n"))
            return head.status, await read_body(reader, head.length)
        finally:
            writer.transport.abort()

    def samples(self, start_ns: int) -> tuple[MetricsSample, ...]:
        return tuple(MetricsSample(at_ns - start_ns, page) for at_ns, _, page in self.taken)


def metrics_between(samples: Sequence[MetricsSample], from_ns: int, to_ns: int) -> tuple[Metric, ...]:
    """Gauges over all samples within the window, counters from the first of them to the one nearest to its end."""
    bounds = window_bounds(samples, from_ns, to_ns)
    if bounds is None:
        return ()
    first, last = bounds
    pages = [parse(sample.page) for sample in samples if first.at_ns <= sample.at_ns <= last.at_ns]
    return tuple(_metrics(pages, (last.at_ns - first.at_ns) / 1e9))


def _metrics(pages: Sequence[dict[Series, float]], span_s: float) -> Iterator[Metric]:
    series = sorted({series for page in pages for series in page}, key=lambda each: (each.name, each.labels))
    for each in series:
        labels = dict(each.labels)
        if each.kind == "counter":
            growth = _growth(pages[0].get(each, 0.0), pages[-1].get(each, nan))
            if isfinite(growth):
                yield Metric(name=each.name, labels=labels, growth=growth, per_second=growth / span_s)
            continue
        values = [page[each] for page in pages if each in page and isfinite(page[each])]
        if values:
            mean = sum(values) / len(values)
            yield Metric(name=each.name, labels=labels, least=min(values), mean=mean, most=max(values))


def _growth(before: float, after: float) -> float:
    """A counter that fell was begun anew: what it shows is all new."""
    return after if after < before else after - before
