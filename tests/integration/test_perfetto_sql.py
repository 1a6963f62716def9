"""What Perfetto's own trace_processor says of the traces we write: counts and sums are ours, and it finds no fault."""

from collections import Counter
from pathlib import Path

import pytest

from analyzer.timeline import export_chrome, export_perfetto, import_any
from analyzer.timeline.analyses.launches import launch_rows
from analyzer.timeline.export_flows import flows
from analyzer.timeline.export_tracks import layout
from analyzer.timeline.kinds import GPU_KINDS, Kind
from analyzer.timeline.kineto_names import CATEGORIES
from analyzer.timeline.table import Series, Timeline
from tests.fakes.timelines import Scene
from tests.fakes.trace_processor import query, why_absent

pytestmark = pytest.mark.skipif(why_absent() is not None, reason=str(why_absent()))
CAPTURE = Path("tests/data/nsight/dev.sqlite")
FAULTS = "SELECT name, value FROM stats WHERE severity IN ('error', 'data_loss') AND value != 0"
BY_KIND = "SELECT category, COUNT(*), SUM(dur) FROM slice GROUP BY category"
BY_TRACK = "SELECT COUNT(*), SUM(dur) FROM slice GROUP BY track_id"
BY_NAME = "SELECT name, MIN(ts), MAX(ts + dur), SUM(dur) FROM slice GROUP BY name"
ARROWS = "SELECT a.category, b.category FROM flow JOIN slice a ON a.id = slice_out JOIN slice b ON b.id = slice_in"


def serving() -> Timeline:
    """Requests that overlap, with their batches, kernels and counters, at times of a wall clock."""
    scene = Scene()
    base = 1_795_304_415_988_212_631
    for number in range(8):
        at = base + number * 37
        scene.add(Kind.CLIENT_REQUEST, "infer", at, at + 300, "m", request=number, thread=3)
        scene.request(number, at + 10, at + 290).queue(number, at + 10, at + 60)
        if number % 2:
            scene.batch(number, [number - 1, number], at + 60, at + 280, instance=number // 2 % 2)
            scene.work(at + 101, at + 200, called=at + 90, stream=7 + number // 2 % 2, batch=number)
    scene.add(Kind.SPAN, "a", base, base + 50, thread=3).add(Kind.SPAN, "b", base + 25, base + 75, thread=3)
    scene.add(Kind.MARK, "here", base + 5, base + 5, thread=3)
    scene.build.sample(Series(name="power", unit="W", device=0), [base, base + 100], [70.5, 71.25])
    return scene.timeline()


@pytest.mark.parametrize("timeline", [import_any.read(CAPTURE), serving()], ids=["nsight", "serving"])
def test_a_perfetto_trace_holds_every_event_to_the_nanosecond(timeline, tmp_path):
    export_perfetto.write(timeline, tmp_path / "trace")
    faults, by_kind, by_track, by_name, arrows = query(
        tmp_path / "trace", [FAULTS, BY_KIND, BY_TRACK, BY_NAME, ARROWS], tmp_path
    )
    events = timeline.events
    assert faults == []
    rows = {Kind[str(name).upper()]: (count, total) for name, count, total in by_kind}
    assert rows == {
        kind: (len(mine), events.duration_ns[mine].sum()) for kind in Kind if len(mine := timeline.rows(kind))
    }
    places = layout(timeline).place
    assert Counter(by_track) == Counter(
        (int((places == place).sum()), int(events.duration_ns[places == place].sum())) for place in set(places.tolist())
    )
    assert {name: tuple(times) for name, *times in by_name} == {
        name: (events.start_ns[mine].min(), events.end_ns[mine].max(), events.duration_ns[mine].sum())
        for number, name in enumerate(timeline.names)
        if (mine := events.name_id == number).any()
    }
    assert Counter(arrows) == Counter(
        tuple(Kind(events.kind[row]).name.lower() for row in pair) for pair in zip(*flows(timeline))
    )


@pytest.mark.parametrize("timeline", [import_any.read(CAPTURE), serving()], ids=["nsight", "serving"])
def test_a_chrome_trace_loses_no_event(timeline, tmp_path):
    export_chrome.write(timeline, tmp_path / "trace")
    faults, by_category, arrows = query(tmp_path / "trace", [FAULTS, BY_KIND, ARROWS], tmp_path)
    events = timeline.events
    assert faults == []
    assert {category: (count, total) for category, count, total in by_category} == {
        CATEGORIES[kind]: (len(mine), events.duration_ns[mine].sum())
        for kind in Kind
        if len(mine := timeline.rows(kind))
    }
    work = timeline.rows(*GPU_KINDS)
    launched = events.kind[work[launch_rows(timeline, work) >= 0]].tolist()
    assert Counter(arrows) == Counter(("cuda_runtime", CATEGORIES[kind]) for kind in launched)


def test_tracks_arguments_counters_and_the_wall_clock_are_there(tmp_path):
    scene = Scene().request(1, 10, 90).queue(1, 10, 20).batch(5, [1], 20, 80)
    scene.work(30, 40, called=22, batch=5, bytes=1 << 40)
    scene.build.sample(Series(name="power", unit="W", device=0), [5, 6], [70.5, 71.25])
    export_perfetto.write(scene.timeline(), tmp_path / "trace")
    tracks, arguments, counters, process = query(
        tmp_path / "trace",
        [
            "SELECT t.name, p.name FROM slice JOIN track t ON track_id = t.id LEFT JOIN track p ON p.id = t.parent_id",
            "SELECT key, int_value, string_value FROM slice JOIN args USING (arg_set_id) WHERE category = 'kernel'",
            "SELECT name, unit, COUNT(*), SUM(value) FROM counter c JOIN counter_track t ON t.id = track_id GROUP BY 1",
            "SELECT pid FROM process WHERE pid > 0",
        ],
        tmp_path,
    )
    assert set(tracks) >= {("requests of m", None), ("instance 0", "model m"), ("stream 7", "GPU 0")}
    told = {key: value if text is None else text for key, value, text in arguments}
    assert {key: told[f"debug.{key}"] for key in ("batch", "bytes", "correlation")} == {
        "batch": 5,
        "bytes": 1 << 40,
        "correlation": 1,
    }
    assert set(counters) == {
        ("power", "W", 2, 141.75),
        ("requests in flight", "requests", 2, 1.0),
        ("queue depth of m", "requests", 2, 1.0),
    }
    assert process == [(9,)]
