"""Windows of ONNX Runtime's profile: every session or none, and what can't be had says why."""

import msgspec
import pytest

from analyzer.runtime.onnxruntime_trace import INDEX, MOST_EVENTS, OnnxRuntimeTracer, Profile, loaded_sessions


class Fake:
    """A session whose profile has so many events. ``fails`` when it is to be profiled."""

    def __init__(self, model="m", events=2, fails=False, is_built=False):
        self.model = model
        self.is_built = is_built
        self.is_profiled = False
        self._events = events
        self._fails = fails

    def profile(self, prefix):
        if self._fails:
            raise MemoryError("out of memory")
        self.is_profiled = True
        self._file = prefix.with_suffix(".json")
        self._file.write_bytes(b"[\n" + b'{"cat" : "Node"}\n' * self._events + b"]\n")

    def end_profile(self):
        self.is_profiled = False
        return self._file, 5


def test_a_window_leaves_a_file_for_each_session_and_an_index_of_them(tmp_path):
    tracer = OnnxRuntimeTracer(lambda: [Fake("a"), Fake("b", events=3)])
    assert tracer.start().state == "on"
    stats = tracer.stop(tmp_path)
    assert (stats.records, stats.files, stats.warnings) == (5, (INDEX,), ())
    first, second = msgspec.json.decode((tmp_path / INDEX).read_bytes(), type=list[Profile])
    assert [(each.model, each.begin_utc_ns) for each in (first, second)] == [("a", 5), ("b", 5)]
    assert (tmp_path / second.file).read_bytes().count(b"Node") == 3


def test_where_one_session_can_not_be_opened_twice_none_stays_profiled():
    sessions = [Fake(), Fake(fails=True)]
    found = OnnxRuntimeTracer(lambda: sessions).start()
    assert (found.state, "out of memory" in found.reason) == ("absent", True)
    assert not sessions[0].is_profiled


@pytest.mark.parametrize(
    ("sessions", "reason"), [([], "no ONNX model is loaded"), ([Fake(is_built=True)], "would build each engine anew")]
)
def test_what_has_no_profile_says_why(sessions, reason):
    found = OnnxRuntimeTracer(lambda: sessions).start()
    assert (found.state, reason in found.reason) == ("absent", True)


def test_engines_are_left_alone_beside_other_sessions(tmp_path):
    engine, other = Fake(is_built=True), Fake()
    tracer = OnnxRuntimeTracer(lambda: [engine, other])
    tracer.start()
    assert (engine.is_profiled, other.is_profiled) == (False, True)
    assert tracer.stop(tmp_path).records == 2


def test_a_profile_that_is_full_says_so(tmp_path):
    tracer = OnnxRuntimeTracer(lambda: [Fake("large", events=MOST_EVENTS)])
    tracer.start()
    assert "'large' had more" in tracer.stop(tmp_path).warnings[0]


def test_sessions_are_looked_for_only_where_the_backend_is_loaded():
    assert all(hasattr(session, "end_profile") for session in loaded_sessions())
