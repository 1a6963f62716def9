"""The fake libnvidia-ml: compiled once, and asked through the real pynvml by a process of its own.

As a program (``python -m tests.fakes.nvml_library STATE``) it plays scenarios, a JSON line each, and prints what was
read. A scenario is a list of states one after another, of the kind that ``tests.fakes.nvml.FakeNvml`` has.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from analyzer.collect.devices import GpuReading
from analyzer.collect.nvml import Nvml

SOURCE = Path(__file__).with_name("nvml.c")
STEP_NS = 1_000_000_000


def compiled(folder: Path) -> Path | None:
    """The folder with libnvidia-ml.so.1; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wl,-soname,libnvidia-ml.so.1", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True, timeout=120)
    return folder


def state_lines(devices, driver="570.1", init=0) -> str:
    """A state as the library reads it."""
    lines = [f"driver {driver}", f"count {len(devices)}", *([f"init !{init}"] if init else [])]
    for place, device in enumerate(devices):
        lines += _lines(str(place), device)
    return "\n".join(lines) + "\n"


def _lines(head: str, device):
    for key, value in device.items():
        if key == "mig":
            yield f"{head}.mig_count {len(value)}"
            for place, part in enumerate(value):
                yield from _lines(f"{head}.mig{place}", part)
        elif isinstance(value, dict) and "error" in value:
            yield f"{head}.{key} !{value['error']}"
        elif key == "gpm":
            yield f"{head}.gpm 1"
            yield from (f"{head}.gpm{number} {percent}" for number, percent in value.items())
        elif key == "processes":
            yield f"{head}.processes " + " ".join(
                f"{pid}:{-1 if used is None else used}" for pid, used in value.items()
            )
        elif value is not None:
            yield f"{head}.{key} {value}"


def played(library, steps, put) -> dict[str, object]:
    """What an Nvml over ``library`` reads, state by state. ``put`` makes a state the present one."""
    now = [STEP_NS]
    put(steps[0])
    nvml = Nvml(library, lambda: now[0])
    readings = []
    for step in steps:
        put(step)
        now[0] += STEP_NS
        readings.append(nvml.read())
    nvml.close()
    devices = [{"uuid": each.uuid, "name": each.name, "instance": each.instance} for each in nvml.devices]
    return {"devices": devices, "absent": nvml.absent, "readings": msgspec.to_builtins(readings, str_keys=True)}


class OverLibrary:
    """Plays scenarios by the real pynvml over the fake library."""

    def __init__(self, library_folder: Path, state: Path) -> None:
        environment = {**os.environ, "LD_LIBRARY_PATH": str(library_folder), "NVML_FAKE": str(state)}
        command = [sys.executable, "-m", "tests.fakes.nvml_library", str(state)]
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def play(self, steps) -> dict[str, object]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(steps) + "\n")
        self._process.stdin.flush()
        found: dict[str, object] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


def readings_of(found) -> list[tuple[GpuReading, ...]]:
    return msgspec.convert(found["readings"], list[tuple[GpuReading, ...]], strict=False)


def main(state: str) -> None:
    import pynvml

    def put(step):
        Path(state).write_text(state_lines(**step))

    for line in sys.stdin:
        print(json.dumps(played(pynvml, json.loads(line), put)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
