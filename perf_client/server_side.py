"""All that is asked of the server beside the load, at the same moments: its statistics, and its metrics if wanted."""

import asyncio

from perf_client.record import MetricsSample
from perf_client.server_metrics import MetricsScraper
from perf_client.server_statistics import StatisticsSampler


class ServerSide:
    def __init__(self, statistics: StatisticsSampler, metrics: MetricsScraper | None = None) -> None:
        self.statistics = statistics
        self.metrics = metrics

    async def sample(self) -> None:
        await asyncio.gather(self.statistics.sample(), *([self.metrics.sample()] if self.metrics else []))

    async def keep_sampling(self, also_at_ns: int | None) -> None:
        """Each at its own interval, until cancelled."""
        statistics = self.statistics.keep_sampling(also_at_ns)
        await asyncio.gather(statistics, *([self.metrics.keep_sampling(also_at_ns)] if self.metrics else []))

    def metrics_samples(self, start_ns: int) -> tuple[MetricsSample, ...]:
        return self.metrics.samples(start_ns) if self.metrics else ()

    @property
    def metrics_unmeasured(self) -> str:
        return self.metrics.unmeasured if self.metrics else ""
