"""Nsight Systems around a server: how it is started, what is made of its reports, and how a wrapped server ends."""

import os
import subprocess
import sys
from pathlib import Path

from analyzer import child
from analyzer.collect.nsight import Nsight
from analyzer.timeline import import_any
from analyzer.timeline.table import Kind
from tests.fakes import nsight_capture

EXPORTER = """#!/bin/sh
[ "$1" = export ] || exit 1
for word in "$@"; do case "$word" in --output=*) out="${word#--output=}";; *.nsys-rep) in="$word";; esac; done
[ -s "$in" ] || exit 1
cp "$in" "$out"
"""


def fake_nsys(tmp_path: Path, script: str = EXPORTER) -> str:
    path = tmp_path / "nsys"
    path.write_text(script)
    path.chmod(0o755)
    return str(path)


def test_the_server_is_started_by_it_and_recorded_in_windows_only(tmp_path):
    prefix = Nsight(fake_nsys(tmp_path), tmp_path).prefix()
    assert prefix[0] == str(tmp_path / "nsys")
    assert prefix[-1] == "--"
    assert {"--capture-range=cudaProfilerApi", "--kill=none", f"--output={tmp_path / 'nsys'}"} <= set(prefix)


def test_where_it_is_missing_the_server_runs_without_it(tmp_path):
    nsight = Nsight(str(tmp_path / "missing"), tmp_path)
    assert nsight.prefix() == []
    assert nsight.reports() == []
    assert (nsight.probe().state, "--nsys PATH" in nsight.probe().reason) == ("absent", True)


def test_each_window_gives_its_own_report_once(tmp_path):
    nsight = Nsight(fake_nsys(tmp_path), tmp_path, timeout_s=0.0)
    tables = {"StringIds": nsight_capture.strings("kernel", "launch"), **nsight_capture.version("3.20")}
    tables["CUPTI_ACTIVITY_KIND_KERNEL"] = [nsight_capture.kernel(10, 20)]
    nsight_capture.write(tmp_path / "nsys.1.nsys-rep", tables)
    (export,) = nsight.reports()
    assert len(import_any.read(export).rows(Kind.KERNEL)) == 1
    assert nsight.reports() == []


def test_a_report_that_is_not_complete_is_not_taken(tmp_path):
    (tmp_path / "nsys.1.nsys-rep").write_bytes(b"")
    assert Nsight(fake_nsys(tmp_path), tmp_path, timeout_s=0.0).reports() == []


def test_a_server_under_a_command_that_ignores_signals_is_ended_itself(tmp_path):
    wrapper = tmp_path / "wrapper"
    wrapper.write_text("#!/bin/sh\ntrap '' TERM\n\"$@\"\nexit 0\n")
    wrapper.chmod(0o755)
    # A server that ends with an orderly word when it is asked to; its name stands on its command line.
    (tmp_path / "waits.py").write_text(
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print('up', flush=True)\n"
        "signal.pause()\n"
    )
    command = [str(wrapper), sys.executable, "-m", "waits"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    child.stop_wrapped(process, "waits", 30.0)
    assert process.returncode == 0
