"""Collectors on a real GPU: kernels know their batch, the clocks agree, GPM tells work from none. By hand."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from analyzer import child
from analyzer.collect.gpu_usage import gpu_usage
from analyzer.collect.nsight import Nsight
from analyzer.collect.nvml import nvml
from analyzer.collect.window import timeline_of
from analyzer.domain.measurement import Measurement
from analyzer.runtime.devices import gpu_count
from analyzer.store import RunFolder
from analyzer.timeline import archive
from analyzer.timeline.kinds import Kind
from analyzer.zoo.catalogue import add
from tests.fakes.json_calls import post_json
from tests.fakes.running_server import running_server, server_command

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(gpu_count() == 0, reason="no NVIDIA GPU")]
ROUNDS = 20


def chain(repository: Path) -> Path:
    pytest.importorskip("onnx")
    for folder in add("conv_chain", repository):
        if folder.name != "conv_chain":
            with (folder / "config.pbtxt").open("a") as config:
                config.write("instance_group { kind: KIND_GPU count: 1 }\n")
    return repository


def infer(address, count):
    image = np.random.default_rng(0).random(3 * 64 * 64, np.float32).tolist()
    body = {"inputs": [{"name": "INPUT", "datatype": "FP32", "shape": [1, 3, 64, 64], "data": image}]}
    for _ in range(count):
        post_json(address, "/v2/models/conv_chain/infer", body)


def captured(tmp_path, *collectors):
    folder = tmp_path / "captures"
    folder.mkdir()
    with running_server(chain(tmp_path / "models"), "--spans", "4096", "--capture-dir", str(folder)) as server:
        infer(server.http, 3)
        states = post_json(server.http, "/v2/analyzer/capture/start", {"collect": ["spans", *collectors]})
        absent = [f"{name}: {state}" for name, state in states.items() if state["state"] != "on"]
        if absent:
            post_json(server.http, "/v2/analyzer/capture/stop")
            pytest.skip("; ".join(absent))
        infer(server.http, ROUNDS)
        return post_json(server.http, "/v2/analyzer/capture/stop"), folder, server.process.pid


def test_every_kernel_of_the_window_belongs_to_a_batch_and_lies_after_its_begin(tmp_path):
    pytest.importorskip("cupti")
    stats, folder, pid = captured(tmp_path, "cupti")
    timeline = timeline_of(folder, pid, [], with_gpu=True)
    kernels, batches = timeline.rows(Kind.KERNEL), timeline.rows(Kind.BATCH)
    table = timeline.events
    assert len(batches) == 3 * ROUNDS
    assert len(kernels) >= 3 * ROUNDS
    assert stats["cupti"]["dropped"] == 0
    assert (table.batch[kernels] > 0).mean() > 0.99
    assert {timeline.model(row) for row in kernels} == {"conv_1", "conv_2", "conv_3"}
    begins = dict(zip(table.batch[batches].tolist(), table.start_ns[batches].tolist()))
    ends = dict(zip(table.batch[batches].tolist(), table.end_ns[batches].tolist()))
    slack_ns = 50_000
    for row in kernels[table.batch[kernels] > 0]:
        number = int(table.batch[row])
        assert begins[number] - slack_ns <= table.start_ns[row]
        assert table.end_ns[row] <= ends[number] + slack_ns
    assert len(timeline.rows(Kind.MEMCPY)) > 0
    assert len(timeline.rows(Kind.API)) > len(kernels)


def test_a_second_window_works_as_the_first(tmp_path):
    pytest.importorskip("cupti")
    folder = tmp_path / "captures"
    folder.mkdir()
    with running_server(chain(tmp_path / "models"), "--spans", "4096", "--capture-dir", str(folder)) as server:
        counts = []
        for _ in range(2):
            post_json(server.http, "/v2/analyzer/capture/start", {"collect": ["spans", "cupti"]})
            infer(server.http, ROUNDS)
            post_json(server.http, "/v2/analyzer/capture/stop")
            timeline = timeline_of(folder, server.process.pid, [], with_gpu=True)
            counts.append(len(timeline.rows(Kind.KERNEL)))
    assert counts[1] == pytest.approx(counts[0], rel=0.05)


def test_nsight_systems_and_our_own_collector_agree_on_the_same_requests(tmp_path):
    """One tracer at a time can use CUPTI in a process, so the same requests run once with each."""
    command = os.environ.get("NSYS") or shutil.which("nsys")
    if command is None:
        pytest.skip("nsys is neither on PATH nor named by NSYS")
    (tmp_path / "own").mkdir()
    _, folder, pid = captured(tmp_path / "own", "cupti")
    own = timeline_of(folder, pid, [], with_gpu=True)
    captures = tmp_path / "captures"
    captures.mkdir()
    nsight = Nsight(command, captures)
    server = server_command(chain(tmp_path / "models"), "--spans", "4096", "--capture-dir", str(captures))
    process = subprocess.Popen([*nsight.prefix(), *server], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("ready "))
        http = dict(word.split("=", 1) for word in line.split()[1:])["http"]
        infer(http, 3)
        assert nsight.start().state == "on"
        post_json(http, "/v2/analyzer/capture/start", {"collect": ["spans"]})
        infer(http, ROUNDS)
        post_json(http, "/v2/analyzer/capture/stop")
        assert nsight.stop() == ""
        export = nsight.export()
    finally:
        child.stop_wrapped(process, "analyzer.runtime", 60.0)
    assert export is not None
    theirs = timeline_of(captures, pid, [], [export])
    kernels = {"ours": own.rows(Kind.KERNEL), "theirs": theirs.rows(Kind.KERNEL)}
    assert len(kernels["theirs"]) == len(kernels["ours"]) > 0
    total_ns = {
        name: int((table.events.end_ns - table.events.start_ns)[kernels[name]].sum())
        for name, table in (("ours", own), ("theirs", theirs))
    }
    print({name: (len(rows), total_ns[name]) for name, rows in kernels.items()})
    assert total_ns["theirs"] == pytest.approx(total_ns["ours"], rel=0.1)
    batches = theirs.rows(Kind.BATCH)
    first, last = theirs.events.start_ns[batches].min(), theirs.events.end_ns[batches].max()
    inside = (theirs.events.start_ns[kernels["theirs"]] >= first) & (theirs.events.end_ns[kernels["theirs"]] <= last)
    assert inside.all()


def test_gpm_tells_a_device_at_work_from_an_idle_one():
    torch = pytest.importorskip("torch")
    gpus = nvml()
    try:
        idle = [(time.monotonic_ns(), gpus.read())]
        time.sleep(0.3)
        idle.append((time.monotonic_ns(), gpus.read()))
        left = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
        until = time.monotonic() + 2.5
        busy = []
        while time.monotonic() < until:
            for _ in range(20):
                left @ left
            torch.cuda.synchronize()
            busy.append((time.monotonic_ns(), gpus.read()))
        (resting, *_), (working, *_) = (gpu_usage(gpus.devices, each, frozenset()) for each in (idle, busy))
    finally:
        gpus.close()
    if working.tensor_ratio is None:
        pytest.skip("this device has no GPM")
    assert working.tensor_ratio > 0.3
    assert working.sm_ratio is not None
    assert resting.tensor_ratio is None or resting.tensor_ratio < working.tensor_ratio
    assert working.energy_j is not None
    assert working.energy_j > 0
    assert not working.window_too_short


def test_a_device_at_work_tells_its_memory_traffic_and_how_often_it_was_looked_at():
    torch = pytest.importorskip("torch")
    gpus = nvml()
    try:
        here = torch.zeros(2**26, dtype=torch.uint8)
        until = time.monotonic() + 3
        readings = []
        while time.monotonic() < until:
            for _ in range(10):
                here.to("cuda")
            torch.cuda.synchronize()
            readings.append((time.monotonic_ns(), gpus.read()))
        usage = gpu_usage(gpus.devices, readings, frozenset())[0]
    finally:
        gpus.close()
    assert usage.memory_total_bytes is not None
    assert 0 < (usage.memory_peak_bytes or 0) < usage.memory_total_bytes
    assert usage.energy_s is not None
    assert usage.sample_gap_max_s is not None
    if usage.pcie_rx_mean_bytes_per_s is None:
        pytest.skip(f"this device tells no PCIe throughput: {usage.refused}")
    assert usage.pcie_rx_mean_bytes_per_s > (usage.pcie_tx_mean_bytes_per_s or 0)


def test_a_run_with_cupti_takes_its_figures_without_it_and_tells_what_it_costs(tmp_path):
    pytest.importorskip("cupti")
    repository = chain(tmp_path / "models")
    command = [sys.executable, "-m", "analyzer", "profile", "-m", str(repository), "--profile-models", "conv_chain"]
    command += ["--run", str(tmp_path / "run"), "--concurrency", "4", "--instance-counts", "1", "--search", "brute"]
    command += ["--max-batch-sizes", "1", "--duration", "3s", "--screen-duration", "3s", "--latency-budget", "10s"]
    command += ["--collect", "cupti", "--formats", "json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stderr
    run = RunFolder.open(tmp_path / "run")
    measured = [each for each in run.outcomes() if isinstance(each, Measurement)]
    states = {each.collector: each for each in measured[0].collected}
    if states["cupti"].state != "on":
        pytest.skip(states["cupti"].reason)
    assert all(each.captured_ns is not None for each in measured)
    kept = archive.load(run.timeline_path(measured[0].config))
    assert len(kept.rows(Kind.KERNEL)) > 0
    calls, batches = kept.rows(Kind.API), kept.rows(Kind.BATCH)
    assert set(kept.events.thread[calls].tolist()) == set(kept.events.thread[batches].tolist())
    told = {(each.name, each.device) for each in kept.counters.series}
    assert {("utilization", 0), ("power", 0), ("memory used", 0), ("CPU of the server", -1)} <= told
    assert len(kept.devices) == 1, "NVML's device is CUPTI's"
    costs = {each.collector: each for each in run.costs()}
    assert costs.keys() == {"spans", "cupti"}
    assert costs["cupti"].round_count > 1, costs["cupti"].reason
    assert "Collecting by cupti" in ended.stdout
