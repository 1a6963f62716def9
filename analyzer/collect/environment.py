"""The machine and the versions that a run was measured with: what a reader needs to judge or repeat it."""

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from analyzer.collect.devices import Gpus
from perf_client.version import __version__

_LIBRARIES = ("numpy", "msgspec", "uvloop", "onnxruntime", "onnxruntime-gpu", "torch", "tensorrt", "openvino")


def environment(gpus: Gpus) -> dict[str, Any]:
    """Plain JSON values. Names no user, no host and no environment variable."""
    return {
        "measured_from": datetime.now(UTC).isoformat(timespec="seconds"),
        "analyzer": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_model(_lines(Path("/proc/cpuinfo"))),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": round(os.getloadavg()[0], 2),
        "libraries": dict(_versions(_LIBRARIES)),
        "gpus": [device.name for device in gpus.devices],
        "gpu_driver": gpus.driver_version or None,
        "gpus_unmeasured": gpus.absent,
    }


def _versions(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    for name in names:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _cpu_model(lines: Iterable[str]) -> str:
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
