"""Nsight Systems around a server: how it is started, what is made of its reports, and how a wrapped server ends."""

import os
import subprocess
import sys
from pathlib import Path

from analyzer import child
from analyzer.collect.nsight import Nsight
from analyzer.timeline import import_any
from analyzer.timeline.kinds import Kind
from tests.fakes import nsight_capture

# Sessions as Nsight Systems keeps them: launched, collecting between start and stop, a report written at stop.
FAKE = """#!/bin/sh
state="$(dirname "$0")/state"
for word in "$@"; do case "$word" in
  --session=*|--session-new=*) session="${word#*=}";; --output=*) out="${word#--output=}";; *.nsys-rep) in="$word";;
esac; done
case "$1" in
  launch) echo "$session Launched" > "$state";;
  start) grep -q "$session Launched" "$state" || { echo "no session $session" >&2; exit 1; }
    echo "$session Collection" > "$state"; echo "$out" > "$state.out";;
  stop) echo "$session Launched" > "$state"; cp "$(dirname "$0")/recorded" "$(cat "$state.out")";;
  sessions) echo "ID TIME STATE LAUNCH NAME"; cat "$state";;
  export) [ -s "$in" ] || exit 1; cp "$in" "$out";;
esac
"""


def fake_nsys(tmp_path: Path) -> str:
    tables = {"StringIds": nsight_capture.strings("kernel", "launch"), **nsight_capture.version("3.20")}
    tables["CUPTI_ACTIVITY_KIND_KERNEL"] = [nsight_capture.kernel(10, 20)]
    nsight_capture.write(tmp_path / "recorded", tables)
    path = tmp_path / "nsys"
    path.write_text(FAKE)
    path.chmod(0o755)
    return str(path)


def captures(tmp_path: Path) -> Path:
    (tmp_path / "captures-1").mkdir()
    return tmp_path / "captures-1"


def test_the_server_is_launched_in_a_session_of_its_own(tmp_path):
    prefix = Nsight(fake_nsys(tmp_path), captures(tmp_path)).prefix()
    assert prefix[:3] == [str(tmp_path / "nsys"), "launch", "--session-new=analyzer-captures-1"]


def test_where_it_is_missing_the_server_runs_without_it(tmp_path):
    nsight = Nsight(str(tmp_path / "missing"), captures(tmp_path))
    assert nsight.prefix() == []
    assert (nsight.start().state, "--nsys PATH" in nsight.start().reason) == ("absent", True)
    assert nsight.stop() == ""
    assert nsight.export() is None


def test_each_window_gives_its_own_report_once(tmp_path):
    nsight = Nsight(fake_nsys(tmp_path), captures(tmp_path))
    subprocess.run([*nsight.prefix(), "true"], check=True)
    found = []
    for _ in range(2):
        assert nsight.start().state == "on"
        assert nsight.stop() == ""
        export = nsight.export()
        assert export is not None
        found.append(export)
        assert nsight.export() is None
    assert len(set(found)) == 2
    assert [len(import_any.read(export).rows(Kind.KERNEL)) for export in found] == [1, 1]


def test_a_session_that_is_gone_is_told_in_its_own_words(tmp_path):
    nsight = Nsight(fake_nsys(tmp_path), captures(tmp_path))
    (tmp_path / "state").write_text("")
    found = nsight.start()
    assert found.state == "absent"
    assert found.reason == "Nsight Systems did not begin to collect: no session analyzer-captures-1"
    assert (nsight.stop(), nsight.export()) == ("", None)


def test_a_window_that_never_begins_is_told_and_is_ended_all_the_same(tmp_path):
    command = Path(fake_nsys(tmp_path))
    command.write_text(FAKE.replace('echo "$session Collection"', 'echo "$session Launched"'))
    nsight = Nsight(str(command), captures(tmp_path), begin_timeout_s=0.0)
    subprocess.run([*nsight.prefix(), "true"], check=True)
    found = nsight.start()
    assert (found.state, found.reason) == ("absent", "Nsight Systems did not collect within 0 s")
    assert nsight.stop() == ""


def test_a_report_that_can_not_be_exported_is_not_taken(tmp_path):
    nsight = Nsight(fake_nsys(tmp_path), captures(tmp_path))
    subprocess.run([*nsight.prefix(), "true"], check=True)
    nsight.start()
    (tmp_path / "recorded").write_bytes(b"")
    nsight.stop()
    assert nsight.export() is None


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
    pid = child.wrapped_pid(process, "waits")
    assert pid != process.pid
    assert Path(f"/proc/{pid}/cmdline").read_bytes().startswith(sys.executable.encode())
    child.stop_wrapped(process, "waits", 30.0)
    assert process.returncode == 0
