"""What Nsight Systems saw of a server is given to the server's own batches, whatever lies between their clocks."""

import numpy as np
import pytest

from analyzer.collect.attribution import aligned, attributed
from analyzer.collect.merge import merged
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import Kind
from analyzer.timeline.table import ABSENT, Anchor, Meta, Timeline

PROCESS, BATCHES, BATCH_NS, PERIOD_NS = 7, 20, 100_000, 250_000
UTC_NS, BEGAN_NS = 1_700_000_000_000_000_000, 5_000_000_000  # wall time at our clock's 0; the capture's begin on it


def spans() -> Timeline:
    """Two instances of model ``m``, each on its thread, batch after batch."""
    build = TimelineBuilder()
    model = build.name_id("m")
    for instance in range(2):
        start = BEGAN_NS + 1_000_000 + instance * 37_000 + np.arange(BATCHES) * PERIOD_NS
        build.add(
            Kind.BATCH, start, start + BATCH_NS, np.full(BATCHES, build.name_id("batch")), process=PROCESS,
            thread=100 + instance, model_id=model, instance=instance, batch=1 + 2 * np.arange(BATCHES) + instance,
        )  # fmt: skip
    return build.build(Meta("ours"), anchors=(Anchor("utc", UTC_NS),))


def capture(error_ns: int, *, with_ranges: bool) -> Timeline:
    """The same as another profiler sees it: its clock starts with the capture, its wall time is off by ``error_ns``."""
    build = TimelineBuilder()
    for instance in range(2):
        start = 1_000_000 + instance * 37_000 + np.arange(BATCHES) * PERIOD_NS
        correlation = 1 + 2 * np.arange(BATCHES) + instance
        call, range_, kernel = (np.full(BATCHES, build.name_id(name)) for name in ("launch", "m:batch", "gemm"))
        common = {"process": PROCESS, "thread": 100 + instance}
        if with_ranges:
            build.add(Kind.RANGE, start + 300, start + BATCH_NS, range_, **common)
        build.add(Kind.API, start + 2_000, start + 4_000, call, correlation=correlation, **common)
        build.add(Kind.KERNEL, start + 9_000, start + 90_000, kernel, process=PROCESS, correlation=correlation)
    build.add(Kind.KERNEL, [10], [20], [build.name_id("gemm")], process=PROCESS + 1, correlation=1)
    return build.build(Meta("theirs"), anchors=(Anchor("utc", UTC_NS + BEGAN_NS + error_ns),))


@pytest.mark.parametrize("error_ns", [0, 90_000, -60_000, 120_000])
def test_kernels_get_their_batch_though_the_clocks_disagree(error_ns):
    timeline = attributed(merged([spans(), capture(error_ns, with_ranges=True)], aligned))
    events, kernels, batches = timeline.events, timeline.rows(Kind.KERNEL), timeline.rows(Kind.BATCH)
    ours = kernels[events.process[kernels] == PROCESS]
    assert sorted(events.batch[ours].tolist()) == list(range(1, 2 * BATCHES + 1))
    place = {int(events.batch[row]): int(row) for row in batches}
    for row in ours:
        batch = place[int(events.batch[row])]
        assert events.start_ns[batch] <= events.start_ns[row] < events.end_ns[row] <= events.end_ns[batch]
        assert (timeline.model(row), events.instance[row]) == ("m", events.instance[batch])


def test_work_of_another_process_and_calls_between_batches_stay_without():
    timeline = attributed(merged([spans(), capture(0, with_ranges=True)], aligned))
    kernels = timeline.rows(Kind.KERNEL)
    (foreign,) = kernels[timeline.events.process[kernels] != PROCESS]
    assert timeline.events.batch[foreign] == ABSENT
    late = attributed(merged([spans(), capture(PERIOD_NS // 2, with_ranges=False)], aligned))
    assert (late.events.batch[late.rows(Kind.KERNEL)] == ABSENT).all()


def test_without_our_ranges_wall_time_decides():
    timeline = attributed(merged([spans(), capture(500, with_ranges=False)], aligned))
    kernels = timeline.rows(Kind.KERNEL)
    assert (timeline.events.batch[kernels] > 0).sum() == 2 * BATCHES


def test_a_capture_without_any_of_our_threads_is_left_as_it_is():
    build = TimelineBuilder()
    build.add(Kind.KERNEL, [5], [9], [build.name_id("gemm")], process=1, correlation=3)
    lone = build.build(Meta("theirs"), anchors=(Anchor("utc", UTC_NS),))
    timeline = attributed(merged([spans(), lone], aligned))
    assert (timeline.events.batch[timeline.rows(Kind.KERNEL)] == ABSENT).all()
