"""The Perfetto trace opens and closes every event in the order of a stack, and no arrow or argument is lost."""

import struct
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import InputError
from analyzer.timeline import export_perfetto
from analyzer.timeline.export_flows import flows
from analyzer.timeline.export_lanes import disjoint_lanes, nesting_lanes
from analyzer.timeline.export_protobuf import MessageColumns, number, varint
from analyzer.timeline.export_tracks import layout
from analyzer.timeline.kinds import Kind
from analyzer.timeline.table import Timeline
from tests.fakes.any_timeline import timelines
from tests.fakes.protobuf import Fields, content, fields
from tests.fakes.timelines import Scene

BEGIN, END, INSTANT, COUNTER = 1, 2, 3, 4


def packets(timeline: Timeline) -> list[Fields]:
    return [fields(packet) for packet in fields(b"".join(export_perfetto.blocks(timeline)))[1]]


def slices(timeline: Timeline) -> Counter[tuple[object, ...]]:
    """Track, name, start and end of each slice, as a viewer pairs begins with ends."""
    read = packets(timeline)
    names = {one[1][0]: one[2][0] for one in map(fields, fields(read[0][12][0])[2])}
    stacks: dict[object, list[tuple[object, object]]] = defaultdict(list)
    found: Counter[tuple[object, ...]] = Counter()
    for packet in read:
        for event in map(fields, packet[11]):
            track, at = event[11][0], packet[8][0]
            if event[9][0] in {BEGIN, INSTANT}:
                stacks[track].append((content(names[event[10][0]]).decode(), at))
            if event[9][0] in {END, INSTANT}:
                found[(track, *stacks[track].pop(), at)] += 1
    assert not any(stacks.values())
    return found


@settings(deadline=None, max_examples=40)
@given(timelines())
def test_every_event_is_closed_by_its_own_end(timeline):
    events, places = timeline.events, layout(timeline).place
    rows = zip(places.tolist(), events.start_ns.tolist(), events.end_ns.tolist())
    expected = Counter((place + 1, timeline.name(row), start, end) for row, (place, start, end) in enumerate(rows))
    assert slices(timeline) == expected


@settings(deadline=None, max_examples=40)
@given(timelines())
def test_each_arrow_has_two_ends(timeline):
    source, _ = flows(timeline)
    ends = Counter(
        struct.unpack("<Q", content(each))[0]
        for packet in packets(timeline)
        for event in map(fields, packet[11])
        for each in event[47]
    )
    assert ends == Counter(dict.fromkeys(range(1, len(source) + 1), 2))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(0, 1)), min_size=1))
def test_lanes_keep_overlaps_apart(drawn):
    rows = sorted(((start, -(start + length), group) for start, length, group in drawn))
    start, end, group = (np.array(column) for column in zip(*((start, -end, group) for start, end, group in rows)))
    for assign, may_nest in ((disjoint_lanes, False), (nesting_lanes, True)):
        lane = assign(start, end, group)
        for one in range(len(start)):
            for other in range(one + 1, len(start)):
                if (lane[one], group[one]) == (lane[other], group[other]) and start[other] < end[one]:
                    assert may_nest, "two that overlap"
                    assert end[other] <= end[one], "neither holds the other"


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_numbers_are_written_as_their_scalar_twin_does(values):
    columns = MessageColumns(len(values))
    columns.number(1, np.array(values, np.int64))
    assert columns.messages().content.tobytes() == b"".join(number(1, value) for value in values)
    assert varint(300) == b"\xac\x02"


def test_a_request_leads_to_the_kernel_of_its_batch():
    scene = Scene().add(Kind.CLIENT_REQUEST, "infer", 0, 100, "m", request=1).request(1, 10, 90)
    scene.batch(5, [1], 20, 80).work(30, 40, called=22, batch=5).work(50, 60, called=25, batch=5)
    timeline = scene.timeline()
    kinds = [tuple(Kind(timeline.events.kind[row]).name for row in pair) for pair in zip(*flows(timeline))]
    assert kinds == [
        ("CLIENT_REQUEST", "REQUEST"),
        ("REQUEST", "BATCH"),
        ("BATCH", "API"),
        ("API", "KERNEL"),
        ("API", "KERNEL"),
    ]


def test_requests_at_the_same_time_lie_side_by_side_with_their_stages():
    scene = Scene().request(1, 0, 50).queue(1, 0, 20).request(2, 10, 60).queue(2, 10, 20).request(3, 50, 70)
    found = layout(scene.timeline())
    assert [found.places[place].name for place in found.place.tolist()] == ["requests of m"] * 5
    lanes = found.place.tolist()
    assert lanes[0] == lanes[1] == lanes[4]
    assert lanes[2] == lanes[3] != lanes[0]


def test_times_before_zero_are_moved_as_one():
    timeline = Scene().work(-50, -20).work(10, 20).timeline()
    assert sorted((start, end) for _, _, start, end in slices(timeline)) == [(0, 30), (60, 70)]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path):
    with pytest.raises(InputError, match=r"can't write .*; choose another place"):
        export_perfetto.write(Scene().work(0, 1).timeline(), tmp_path / "none" / "x.perfetto")


def test_what_no_device_thread_or_process_is_known_of_stands_under_what_is_known():
    scene = Scene().request(1, 0, 9)
    scene.add(Kind.CLIENT_REQUEST, "infer", 0, 9, request=1, process=-1)
    scene.add(Kind.SYNC, "Stream sync", 1, 2, stream=7)
    scene.add(Kind.API, "cudaLaunchKernel", 3, 4)
    places = layout(scene.timeline()).places
    told = {place.name: places[place.parent].name for place in places if place.parent >= 0}
    assert told["client requests"] == "load generator"
    assert told["synchronization, stream 7"] == told["host"] == "process"
    assert [place.name for place in places if place.parent < 0] == ["process", "load generator"]
