"""Our runtime under the real perf_analyzer in every mode that it has: exit status, throughput, failures.

``python -m tests.benchmarks.driven_by_perf_analyzer --perf-analyzer PATH [--only WORD]``

Failures are those that the server counted while the mode ran. Ends with code 1 where a mode did not end with status 0,
or where something failed.
"""

import argparse
import re
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.perf_analyzer_runs import run_perf_analyzer
from tests.fakes.repositories import write_add_sub, write_ensemble, write_model, write_python, write_simulated
from tests.fakes.running_server import RunningServer, running_server

REPEAT = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            tensor = pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())
            for _ in range(3):
                sender.send(pb_utils.InferenceResponse([tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

STATE = """sequence_batching {
  direct { }
  control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
  control_input { name: "READY" control { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } }
}
instance_group { count: 2 }"""

EIGHT = ("--concurrency-range=8",)
RATE = ("--request-rate-range=200",)
GRPC = ("-i", "grpc")
STREAM = (*GRPC, "--streaming")
TRACED = ("--trace-level=TIMESTAMPS", "--trace-rate=100")
SHARED = ("--shared-memory=system", "--output-shared-memory-size=1024")

MODES: dict[str, tuple[str, tuple[str, ...]]] = {
    "HTTP, sync": ("quick", ("--sync", *EIGHT)),
    "HTTP, async": ("quick", ("--async", *EIGHT)),
    "gRPC, sync": ("quick", (*GRPC, "--sync", *EIGHT)),
    "gRPC, async": ("quick", (*GRPC, "--async", *EIGHT)),
    "gRPC, streaming": ("quick", (*STREAM, *EIGHT)),
    "gRPC, streaming, decoupled": ("repeat", (*STREAM, "--concurrency-range=4")),
    "gRPC, streaming, periodic concurrency": (
        "repeat",
        (*STREAM, "--periodic-concurrency-range=1:8:1", "--request-period=2", "--profile-export-file=EXPORT"),
    ),
    "HTTP, concurrency range": ("quick", ("--concurrency-range=1:4:2",)),
    "gRPC, binary search": ("quick", (*GRPC, "--concurrency-range=1:8", "--binary-search", "-l", "50")),
    "HTTP, rate, constant": ("quick", RATE),
    "gRPC, rate, Poisson": ("quick", (*GRPC, *RATE, "--request-distribution=poisson")),
    "HTTP, rate, intervals of a file": ("quick", ("--request-intervals=INTERVALS",)),
    "HTTP, batch 4": ("quick", ("-b", "4", *EIGHT)),
    "gRPC, batch 4, async": ("quick", (*GRPC, "--async", "-b", "4", *EIGHT)),
    "HTTP, model.py": ("script", EIGHT),
    "gRPC, model.py": ("script", (*GRPC, *EIGHT)),
    "HTTP, ensemble": ("chain", EIGHT),
    "gRPC, ensemble, async": ("chain", (*GRPC, "--async", *EIGHT)),
    "HTTP, sequences": ("steps", ("--concurrency-range=4", "--sequence-length=10")),
    "HTTP, sequences, async": ("steps", ("--async", "--concurrency-range=4", "--sequence-length=10")),
    "gRPC, sequences, streaming": ("steps", (*STREAM, "--concurrency-range=4", "--sequence-length=10")),
    "gRPC, sequences, rate": ("steps", (*STREAM, *RATE, "--num-of-sequences=4", "--sequence-length=10")),
    "gRPC, sequences, serial": ("steps", (*STREAM, *RATE, "--serial-sequences", "--num-of-sequences=4")),
    "HTTP, shared memory": ("quick", (*SHARED, *EIGHT)),
    "gRPC, shared memory": ("quick", (*GRPC, *SHARED, *EIGHT)),
    "gRPC, shared memory, async": ("quick", (*GRPC, "--async", *SHARED, *EIGHT)),
    "HTTP, shared memory, ensemble": ("chain", (*SHARED, *EIGHT)),
    "HTTP, shared memory, sequences": ("steps", (*SHARED, "--concurrency-range=4", "--sequence-length=10")),
    "HTTP, texts": ("texts", ("--string-length=40", *EIGHT)),
    "gRPC, texts": ("texts", (*GRPC, "--string-data=hello", *EIGHT)),
    "HTTP, variable shape": ("variable", ("--shape=INPUT0:64", *EIGHT)),
    "HTTP, JSON both ways": (
        "add_sub",
        ("--input-tensor-format=json", "--output-tensor-format=json", *EIGHT),
    ),
    "gRPC, gzip": ("quick", (*GRPC, "--grpc-compression-algorithm=gzip", *EIGHT)),
    "gRPC, deflate": ("quick", (*GRPC, "--grpc-compression-algorithm=deflate", *EIGHT)),
    "gRPC, request parameter": ("quick", (*GRPC, "--request-parameter=limit:7:int", *EIGHT)),
    "HTTP, version named": ("quick", ("-x", "1", *EIGHT)),
    "HTTP, metrics collected": ("quick", ("--collect-metrics", "--metrics-url=METRICS", *EIGHT)),
    "HTTP, own data, validated": ("add_sub", ("--input-data=DATA", "--concurrency-range=4")),
    "gRPC, count of requests": ("quick", (*GRPC, "--request-count=500", "--concurrency-range=4")),
    "HTTP, trace settings": ("quick", ("--trace-level=OFF", *EIGHT)),
    "HTTP, traces": ("quick", (*TRACED, "--trace-count=20", "--log-frequency=5", *EIGHT)),
    "gRPC, traces": ("chain", (*GRPC, *TRACED, "--trace-count=-1", *EIGHT)),
}

DATA = """{"data": [
  {"INPUT0": [1, 2, 3, 4], "INPUT1": [1, 1, 1, 1]},
  {"INPUT0": [5, 6, 7, 8], "INPUT1": [0, 0, 0, 0]}
], "validation_data": [
  {"OUTPUT0": [2, 3, 4, 5], "OUTPUT1": [0, 1, 2, 3]},
  {"OUTPUT0": [5, 6, 7, 8], "OUTPUT1": [5, 6, 7, 8]}
]}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--perf-analyzer", required=True)
    parser.add_argument("--only", default="", metavar="WORD", help="the modes whose names have this in them")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder) / "models")
        files = write_files(Path(folder))
        traces = f"triton,file={folder}/trace.json"
        with running_server(Path(folder) / "models", "--trace-config", traces) as server:
            rows = [row(given.perf_analyzer, server, files, name) for name in MODES if given.only in name]
    return 0 if all(rows) else 1


def write_models(repository: Path) -> None:
    write_simulated(repository, "quick", type_name="TYPE_INT32", max_batch_size=32, extra="dynamic_batching { }")
    write_simulated(repository, "texts", type_name="TYPE_STRING")
    write_simulated(repository, "variable", dims=(-1,))
    write_python(repository, "script", type_name="TYPE_INT32", dims=(4,), max_batch_size=8)
    write_ensemble(repository)
    if not (repository / "add_sub").exists():
        write_add_sub(repository)
    tensors = {"inputs": [("INPUT0", "TYPE_INT32", [4])], "outputs": [("OUTPUT0", "TYPE_INT32", [4])]}
    decoupled = "model_transaction_policy { decoupled: true }"
    write_model(repository, "repeat", backend="python", **tensors, extra=decoupled, files={"model.py": REPEAT})
    code = (repository / "script" / "1" / "model.py").read_text()
    write_model(
        repository, "steps", backend="python", **tensors, max_batch_size=4, extra=STATE, files={"model.py": code}
    )


def write_files(folder: Path) -> dict[str, str]:
    """By the words that stand for them in ``MODES``."""
    (folder / "intervals").write_text("4000\n5000\n6000\n")
    (folder / "data.json").write_text(DATA)
    return {
        "INTERVALS": str(folder / "intervals"),
        "DATA": str(folder / "data.json"),
        "EXPORT": str(folder / "export.json"),
    }


def row(program: str, server: RunningServer, files: dict[str, str], name: str) -> bool:
    model, flags = MODES[name]
    address = server.grpc if "grpc" in flags else server.http
    known = {**files, "METRICS": f"{server.metrics}/metrics"}
    before = failures(server)
    seen = run_perf_analyzer(program, "-m", model, "-u", address, *filled(flags, known))
    failed = failures(server) - before
    rate = "" if seen.per_second is None else f"{seen.per_second:,.0f}"
    if name == next(iter(MODES)):
        print("| mode | exit status | per s | failures |\n|---|---|---|---|")
    print(f"| {name} | {seen.status} | {rate} | {failed} | {seen.complaint}".rstrip(), flush=True)
    return seen.status == 0 and failed == 0


def filled(flags: tuple[str, ...], known: dict[str, str]) -> Iterator[str]:
    for flag in flags:
        name, _, value = flag.partition("=")
        yield f"{name}={known[value]}" if value in known else flag


def failures(server: RunningServer) -> int:
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    families = r"^(?:nv_inference_request_failure|analyzer_requests_refused_total)\{.*\} (\d+)$"
    return sum(int(count) for count in re.findall(families, page, re.MULTILINE))


if __name__ == "__main__":
    sys.exit(main())
