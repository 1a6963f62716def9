"""GPU figures of a server that runs elsewhere, from the metrics page that Triton has. What it lacks is not measured."""

import re
from collections.abc import Callable
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from analyzer.collect.devices import Device, GpuReading

_SAMPLE = re.compile(r'^(nv_\w+)\{[^}]*gpu_uuid="([^"]+)"[^}]*\}\s+(\S+)', re.MULTILINE)
_TIMEOUT_S = 2.0


class MetricsPage:
    """The devices are those of the first look. Without a URL, or an answer, there are none, and ``absent`` says why."""

    def __init__(self, url: str | None, fetch: Callable[[str], str] | None = None) -> None:
        self._url = url or ""
        self._fetch = fetch or _fetch
        self.driver_version = ""
        self.devices: tuple[Device, ...] = ()
        self.absent = "the server is not on this machine, and --triton-metrics-url names no page of its figures"
        if url:
            try:
                found = _by_device(self._fetch(url))
                self.devices = tuple(Device(uuid, "GPU of the server", None) for uuid in found)
                self.absent = "" if found else f"the metrics at {url} tell of no GPU"
            except (OSError, URLError, ValueError) as error:
                self.absent = f"the metrics at {url} can't be read: {error}"

    def read(self) -> tuple[GpuReading, ...]:
        if not self.devices:
            return ()
        try:
            found = _by_device(self._fetch(self._url))
        except (OSError, URLError, ValueError):
            found = {}
        return tuple(_reading(found.get(device.uuid, {})) for device in self.devices)

    def close(self) -> None:
        """Nothing is held."""


def _by_device(page: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, uuid, value in _SAMPLE.findall(page):
        found.setdefault(uuid, {})[name] = float(value)
    return found


def _reading(figures: dict[str, float]) -> GpuReading:
    memory, total = (figures.get(f"nv_gpu_memory_{kind}_bytes") for kind in ("used", "total"))
    return GpuReading(
        utilization_ratio=figures.get("nv_gpu_utilization"),
        memory_bytes=None if memory is None else int(memory),
        process_memory_bytes=None,
        power_w=figures.get("nv_gpu_power_usage"),
        energy_j=figures.get("nv_energy_consumption"),
        memory_total_bytes=None if total is None else int(total),
    )


def _fetch(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("it is no http address")
    with build_opener(ProxyHandler({})).open(url, timeout=_TIMEOUT_S) as answer:
        text: str = answer.read().decode(errors="replace")
        return text
