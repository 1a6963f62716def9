"""Models that share a device: how each is slowed by the others, and by its own queue delay."""

from dataclasses import replace
from itertools import product

import msgspec
import numpy as np
import pytest

from analyzer.domain.ledger import Candidate
from analyzer.domain.measurement import Measurement
from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.domain.space import LoadRange
from analyzer.search import shared_device
from analyzer.search.candidates import joint_config, slots_of
from analyzer.search.evidence import gather
from analyzer.search.joint_ground import Ground
from analyzer.search.joint_loads import Ladders
from analyzer.search.queueing import ServiceModel
from tests.fakes.landscapes import made_measurement, p99_ms
from tests.fakes.shared_landscapes import BASES, NAMES, TEMPLATES

NAMES_OF = ("A:throughput", "B:throughput", "A:p99_latency_ms", "B:p99_latency_ms")
TRUTH = (ServiceModel(3.0, 0.6, 0.25), ServiceModel(1.0, 2.0, 0.05))
SLOWDOWN = 0.8


def candidates(delays_us: tuple[int, ...]) -> list[Candidate]:
    found = []
    for counts in product((1, 2, 4), repeat=2):
        for delay_us in delays_us:
            variants = tuple(
                ModelVariant(
                    model=name, instance_count=n, max_batch_size=16, dynamic_batching=True, queue_delay_us=delay_us
                )
                for name, n in zip(NAMES, counts)
            )
            found.append(Candidate(server=ServerConfig(variants=variants), batch_size=1, shapes=()))
    return found


def ground_of(kept: list[Candidate]) -> Ground:
    return Ground(NAMES, tuple(tuple(slots_of(c, BASES, name) for c in kept) for name in NAMES))


def rates_of(ground: Ground, row: int, loads: tuple[float, float], gathers: bool) -> list[float]:
    """Of servers whose delays draw all requests into one batch, or don't."""
    at = np.array([row])
    points = [ground.points(m, at, np.array([loads[m]]), gathers) for m in (0, 1)]
    busy = [float(min(p.in_flight[0], p.instances[0])) / 4 for p in points]
    own_ms = [TRUTH[m].service_ms(points[m])[0] * (1 + SLOWDOWN * busy[1 - m]) for m in (0, 1)]
    return [float(1000 * points[m].running()[0] / own_ms[m]) for m in (0, 1)]


def measured(ground: Ground, kept: list[Candidate], row: int, loads: tuple[float, float], gathers: bool) -> Measurement:
    config = joint_config(kept[row], loads, TEMPLATES, "content")
    parts = [
        made_measurement(
            msgspec.structs.replace(config, load=load, beside=()), rate, 1000 * c / rate, p99_ms(1000 * c / rate), 0.0
        )
        for load, rate, c in zip(config.loads, rates_of(ground, row, loads, gathers), loads)
    ]
    return msgspec.structs.replace(parts[0], config=config, beside=(parts[1].load,))


def fitted(ground: Ground, kept: list[Candidate], gathers: bool) -> shared_device.SharedDevice:
    """What a model that knows ``ground`` makes of what the real one answers."""
    real = ground_of(kept)
    points = [(row, loads) for row in range(0, len(kept), 2) for loads in ((1.0, 1.0), (6.0, 3.0), (3.0, 10.0))]
    levels = gather([measured(real, kept, *point, gathers) for point in points], NAMES_OF).levels
    rows = [kept.index(level.candidate) for level in levels]
    return shared_device.fit(
        ground, list(zip(rows, levels)), np.array([level.loads for level in levels]), NAMES_OF, open_loop=False
    )


def misses(device: shared_device.SharedDevice, ground: Ground, gathers: bool) -> float:
    """The mean error, relative, where nothing was measured."""
    asked = [(row, loads) for row in range(1, len(ground.slots[0]), 2) for loads in ((4.0, 4.0), (12.0, 2.0))]
    rows, loads = np.array([row for row, _ in asked]), np.array([at for _, at in asked])
    found, _ = device.quick(rows, loads, device.offsets(rows, loads)[0])
    truth = np.array([rates_of(ground, *each, gathers) for each in asked])
    return float(np.mean(np.abs(np.log(np.stack(found, axis=1) / truth))))


@pytest.mark.parametrize("gathers", [True, False])
def test_queue_delays_are_known_and_make_forecasts_better(gathers: bool):
    kept = candidates((0, 2000, 8000))
    ground = ground_of(kept)
    device = fitted(ground, kept, gathers)
    assert all(service.gathers is gathers for service in device.services)
    blind = replace(ground, slots=tuple(tuple(replace(s, delay_us=0) for s in own) for own in ground.slots))
    assert misses(device, ground, gathers) < 0.1
    assert misses(device, ground, gathers) < 0.5 * misses(fitted(blind, kept, gathers), ground, gathers)


def test_without_delays_each_is_slowed_by_what_the_other_keeps_busy():
    kept = candidates((0,))
    ground = ground_of(kept)
    assert misses(fitted(ground, kept, gathers=False), ground, gathers=False) < 0.05


def test_the_widest_has_the_same_instances_and_the_largest_batches():
    variants = [(1, 4, 2), (1, 16, 2), (2, 16, 2), (1, 8, 1), (1, 16, 16)]
    kept = []
    for n, a, b in variants:
        pair = (
            ModelVariant(model="A", instance_count=n, max_batch_size=a, dynamic_batching=True),
            ModelVariant(model="B", instance_count=1, max_batch_size=b, dynamic_batching=True),
        )
        kept.append(Candidate(server=ServerConfig(variants=pair), batch_size=1, shapes=()))
    assert ground_of(kept).widest == (4, 4, 2, 4, 4)


def test_a_table_of_joint_loads_says_what_each_cell_alone_says():
    kept = candidates((0, 2000))
    ground = ground_of(kept)
    device = fitted(ground, kept, gathers=False)
    both = (LoadRange(kind="concurrency", minimum=1, maximum=64),) * 2
    ladders = Ladders(ground, both)
    rows, columns = np.arange(len(kept)), np.arange(len(ladders.columns))
    tables = [
        device.alone(m, ladder.first[:, None], ladder.steps).spread(ladder.of[rows], ladders.columns[:, m])
        for m, ladder in enumerate(ladders.coarse)
    ]
    rates, _ = device.together(tables)
    for row in rows[::5]:
        loads = ladders.loads(np.full(len(columns), row), columns)
        alone, _ = device.quick(np.full(len(columns), row), loads)
        for model in (0, 1):
            assert rates[model][row] == pytest.approx(alone[model])
