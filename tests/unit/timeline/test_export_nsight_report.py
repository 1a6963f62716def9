"""A report holds what nvtx.writer was given: proved with a library that writes down every call."""

import shutil
import struct
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from analyzer.errors import ChildError, InputError, MissingExtraError
from analyzer.timeline import export_nsight_report, import_any
from analyzer.timeline.export_nsight_report import BACKEND_VARIABLE
from analyzer.timeline.kinds import Kind
from analyzer.timeline.table import Anchor, Meta, Series, Timeline
from tests.fakes.timelines import Scene

COMPILER = shutil.which("cc")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if COMPILER is None:
        pytest.skip("the stand-in for Nsight's library needs a C compiler")
    built = tmp_path_factory.mktemp("backend") / "libNvtxwBackend.so"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", built, "tests/fakes/nvtxw_backend.c"], check=True)
    return built


def told(path: Path) -> tuple[Counter[tuple[object, ...]], dict[str, list[str]]]:
    """Events as (stream, category, text, start, end), and all other lines by their first word."""
    strings, categories, lines = {}, {}, {}
    events: Counter[tuple[object, ...]] = Counter()
    stream = ""
    for line in path.read_text().splitlines():
        word, rest = line.split(" ", 1)
        if word == "stream":
            stream = rest
        elif word in {"string", "category"}:
            number, text = rest.split(" ", 1)
            (strings if word == "string" else categories)[int(number)] = text
        elif word == "event":
            raw = bytes.fromhex(rest)
            *times, _, category, text = struct.unpack("<qqIIQ" if len(raw) == 32 else "<qIIQ", raw)
            events[(stream, categories[category], strings[text], times[0], times[-1])] += 1
        else:
            lines.setdefault(word, []).append(rest)
    return events, lines


def test_ranges_marks_and_counters_reach_the_library_at_wall_clock_times(library, tmp_path, monkeypatch):
    monkeypatch.setenv(BACKEND_VARIABLE, str(library))
    scene = Scene().work(30, 40, called=22).add(Kind.MARK, "here", 25, 25, thread=3).request(1, 0, 9).request(2, 5, 12)
    scene.build.sample(Series(name="power", unit="W", device=0), [5, 6], [70.5, 71.25])
    utc = 1_795_304_415_988_212_631
    timeline = scene.build.build(Meta(producer="test"), anchors=[Anchor(clock="utc", offset_ns=utc)])
    export_nsight_report.write(timeline, tmp_path / "a.nsys-rep")
    events, lines = told(tmp_path / "a.nsys-rep")
    assert events == Counter(
        {
            ("GPU 0 / stream 7", "kernel", "gemm", utc + 30, utc + 40): 1,
            ("process / thread 7", "api", "cudaLaunchKernel", utc + 22, utc + 23): 1,
            ("process / thread 3", "mark", "here", utc + 25, utc + 25): 1,
            ("process / requests of m (1)", "request", "request", utc, utc + 9): 1,
            ("process / requests of m (2)", "request", "request", utc + 5, utc + 12): 1,
        }
    )
    assert lines["domain"] == ["serving-analyzer"]
    assert lines["counter"][0].endswith(" GPU 0 power [W]")
    assert [sample.split(" ", 1)[1] for sample in lines["sample"]] == [f"{utc + 5} 70.5", f"{utc + 6} 71.25"]


def test_the_sample_capture_keeps_its_sums(library, tmp_path, monkeypatch):
    monkeypatch.setenv(BACKEND_VARIABLE, str(library))
    timeline = import_any.read(Path("tests/data/nsight/dev.sqlite"))
    export_nsight_report.write(timeline, tmp_path / "dev.nsys-rep")
    events, _ = told(tmp_path / "dev.nsys-rep")
    for kind in Kind:
        rows = timeline.rows(kind)
        mine = [(count, end - start) for (_, name, _, start, end), count in events.items() if name == kind.name.lower()]
        assert sum(count for count, _ in mine) == len(rows)
        assert sum(count * length for count, length in mine) == timeline.events.duration_ns[rows].sum()


def some() -> Timeline:
    return Scene().work(1, 2).timeline()


def test_without_nsight_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delenv(BACKEND_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"install it and set NSYS_WRITER_BACKEND .* or choose --format nvtxt"):
        export_nsight_report.write(some(), tmp_path / "a.nsys-rep")


def test_a_library_beside_nsys_is_found(library, tmp_path, monkeypatch):
    monkeypatch.delenv(BACKEND_VARIABLE, raising=False)
    (tmp_path / "target-linux-x64").mkdir()
    (tmp_path / "host-linux-x64").mkdir()
    nsys = tmp_path / "target-linux-x64" / "nsys"
    nsys.touch(mode=0o755)
    shutil.copy(library, tmp_path / "host-linux-x64")
    monkeypatch.setenv("PATH", str(nsys.parent))
    export_nsight_report.write(some(), tmp_path / "a.nsys-rep")
    assert (tmp_path / "a.nsys-rep").exists()


def test_bad_places_are_told(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"let its name end in \.nsys-rep"):
        export_nsight_report.write(some(), tmp_path / "a.sqlite")
    with pytest.raises(InputError, match="no such folder"):
        export_nsight_report.write(some(), tmp_path / "none" / "a.nsys-rep")
    monkeypatch.setenv(BACKEND_VARIABLE, str(tmp_path / "absent.so"))
    with pytest.raises(InputError, match="which is no file"):
        export_nsight_report.write(some(), tmp_path / "a.nsys-rep")
    (tmp_path / "text.so").write_text("no library")
    monkeypatch.setenv(BACKEND_VARIABLE, str(tmp_path / "text.so"))
    with pytest.raises(ChildError, match=r"text\.so could not write"):
        export_nsight_report.write(some(), tmp_path / "a.nsys-rep")
