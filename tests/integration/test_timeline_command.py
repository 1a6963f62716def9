"""``analyzer timeline`` as users run it: on a real capture, on what ONNX Runtime writes, on what is no capture."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CAPTURE = Path("tests/data/nsight/dev.sqlite")


def timeline(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "analyzer", "timeline", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_capture_is_told_in_80_columns():
    done = timeline("analyze", CAPTURE)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "GPU 0 NVIDIA H100 80GB HBM3: 712 ms from first to last operation" in lines
    assert any(line.split() == ["kernels", "2.65", "ms", "0.4%"] for line in lines)
    assert any(line.split() == ["kernels", "and", "copies", "55.9", "ms", "7.9%"] for line in lines)
    assert any(line.split()[:2] == ["51.2", "ms"] and "device to pageable" in line for line in lines)


def test_a_part_of_a_capture_is_told_by_the_name_of_its_ranges():
    done = timeline("analyze", CAPTURE, "--within", "serving:request", "--json")
    found = json.loads(done.stdout)
    assert found["gpu"]["busy"][0]["operation_count"] == 200
    assert found["events_by_kind"]["range"] == 80
    assert {gap["cause"] for gap in found["gpu"]["gaps"]} == {"host wait"}
    missing = timeline("analyze", CAPTURE, "--within", "nothing")
    assert missing.returncode == 3
    assert missing.stderr == "analyzer: the timeline has no event named 'nothing'; 'analyze' lists the ranges\n"


def test_an_imported_capture_tells_the_same_as_the_capture(tmp_path):
    done = timeline("import", CAPTURE, "-o", tmp_path / "dev.timeline")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'dev.timeline'}: 2,487 events\n")
    ours, theirs = (timeline("analyze", path, "--json").stdout for path in (tmp_path / "dev.timeline", CAPTURE))
    ours, theirs = json.loads(ours), json.loads(theirs)
    assert ours.pop("source") != theirs.pop("source")
    assert ours == theirs


def test_a_capture_is_not_overwritten_by_its_import(tmp_path):
    timeline("import", CAPTURE, "-o", tmp_path / "dev.timeline")
    done = timeline("import", tmp_path / "dev.timeline")
    assert done.returncode == 3
    assert done.stderr.endswith("would be overwritten by itself; choose another place with --output\n")


def test_two_captures_are_compared():
    done = timeline("diff", CAPTURE, CAPTURE, "--top", 1)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:7] == ["835", "µs", "835", "µs", "1.00", "1.00", "25"] for line in lines)


@pytest.mark.parametrize("command", ["analyze", "import", "diff"])
@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"SQLite format 3\0", b'{"traceEvents": ['])
def test_what_is_no_capture_is_one_sentence_and_code_3(tmp_path, command, content):
    path = tmp_path / "capture.bin"
    path.write_bytes(content)
    done = timeline(command, path, *([path] if command == "diff" else []))
    assert done.returncode == 3
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("analyzer: ")
    assert not list(tmp_path.glob("*.timeline*"))


def test_a_wrong_time_is_told_with_what_it_takes():
    done = timeline("analyze", CAPTURE, "--gap-floor", "long")
    assert done.returncode == 2
    assert "such as 20ms" in done.stderr


def test_what_onnx_runtime_writes_is_read(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx").helper
    numpy = pytest.importorskip("numpy")
    ends = [helper.make_tensor_value_info(name, 1, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="first")], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for _ in range(3):
        session.run(None, {"x": numpy.ones((1, 4), numpy.float32)})
    found = json.loads(timeline("analyze", session.end_profiling(), "--json").stdout)
    assert found["gpu"] is None
    assert found["gpu_absent"] == "no GPU activity in the capture"
    assert {each["name"]: each["spread"]["count"] for each in found["operators"]} == {"first": 3}
    assert {each["name"]: each["spread"]["count"] for each in found["ranges"]}["model_run"] == 3


def test_a_capture_without_gpu_work_never_says_zero_percent(tmp_path):
    event = {"ph": "X", "name": "serve", "pid": 1, "tid": 1, "ts": 5, "dur": 3}
    (tmp_path / "a.json").write_text(json.dumps([event]))
    done = timeline("analyze", tmp_path / "a.json")
    assert "! no GPU activity in the capture" in done.stdout.splitlines()
    assert "%" not in done.stdout
    assert "GPU 0" not in done.stdout


def test_what_holds_a_capture_back_is_told_and_what_cannot_be_judged():
    found = json.loads(timeline("analyze", CAPTURE, "--json").stdout)["rules"]
    assert [each["id"] for each in found["findings"]] == ["R7", "R5"]
    assert {each["id"] for each in found["abstained"]} == {"R2", "R3", "R6", "R9", "R12"}
    lines = timeline("analyze", CAPTURE).stdout.splitlines()
    assert "What holds it back" in lines
    assert any(line.startswith("  ?  R12") for line in lines)


def test_a_limit_of_a_rule_is_set_by_a_flag():
    rule = "R5.share_ratio=0.5"
    found = json.loads(timeline("analyze", CAPTURE, "--json", "--rule", rule).stdout)["rules"]
    assert [each["id"] for each in found["findings"]] == ["R7"]
    refused = timeline("analyze", CAPTURE, "--rule", "R5.share=1")
    assert refused.returncode == 2
    assert "names no limit of a rule: R5.share; known are R5.total_kib, R5.share_ratio" in refused.stderr


@pytest.mark.parametrize("name", ["perfetto", "chrome", "nsys-sqlite", "nvtxt"])
def test_a_capture_is_exported(name, tmp_path):
    target = tmp_path / "out"
    done = timeline("export", CAPTURE, "--format", name, "-o", target)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{target}\n", "")
    assert target.stat().st_size > 10_000
    assert list(tmp_path.iterdir()) == [target]


def test_perfetto_is_what_is_exported_unless_another_format_is_asked_for(tmp_path):
    timeline("export", CAPTURE, "-o", tmp_path / "a")
    timeline("export", CAPTURE, "--format", "perfetto", "-o", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    nowhere = timeline("export", CAPTURE, "-o", tmp_path / "none" / "a")
    assert nowhere.returncode == 3
    assert nowhere.stderr.endswith("No such file or directory; choose another place with --output\n")
