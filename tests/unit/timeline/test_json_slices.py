"""Whatever the size of the chunks, a trace gives all of its events; a cut or damaged one those before the damage."""

import gzip
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import InputError
from analyzer.timeline.import_kineto import read
from analyzer.timeline.json_slices import EventSlices, chunks

TEXT = st.text(alphabet='a"\\{}[],: é\n', max_size=6)
VALUE = st.recursive(
    st.none() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ph", "a"]), inner, max_size=2),
    max_leaves=6,
)
EVENT = st.fixed_dictionaries({"ph": VALUE}, optional={"args": VALUE})
EVENTS = st.lists(EVENT, max_size=8)
AROUND = st.dictionaries(TEXT.filter(lambda key: key != "traceEvents"), VALUE, max_size=3)


def pieces(raw, size):
    return iter([raw[first : first + size] for first in range(0, len(raw), size)])


def taken(raw, size):
    found = EventSlices(pieces(raw, size), msgspec.json.decode)
    return [event for part in found for event in part], found


@settings(deadline=None)
@given(EVENTS, AROUND, AROUND, st.integers(1, 60), st.sampled_from([None, 1]), st.booleans())
def test_every_event_is_there_once_whatever_the_chunks(events, before, after, size, indent, is_list):
    whole = events if is_list else {**before, "traceEvents": events, **after}
    made, found = taken(json.dumps(whole, indent=indent, ensure_ascii=False).encode(), size)
    assert made == events
    assert not found.is_cut
    if not is_list:
        assert msgspec.json.decode(found.head + found.rest) == {**before, **after, "traceEvents": []}


@settings(deadline=None)
@given(EVENTS, st.integers(1, 60), st.integers(0, 200))
def test_a_cut_gives_the_events_before_it(events, size, kept):
    raw = json.dumps({"traceEvents": events}).encode()
    made, found = taken(raw[:kept], size)
    assert made == events[: len(made)]
    assert found.is_cut or kept >= len(raw) - 1 or not found.rest
    ends = [len(json.dumps({"traceEvents": events[: count + 1]})) - 2 for count in range(len(events))]
    assert len(made) == sum(end <= kept for end in ends)


@settings(deadline=None)
@given(EVENTS, st.integers(1, 60), st.data())
def test_a_damaged_byte_costs_only_what_follows(events, size, data):
    raw = bytearray(json.dumps(events).encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = 0xFF
    made, found = taken(bytes(raw), size)
    before = sum(len(json.dumps(events[: count + 1])) - 1 <= place for count in range(len(events)))
    assert made[:before] == events[:before]
    assert len(made) == before or place >= len(raw) - 1
    assert found.is_cut or place in (0, len(raw) - 1)


def test_a_comma_after_the_last_event_and_no_bracket_at_the_end_are_no_trouble():
    made, found = taken(b'[{"ph": "X"},\n{"ph": "Y"},\n', 7)
    assert [event["ph"] for event in made] == ["X", "Y"]
    assert found.is_cut
    assert not taken(b'{"traceEvents": [{"ph": "X"},\n]}', 9)[1].is_cut


def test_one_event_larger_than_many_chunks_is_read():
    events = [{"ph": "X", "args": {"a": ["{" * 3000, {"ph": "},{"}]}}, {"ph": "Y"}]
    assert taken(json.dumps(events).encode(), 16)[0] == events


def test_of_a_damaged_gzip_file_what_stands_before_the_damage_is_read(tmp_path):
    event = '{"ph":"X","name":"a%d","pid":1,"tid":1,"ts":%d,"dur":1}'
    text = "[" + ",".join(event % (number * 7919 % 10007, number) for number in range(9000)) + "]"
    raw = gzip.compress(text.encode())
    (tmp_path / "a.json.gz").write_bytes(raw[:9000] + b"\xff" * 50 + raw[9050:])
    timeline = read(tmp_path / "a.json.gz")
    assert 0 < len(timeline) < 9000
    assert timeline.meta.partial


def test_chunks_of_a_zipped_file_are_of_the_size_that_is_asked_for(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a" * 100_000))
    assert max(map(len, chunks(tmp_path / "a.gz", 1000))) < 2000
    with pytest.raises(InputError, match="can't read"):
        list(chunks(tmp_path / "none"))
