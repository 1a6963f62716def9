"""Windows of the profiler that PyTorch brings."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic_ns
from typing import Any

from analyzer.runtime.capture import Availability, CaptureStats


class TorchTracer:
    """PyTorch's profiler over the server, where PyTorch models are loaded. A Tracer.

    Everything happens in one thread: the profiler must be stopped in the thread that started it.
    """

    name = "torch"

    def __init__(self, modules: Callable[[], Any] = lambda: sys.modules) -> None:
        self._modules = modules
        self._thread = ThreadPoolExecutor(1, "torch-profiler")
        self._profile: Any = None

    def probe(self) -> Availability:
        if "torch" not in self._modules():
            return Availability("absent", "no PyTorch model is loaded, so there is nothing for its profiler to see")
        return Availability("on")

    def start(self) -> Availability:
        found = self.probe()
        return found if found.state != "on" else self._thread.submit(self._start).result()

    def stop(self, folder: Path) -> CaptureStats:
        return self._thread.submit(self._stop, folder).result()

    def _start(self) -> Availability:
        from torch import profiler

        try:
            config = vars(profiler)["_ExperimentalConfig"](profile_all_threads=True)  # private: not in every release
        except (KeyError, TypeError):
            config = None  # then only device work and calls are seen, no operators of other threads
        try:
            self._profile = profiler.profile(experimental_config=config)
            self._profile.start()
        except RuntimeError as error:
            return Availability("busy", f"PyTorch's profiler can't be started: {error}")
        return Availability("on")

    def _stop(self, folder: Path) -> CaptureStats:
        begun_ns = monotonic_ns()
        self._profile.stop()
        path = folder / "torch.json"
        self._profile.export_chrome_trace(str(path))
        count = len(self._profile.events() or ())
        self._profile = None
        return CaptureStats(count, 0, monotonic_ns() - begun_ns, (path.name,))
