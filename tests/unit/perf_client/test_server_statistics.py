"""Growth of the server's counters over the counted window."""

import asyncio

import pytest

from perf_client.control import Refused
from perf_client.profile import ServerTimes
from perf_client.record import ServerSample
from perf_client.server_statistics import StatisticsSampler, between
from perf_client.target import ModelConfig, ModelMetadata, Step


def times(count: int, model: str = "m", version: str = "1") -> ServerTimes:
    return ServerTimes(
        model=model,
        version=version,
        inference_count=2 * count,
        execution_count=count,
        success_count=count,
        fail_count=0,
        queue_ns=10 * count,
        compute_input_ns=count,
        compute_infer_ns=100 * count,
        compute_output_ns=count,
    )


def sampled(*at_ns: int) -> list[ServerSample]:
    return [ServerSample(each, (times(each + 1_000),)) for each in at_ns]


@pytest.mark.parametrize(
    ("samples_at_ns", "from_ns", "to_ns", "growth"),
    [
        ((0, 100, 200, 300), 90, 220, 100),  # from the first sample within, to the nearest of the end
        ((0, 100, 200, 300), 20, 1_000, 200),  # warm-up was cut: the sample before it is not used
        ((-5, 100, 200), 0, 200, 205),  # nothing was cut: the sample before the load
        ((-60, 50, 200), 0, 200, 260),  # the same where a later sample is nearer to the start
        ((0, 100), 80, 100, 100),  # none within: the nearest
        ((0,), 0, 100, None),
        ((), 0, 100, None),
    ],
)
def test_growth_is_that_of_the_window(samples_at_ns, from_ns: int, to_ns: int, growth: int | None):
    expected = () if growth is None else (times(growth),)
    assert between(sampled(*samples_at_ns), from_ns, to_ns) == expected


def test_a_model_loaded_again_in_between_counts_from_zero():
    samples = [ServerSample(0, (times(50),)), ServerSample(100, (times(7),))]
    assert between(samples, 0, 100) == (times(7),)


def test_versions_that_did_nothing_are_left_out_unless_none_did():
    idle, busy = times(5, version="1"), times(9, version="2")
    samples = [ServerSample(0, (idle, times(0, version="2"))), ServerSample(100, (idle, busy))]
    assert between(samples, 0, 100) == (times(9, version="2"),)
    still = [ServerSample(0, (idle,)), ServerSample(100, (idle,))]
    assert between(still, 0, 100) == (times(0, version="1"),)


def test_a_model_that_appears_in_between_counts_whole():
    samples = [ServerSample(0, ()), ServerSample(100, (times(3, model="b"),))]
    assert between(samples, 0, 100) == (times(3, model="b"),)


class FakeControl:
    """Counts questions; refuses or breaks when told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[str] = []
        self._error = error

    async def statistics(self, model: str, version: str) -> tuple[ServerTimes, ...]:
        self.asked.append(model)
        if self._error is not None:
            raise self._error
        return (times(len(self.asked), model=model),)

    async def metadata(self, model: str, version: str) -> ModelMetadata:
        raise NotImplementedError

    async def config(self, model: str, version: str) -> ModelConfig:
        raise NotImplementedError

    def close(self) -> None:
        pass


def test_all_models_are_sampled_at_the_time_between_question_and_answer():
    ticks = iter([100, 300])
    sampler = StatisticsSampler(FakeControl(), [Step("a"), Step("b")], lambda: next(ticks))
    asyncio.run(sampler.sample())
    (sample,) = sampler.samples(start_ns=50)
    assert sample.at_ns == 150
    assert [entry.model for entry in sample.times] == ["a", "b"]


def test_a_refusal_ends_the_sampling_with_its_reason():
    for error, reason in (
        (Refused("not here"), "the server offers no statistics extension (not here)"),
        (OSError("gone"), "the server's statistics could not be read (gone)"),
        (TimeoutError(), "the server's statistics could not be read (no answer)"),
    ):
        control = FakeControl(error)
        sampler = StatisticsSampler(control, [Step("a")], lambda: 0)

        async def twice(sampler: StatisticsSampler = sampler) -> None:
            await sampler.sample()
            await sampler.sample()
            await sampler.keep_sampling(None)

        asyncio.run(twice())
        assert control.asked == ["a"]
        assert sampler.unmeasured == reason
