"""The load generator against servers that do what a script says and log it: what it reports must be what they did."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy.stats import kstest

from perf_client.__main__ import main
from perf_client.drive import run_load
from perf_client.profile import Concurrency, LoadProfile, LoadResult, RequestRate
from perf_client.record import Columns
from perf_client.summarize import summarize
from tests.fakes.scripted_server import REFUSED, RESET, SILENT, Log, Script, running

ROOT = Path(__file__).parents[2]


@dataclass
class Case:
    result: LoadResult
    columns: Columns
    log: Log
    start_ns: int

    def true_response_ns(self):
        """From the schedule to the server's own end, request by request; a queue answers in order of arrival."""
        return np.sort(self.log.done_ns) - self.start_ns - np.sort(self.columns.scheduled_ns)


def case(script, load, folder, **profile):
    asked = LoadProfile(**{"model": "m", "load": load, "warmup_s": 0.0, "duration_s": 1.0, **profile})
    with running(script, folder) as server:
        run = run_load(asked, server.url)
        return Case(summarize(asked, run.columns, run.facts), run.columns, server.stop(), run.facts.start_ns)


def rate(per_second, arrival="constant"):
    return RequestRate(per_second=per_second, arrival=arrival)


def p(latency, percent):
    return next(found.value_ns for found in latency.percentiles if found.percent == percent)


def agree(seen_ns, true_ns, percent, *, slack):
    """The client sees what the server did plus its own cost; the slack is a part of the slowest answer."""
    true = np.percentile(true_ns, percent, method="higher")
    assert true * (1 - slack) <= p(seen_ns, percent) <= true + slack * true_ns.max()


def test_every_request_is_counted_as_the_server_counted_it(tmp_path):
    found = case(Script([0.005], queue=False), Concurrency(in_flight=4), tmp_path)
    assert found.result.request_count == len(found.columns) == len(found.log.arrived_ns)
    assert found.result.failures == {}
    sent = np.sort(found.columns.sent_ns) + found.start_ns
    answered = np.sort(found.columns.last_byte_ns) + found.start_ns
    assert (sent <= np.sort(found.log.arrived_ns)).all()
    assert (answered >= np.sort(found.log.done_ns)).all()
    assert (found.columns.last_byte_ns - found.columns.sent_ns).min() >= found.log.took_ns.min()


def test_mixed_service_times_are_seen_as_they_were(tmp_path):
    rng = np.random.default_rng(1)
    slow = np.where(rng.random(500) < 0.1, 0.2, 0.002)
    found = case(Script(slow.tolist(), queue=False), rate(150, "poisson"), tmp_path)
    for percent in (50, 95, 99):
        agree(found.result.service, found.log.took_ns, percent, slack=0.15)
    shares = [
        (times > 100_000_000).mean()
        for times in (found.log.took_ns, found.columns.last_byte_ns - found.columns.sent_ns)
    ]
    assert shares[0] == shares[1]


def test_a_freeze_is_in_the_percentiles_with_the_waits_of_all_who_came_meanwhile(tmp_path):
    service = [0.002] * 400
    service[50] += 0.4
    found = case(Script(service), rate(200), tmp_path)
    true = found.true_response_ns()
    assert (true > 100_000_000).mean() > 0.2
    for percent in (90, 95, 99):
        agree(found.result.response, true, percent, slack=0.1)
    assert found.result.verdict != "overloaded"
    assert not found.result.client.bound


def test_more_than_the_capacity_is_called_an_overload_with_its_slope(tmp_path):
    found = case(Script([0.01]), rate(120), tmp_path, duration_s=1.5)
    assert found.result.verdict == "overloaded"
    agree(found.result.response, found.true_response_ns(), 99, slack=0.1)
    done_in_window = np.count_nonzero(found.log.done_ns < found.start_ns + found.result.counted_to_ns)
    assert found.result.throughput.per_second == pytest.approx(done_in_window / 1.5, rel=0.05)
    assert found.result.request_count > done_in_window


def test_half_the_capacity_is_not_an_overload_and_keeps_littles_law(tmp_path):
    found = case(Script([0.008]), rate(60, "poisson"), tmp_path, duration_s=1.5)
    assert found.result.verdict != "overloaded"
    inside = found.true_response_ns().sum() / found.result.counted_to_ns
    seen = found.result.throughput.per_second * found.result.response.mean_ns / 1e9
    assert seen == pytest.approx(inside, rel=0.3)


def test_failures_are_counted_by_class_like_the_servers_own_count(tmp_path):
    script = Script([0.001], queue=False, fail_every=10, reset_every=17, silent_every=23)
    found = case(script, rate(200), tmp_path, timeout_s=0.4)
    kinds = {kind: int((found.log.kind == kind).sum()) for kind in (REFUSED, RESET, SILENT)}
    lost = sum(count for name, count in found.result.failures.items() if name.startswith("connection "))
    assert found.result.failures["http 500"] == kinds[REFUSED]
    assert found.result.failures["timeout"] == kinds[SILENT]
    assert lost == kinds[RESET]
    assert found.result.request_count == len(found.log.kind)
    assert found.result.failure_adjusted_ns["p99"] is None
    assert "scripted failure" in found.result.failure_examples["http 500"]


def test_poisson_arrivals_reach_the_server_when_due_and_none_before(tmp_path):
    found = case(Script([0.0005], queue=False), rate(400, "poisson"), tmp_path, seed=5)
    due = np.sort(found.columns.scheduled_ns)
    assert kstest(np.diff(due) / 1e9, "expon", args=(0, 1 / 400)).pvalue > 0.01
    late_ns = np.sort(found.log.arrived_ns) - found.start_ns - due
    assert late_ns.min() >= 0
    # Lateness may come, on a busy machine, but must not add up: the schedule is absolute.
    assert np.median(late_ns[-100:]) < due[-1] / 10


def test_a_slow_start_is_cut_and_the_rest_counts(tmp_path):
    script = Script([0.1] * 50 + [0.002] * 1000, queue=False)
    found = case(script, rate(200), tmp_path, warmup_s=None, duration_s=1.5)
    took = found.columns.last_byte_ns - found.columns.sent_ns
    assert found.columns.scheduled_ns[:50].max() < found.result.counted_from_ns < 0.75e9
    assert p(found.result.service, 50) < took[:50].min()


def command(script, folder, *flags):
    """The whole command, in its own process, against a server that knows its process id."""
    script.pid_file = str(folder / "client.pid")
    with running(script, folder) as server:
        argv = [sys.executable, "-m", "perf_client", "-m", "m", "-u", server.url, "-o", str(folder / "out"), *flags]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as client:
            Path(script.pid_file).write_text(str(client.pid))
            out, err = client.communicate(timeout=60)
        log = server.stop() if server.process.poll() is None else None
    return client.returncode, out, err, log


def result_of(folder):
    (path,) = (folder / "out").glob("*.json")
    return msgspec.json.decode(path.read_bytes(), type=LoadResult), Columns.load(path.with_suffix(".npz"))


def test_a_stopped_client_says_so_and_does_not_hide_the_wait(tmp_path):
    script = Script([0.001], signal_at=60, signals=[signal.SIGSTOP, signal.SIGCONT], pause_s=0.4)
    code, out, err, log = command(script, tmp_path, "--request-rate-range", "100", "--duration", "1.2", "--warmup", "0")
    result, columns = result_of(tmp_path)
    assert (code, err) == (7, "")
    assert "Client-bound" in out
    assert result.client.bound
    assert len(columns) == len(log.arrived_ns) == 120
    waited = (columns.last_byte_ns - columns.scheduled_ns) > 100_000_000
    assert np.count_nonzero(waited) >= 20
    assert p(result.response, 95) > 100_000_000


def test_an_interrupt_leaves_a_partial_result_and_whole_files(tmp_path):
    files = ["-f", str(tmp_path / "out.csv"), "--profile-export-file", str(tmp_path / "requests.json")]
    script = Script([0.001], signal_at=100, signals=[signal.SIGINT])
    code, out, _, log = command(script, tmp_path, "--concurrency-range", "1:4", "--duration", "30", *files)
    result, columns = result_of(tmp_path)
    assert code == 130
    assert "[WARNING] Incomplete" in out
    assert result.incomplete
    assert 0 <= len(columns) - len(log.arrived_ns) <= 1
    assert result.response.count + result.failures.get("interrupted", 0) == len(columns)
    requests = json.loads((tmp_path / "requests.json").read_text())["experiments"]
    assert [len(experiment["requests"]) for experiment in requests] == [len(columns)]
    assert (tmp_path / "out.csv").read_text().count("\n") == 2


def test_a_server_that_dies_is_a_result_with_failures(tmp_path):
    flags = ("--request-rate-range", "100", "--duration", "1", "--warmup", "0")
    code, out, _, _ = command(Script([0.001], die_at=60), tmp_path, *flags)
    result, columns = result_of(tmp_path)
    assert code == 5
    assert (result.incomplete, result.incomplete_reason) == (True, "the server was gone at the end of the run")
    assert result.response.count == 59
    assert result.request_count == len(columns) == 100
    assert sum(result.failures.values()) == 41
    assert "Failures, connection" in out


def test_levels_measured_before_the_server_died_are_reported(tmp_path):
    flags = ("--concurrency-range", "1:9", "--duration", "0.4", "--warmup", "0", "-f", str(tmp_path / "out.csv"))
    code, out, err, _ = command(Script([0.01], die_at=50), tmp_path, *flags)
    assert code == 5
    assert err.startswith("perf-client: ")
    assert "Concurrency: 1, throughput: " in out
    assert "Concurrency: 2, throughput: " in out
    assert (tmp_path / "out.csv").read_text().startswith("Concurrency,")


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["-u", "127.0.0.1:1"], 5, "127.0.0.1:1"),
        (["--concurrency-range", "4:1"], 2, "1:4"),
        (["--streaming"], 2, "streaming needs -i grpc"),
    ],
)
def test_a_mistake_ends_with_one_sentence_and_its_exit_code(flags, code, says, capsys):
    assert main(["-m", "m", *flags]) == code
    said = capsys.readouterr().err
    assert said.startswith("perf-client: ")
    assert said.count("\n") == 1
    assert says in said


def test_an_unknown_model_is_named(tmp_path, capsys):
    with running(Script([0.001]), tmp_path) as server:
        assert main(["-m", "nope", "-u", server.url]) in (2, 5)
    assert "nope" in capsys.readouterr().err


def test_a_whole_command_prints_its_levels_and_writes_its_files(tmp_path, capsys):
    files = [
        "-f",
        str(tmp_path / "out.csv"),
        "--profile-export-file",
        str(tmp_path / "r.json"),
        "-o",
        str(tmp_path / "o"),
    ]
    with running(Script([0.002]), tmp_path) as server:
        argv = ["-m", "m", "-u", server.url, "--concurrency-range", "1:9:4", "--request-count", "60", "--warmup", "0"]
        assert main([*argv, "--percentile", "97", "-l", "10000", "--binary-search", *files]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line for line in out.splitlines() if line.startswith("Request concurrency")] == [
        "Request concurrency: 1",
        "Request concurrency: 9",
    ]
    assert "Inferences/Second vs. Client p97 Batch Latency\nConcurrency: 1, throughput: " in out
    assert [path.name for path in sorted((tmp_path / "o").iterdir())] == [
        f"concurrency_{level}.{kind}" for level in (1, 9) for kind in ("json", "npz")
    ]
    assert len(json.loads((tmp_path / "r.json").read_text())["experiments"]) == 2
    assert [line.split(",")[0] for line in (tmp_path / "out.csv").read_text().splitlines()] == ["Concurrency", "1", "9"]


def test_no_answer_at_all_has_its_own_exit_code(tmp_path, capsys):
    with running(Script([0.001], fail_every=1), tmp_path) as server:
        assert main(["-m", "m", "-u", server.url, "--request-count", "60"]) == 5
    assert "Failures, http 500: 60 of 60" in capsys.readouterr().out


def test_a_full_disk_takes_no_result_off_the_screen(tmp_path):
    files = ["-f", "/dev/full", "--profile-export-file", str(tmp_path / "requests.json")]
    code, out, err, log = command(Script([0.001]), tmp_path, "--concurrency-range", "2", "--duration", "0.3", *files)
    result, columns = result_of(tmp_path)
    assert code == 6
    assert err.count("\n") == 1
    assert "/dev/full (No space left on device)" in err
    assert f"Request count: {result.response.count}" in out
    assert "Concurrency: 2, throughput: " in out
    assert len(columns) == len(log.arrived_ns)
    assert json.loads((tmp_path / "requests.json").read_text())["experiments"]


def test_a_terminal_sees_the_run_go_on_and_a_file_does_not(tmp_path):
    ours, theirs = os.openpty()
    script = Script([0.001])
    with running(script, tmp_path) as server:
        argv = [sys.executable, "-m", "perf_client", "-m", "m", "-u", server.url, "--duration", "1.2"]
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=theirs, cwd=ROOT) as client:
            assert client.wait(60) in (0, 7)
    os.set_blocking(ours, False)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    os.close(theirs)
    assert 1 <= shown.count("in flight") <= 3
    assert shown.endswith("\r\x1b[K")
