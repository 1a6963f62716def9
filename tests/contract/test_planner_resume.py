"""A search that is killed while it writes goes on from its run folder and ends at the same answer."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.search.make import make_planner
from analyzer.search.options import SearchOptions
from analyzer.search.planner import Planner
from analyzer.store import RunFolder
from tests.fakes.landscapes import BASE, OBJECTIVES, P99_20, explore, landscape, load_template, pick, space
from tests.fakes.runs import header

LAND = landscape("oom")
SPACE = space((1, 2, 3, 4), (1, 4, 16, 64))


def planner() -> Planner:
    return make_planner("capacity", SPACE, OBJECTIVES, P99_20, load_template(), "content", SearchOptions(bases=(BASE,)))


def searched(path: Path) -> RunFolder:
    folder = RunFolder.create(path, header(), {})
    search = planner()
    for outcome in folder.outcomes():
        search.tell(outcome)
    explore(search, lambda config: kept(folder, LAND.measure(config)))
    return folder


def kept(folder: RunFolder, outcome):
    folder.append(outcome)
    return outcome


@settings(max_examples=10, deadline=None)
@given(st.floats(0, 1))
def test_cut_at_any_byte_it_repeats_one_point_at_most_and_picks_the_same(share: float):
    with TemporaryDirectory() as scratch:
        whole = searched(Path(scratch) / "run")
        before = whole.outcomes()
        lines = whole.path / "measurements.jsonl"
        data = lines.read_bytes()
        cut = data[: round(share * len(data))]
        lines.write_bytes(cut)
        left = cut.count(b"\n")
        after = searched(whole.path).outcomes()
        assert after[:left] == before[:left]
        keys = [outcome.config.key for outcome in after]
        assert len(set(keys)) == len(keys)
        assert len(after) <= len(before) + 1
        first, second = pick(before, 20.0), pick(after, 20.0)
        assert first is not None
        assert second is not None
        assert first.config == second.config
