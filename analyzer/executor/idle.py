"""What the GPUs show of a server that is up and has no model loaded: what every figure with a model stands on."""

from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Any

import msgspec

from analyzer.collect.devices import Gpus
from analyzer.collect.gpu_usage import gpu_usage
from analyzer.collect.sampler import sampling
from analyzer.launchers.server import Launcher


def idle_gpus(launcher: Launcher, gpus: Gpus, watch_s: float, interval_s: float) -> list[dict[str, Any]]:
    """A record a device, as in the environment of a run. A server that is not ours is taken as it was met."""
    if not gpus.devices or watch_s <= 0:
        return []
    with TemporaryDirectory(prefix="analyzer-") as scratch:
        empty = Path(scratch) / "models"
        empty.mkdir()
        with launcher.serve({}, empty, Path(scratch) / "log"), sampling(gpus.read, interval_s) as samples:
            Event().wait(watch_s)
    readings = list(zip(samples.times_ns, samples.readings, strict=True))
    found: list[dict[str, Any]] = msgspec.to_builtins(gpu_usage(gpus.devices, readings, frozenset()))
    return found
