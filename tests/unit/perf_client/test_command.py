import subprocess
import sys

import pytest

from perf_client.command import parse
from perf_client.errors import LoadError
from perf_client.flags import make_parser
from perf_client.profile import Concurrency, RequestRate
from perf_client.sweep import Levels, Limit
from perf_client.unsupported import REFUSED

# Every option of perf_analyzer 2.60.0's table, long and short.
PERF_ANALYZER_FLAGS = [
    "-m",
    "-x",
    "-u",
    "-i",
    "-b",
    "-H",
    "-v",
    "-f",
    "--version",
    "--help",
    "-h",
    "--service-kind",
    "--endpoint",
    "--bls-composing-models",
    "--model-signature-name",
    "--measurement-mode",
    "--measurement-interval",
    "-p",
    "--measurement-request-count",
    "--stability-percentage",
    "-s",
    "--percentile",
    "--max-trials",
    "-r",
    "--request-count",
    "--warmup-request-count",
    "--concurrency-range",
    "--periodic-concurrency-range",
    "--request-period",
    "--request-parameter",
    "--session-concurrency",
    "--request-rate-range",
    "--request-distribution",
    "--request-intervals",
    "--fixed-schedule",
    "--latency-threshold",
    "-l",
    "--binary-search",
    "--max-threads",
    "--num-of-sequences",
    "--sequence-length",
    "--sequence-length-variation",
    "--sequence-id-range",
    "--serial-sequences",
    "--input-data",
    "--shape",
    "--string-data",
    "--string-length",
    "--shared-memory",
    "--output-shared-memory-size",
    "--input-tensor-format",
    "--output-tensor-format",
    "--async",
    "-a",
    "--sync",
    "--streaming",
    "--grpc-compression-algorithm",
    "--grpc-method",
    "--proto",
    "--ssl-grpc-use-ssl",
    "--ssl-grpc-root-certifications-file",
    "--ssl-grpc-private-key-file",
    "--ssl-grpc-certificate-chain-file",
    "--ssl-https-verify-peer",
    "--ssl-https-verify-host",
    "--ssl-https-ca-certificates-file",
    "--ssl-https-client-certificate-file",
    "--ssl-https-client-certificate-type",
    "--ssl-https-private-key-file",
    "--ssl-https-private-key-type",
    "--triton-server-directory",
    "--model-repository",
    "--collect-metrics",
    "--metrics-url",
    "--metrics-interval",
    "--verbose-csv",
    "--profile-export-file",
    "--trace-level",
    "--trace-rate",
    "--trace-count",
    "--log-frequency",
    "--enable-mpi",
    "-t",
    "-c",
    "-d",
    "-z",
    "--data-directory",
]


def refusal(*argv):
    with pytest.raises(LoadError) as caught:
        parse(argv)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_those_of_perf_analyzer():
    command = parse(["-m", "resnet"])
    assert command.url == "localhost:8000"
    assert parse(["-m", "resnet", "-i", "gRPC"]).url == "localhost:8001"
    assert command.profile.load == Concurrency(in_flight=1)
    assert (command.profile.batch_size, command.profile.duration_s, command.profile.input_data) == (1, 5.0, "random")
    assert (command.profile.protocol, command.profile.version, command.profile.warmup_s) == ("http", "", None)
    assert (command.limit, command.percent, command.bisect) == (None, None, False)


@pytest.mark.parametrize(
    ("argv", "levels"),
    [
        (["--concurrency-range", "4"], Levels("concurrency", 4, 4, 1)),
        (["--concurrency-range", "1:8"], Levels("concurrency", 1, 8, 1)),
        (["--concurrency-range", "1:0:4", "-l", "20"], Levels("concurrency", 1, None, 4)),
        (["--request-rate-range", "0.5:2.5:0.5"], Levels("request_rate", 0.5, 2.5, 0.5)),
        (["--request-rate-range", "100"], Levels("request_rate", 100, 100, 1)),
    ],
)
def test_ranges(argv, levels):
    assert parse(["-m", "x", *argv]).levels == levels


def test_everything_about_a_request_rate_arrives_in_the_profile():
    command = parse(
        [
            "-m",
            "x",
            "-x",
            "3",
            "-u",
            "h:1",
            "-i",
            "grpc",
            "-b",
            "4",
            "--request-rate-range",
            "100:200:50",
            "--request-distribution",
            "gamma",
            "--gamma-shape",
            "0.5",
            "--max-in-flight",
            "9",
            "--seed",
            "7",
            "--warmup",
            "0",
            "--duration",
            "2.5",
            "--timeout",
            "3",
            "--percentile",
            "99.9",
            "-l",
            "0.5",
            "--binary-search",
            "--input-data",
            "random",
            "--shape",
            "IN:3,4",
            "--shape",
            "a:b:5",
            "--string-length",
            "8",
            "-a",
            "-v",
        ]
    )
    profile = command.profile
    assert profile.load == RequestRate(per_second=100.0, arrival="gamma", gamma_shape=0.5, max_in_flight=9)
    assert (profile.version, profile.batch_size, profile.seed, profile.timeout_s) == ("3", 4, 7, 3.0)
    assert (profile.warmup_s, profile.duration_s, profile.string_length) == (0.0, 2.5, 8)
    assert profile.shapes == {"IN": (3, 4), "a:b": (5,)}
    assert (command.limit, command.percent, command.bisect) == (Limit(5e5, 99.9), 99.9, True)


def test_counts_replace_the_time():
    assert parse(["-m", "x", "--request-count", "300"]).profile.request_count == 300
    assert parse(["-m", "x", "--request-count", "0"]).profile.request_count is None
    assert parse(["-m", "x", "--measurement-mode", "count_windows"]).profile.request_count == 50
    argv = ["-m", "x", "--measurement-mode", "count_windows", "--measurement-request-count", "500"]
    assert parse(argv).profile.request_count == 500
    assert parse(["-m", "x", "-p", "200"]).profile.duration_s == 0.2


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        ("", "-m"),
        ("-m x --concurrency-range x", "--concurrency-range x"),
        ("-m x --concurrency-range 1.5", "whole numbers"),
        ("-m x --concurrency-range 1:2:3:4", "START:END:STEP"),
        ("-m x --concurrency-range 8:1", "1:8"),
        ("-m x --concurrency-range 0:1", "above 0"),
        ("-m x --concurrency-range 1:8:0", "above 0"),
        ("-m x --concurrency-range 1:0", "--latency-threshold"),
        ("-m x --request-rate-range nan", "START:END:STEP"),
        ("-m x --request-rate-range inf", "not START:END:STEP"),
        ("-m x --concurrency-range 1 --request-rate-range 10", "exclude each other"),
        ("-m x --binary-search -l 5 --concurrency-range 1:0", "--binary-search needs"),
        ("-m x --binary-search --concurrency-range 1:8", "--latency-threshold"),
        ("-m x --request-count 3 --concurrency-range 4", "--request-count 3"),
        ("-m x --request-distribution poisson", "--request-rate-range"),
        ("-m x --request-rate-range 5 --request-distribution uniform", "uniform"),
        ("-m x --max-in-flight 5", "--request-rate-range"),
        ("-m x --gamma-shape 2 --request-rate-range 5", "gamma"),
        ("-m x --duration 1 -p 1000", "--duration"),
        ("-m x --measurement-request-count 9", "count_windows"),
        ("-m x --percentile 100", "--percentile"),
        ("-m x --percentile 0", "--percentile"),
        ("-m x -b 0", "-b"),
        ("-m x -b two", "'two'"),
        ("-m x -i ftp", "'ftp'"),
        ("-m x --shape IN", "NAME:D1,D2"),
        ("-m x --shape IN:-1", "NAME:D1,D2"),
        ("-m x --warmup -1", "--warmup"),
        ("-m x --duration nan", "--duration"),
        ("-m x --frobnicate", "--frobnicate"),
        ("-m", "-m"),
    ],
)
def test_a_mistake_gets_one_sentence_that_names_it(argv, names):
    assert names in refusal(*argv.split())


@pytest.mark.parametrize("flag", PERF_ANALYZER_FLAGS)
def test_every_flag_of_perf_analyzer_is_either_taken_or_refused_with_a_reason(flag):
    refused = next((r for r in REFUSED if flag in r.flags), None)
    if refused is None:
        from perf_client.flags import make_parser

        assert flag in make_parser()._option_string_actions
        return
    said = refusal("-m", "x", flag, *(["1"] if refused.takes_value else []))
    assert said.startswith(flag)
    assert refused.instead in said


@pytest.mark.parametrize("refused", [r for r in REFUSED if r.keeps], ids=lambda r: r.flags[0])
def test_a_value_that_asks_for_what_is_done_anyway_is_taken(refused):
    assert parse(["-m", "x", refused.flags[0], refused.keeps[0]]).profile.model == "x"


def test_jobs_need_no_model():
    assert parse(["--jobs"]) is None


@pytest.mark.parametrize(
    ("flag", "shown"), [("--version", "perf-client 0."), ("-h", "exit codes"), ("--help", "--concurrency-range")]
)
def test_help_and_version_answer_on_stdout_without_numpy(flag, shown):
    code = f"import sys; sys.argv=['perf-client', {flag!r}]\nfrom perf_client.__main__ import main\ntry:\n    main()\n"
    code += "except SystemExit as end:\n    assert end.code == 0\nassert 'numpy' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown in done.stdout


@pytest.mark.parametrize("columns", [60, 80, 300])
def test_help_keeps_to_the_terminal_and_to_a_readable_width(monkeypatch: pytest.MonkeyPatch, columns: int):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(len(line) for line in make_parser().format_help().splitlines()) < min(columns, 111)
