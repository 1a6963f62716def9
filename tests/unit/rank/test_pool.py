import pytest

from analyzer.domain.metrics import METRICS
from analyzer.rank.pool import point_key, pool_repeats
from tests.fakes.outcomes import QueueModel, measurement, run_config, server_config


def repeats(count: int, **queue):
    configs = [run_config(server_config(2, 8, True), 16, seed=seed) for seed in range(count)]
    return [measurement(config, QueueModel(**queue)) for config in configs]


def rate(m):
    return m.load.throughput


def test_repeats_of_a_point_become_one_with_all_their_requests():
    seen = repeats(3)
    (pooled,) = pool_repeats(seen)
    assert pooled.load.request_count == sum(m.load.request_count for m in seen)
    assert pooled.load.response.count == sum(m.load.response.count for m in seen)
    assert pooled.load.server[0].queue_ns == sum(m.load.server[0].queue_ns for m in seen)
    assert pooled.load.profile.load == seen[0].load.profile.load


def test_repeats_that_agree_narrow_the_interval():
    (pooled,) = pool_repeats(repeats(4))
    (single,) = pool_repeats(repeats(1))
    assert rate(pooled).per_second == pytest.approx(rate(single).per_second)
    assert rate(pooled).high - rate(pooled).low == pytest.approx((rate(single).high - rate(single).low) / 2, rel=0.01)
    p99 = METRICS["p99_latency_ms"].read
    assert p99(pooled).high - p99(pooled).low < p99(single).high - p99(single).low


def test_repeats_that_disagree_more_than_they_claim_widen_it():
    seen = repeats(4, noise_ratio=0.2, interval_ratio=0.001)
    (pooled,) = pool_repeats(seen)
    assert rate(pooled).high - rate(pooled).low > max(rate(m).high - rate(m).low for m in seen)


def test_a_longer_measurement_of_the_same_point_is_a_repeat_and_another_load_is_not():
    server = server_config(2)
    short = measurement(run_config(server, 4, duration_s=1.0))
    long = measurement(run_config(server, 4, duration_s=10.0, seed=3))
    other = measurement(run_config(server, 5))
    assert point_key(short) == point_key(long) != point_key(other)
    pooled = pool_repeats([short, other, long])
    assert len(pooled) == 2
    assert {m.config.load.duration_s for m in pooled} == {10.0, 5.0}


def test_a_repeat_cut_short_does_not_spoil_a_complete_one():
    good = measurement(run_config(server_config(2), 4))
    cut = measurement(run_config(server_config(2), 4, seed=1), incomplete=True)
    assert pool_repeats([cut, good]) == [good]
    assert pool_repeats([cut]) == [cut]


def test_one_overloaded_repeat_makes_the_point_overloaded():
    good = measurement(run_config(server_config(2), 4, duration_s=20.0))
    bad = measurement(run_config(server_config(2), 4, seed=1), verdict="overloaded")
    (pooled,) = pool_repeats([good, bad])
    assert pooled.load.verdict == "overloaded"


def test_a_missing_bound_stays_missing():
    configs = [run_config(server_config(), 1, duration_s=0.4, seed=seed) for seed in range(2)]
    (pooled,) = pool_repeats([measurement(config) for config in configs])
    p999 = METRICS["p99.9_latency_ms"].read(pooled)
    assert p999.low is None
    assert p999.high is None
    assert not p999.supported


def test_gpu_and_host_peaks_are_the_largest_seen():
    seen = repeats(2, gpu=True)
    (pooled,) = pool_repeats(seen)
    assert pooled.gpus[0].memory_peak_bytes == seen[0].gpus[0].memory_peak_bytes
    assert pooled.host.memory_peak_bytes == seen[0].host.memory_peak_bytes
    assert pooled.host.sample_count == 100
