"""What runs of this user share on one machine of a cluster: unpacked models, claims on cores, scratch folders.

Claims are file locks: the kernel drops them with the process that holds them, however it ends.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from analyzer.cores import CoreSplit
from analyzer.errors import InputError


class NodeHome:
    """A folder under the system's temporary folder, of this user alone."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or Path(tempfile.gettempdir()) / f"analyzer-node-{os.getuid()}"
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.stat().st_uid != os.getuid():
            raise InputError(f"{self.path} belongs to another user; remove it on that machine")
        self.parcels = self._made("parcels")
        self.work = self._made("work")
        self._cores = self._made("cores")

    def _made(self, name: str) -> Path:
        made = self.path / name
        made.mkdir(exist_ok=True)
        return made

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A folder for as long as the context lasts."""
        with _held(self.work / f"{name}.lock"):
            folder = self.work / name
            folder.mkdir()
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def parcel_in_use(self, digest: str) -> Iterator[None]:
        """Keeps ``sweep`` from removing an unpacked parcel."""
        with _held(self.parcels / f"{digest}.lock", fcntl.LOCK_SH):
            yield

    @contextmanager
    def cores(self, server_count: int, client_count: int, allowed: Sequence[int]) -> Iterator[CoreSplit]:
        """Cores that nobody else claims here meanwhile; an empty split where there are not enough."""
        with ExitStack() as stack:
            with _held(self._cores / "claim.lock"):
                claimed = self._claim(stack, server_count + client_count, allowed)
            yield CoreSplit(tuple(claimed[:server_count]), tuple(claimed[server_count:]))

    def _claim(self, stack: ExitStack, count: int, allowed: Sequence[int]) -> list[int]:
        claimed: list[int] = []
        with ExitStack() as held:
            for core in allowed:
                if len(claimed) < count and self._claim_one(held, core):
                    claimed.append(core)
            if len(claimed) < count:
                return []
            stack.push(held.pop_all())
        return claimed

    def _claim_one(self, stack: ExitStack, core: int) -> bool:
        try:
            stack.enter_context(_held(self._cores / f"{core}.lock", fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def sweep(self, scratches: Sequence[str], digests: Sequence[str]) -> None:
        """Remove what a run left: scratch folders once their processes are gone, parcels unless others use them."""
        for name in scratches:
            with _held(self.work / f"{name}.lock"):
                shutil.rmtree(self.work / name, ignore_errors=True)
            (self.work / f"{name}.lock").unlink(missing_ok=True)
        for digest in digests:
            try:
                with _held(self.parcels / f"{digest}.lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(self.parcels / digest, ignore_errors=True)
            except BlockingIOError:
                continue


def cores_by_sibling(allowed: Sequence[int], system: Path = Path("/sys/devices/system/cpu")) -> list[int]:
    """Core numbers with those of one physical core side by side, so that a split rarely runs through one."""

    def siblings(core: int) -> tuple[int, int]:
        try:
            text = (system / f"cpu{core}" / "topology" / "thread_siblings_list").read_text()
            return int(text.replace("-", ",").split(",")[0]), core
        except (OSError, ValueError):
            return core, core

    return sorted(allowed, key=siblings)


@contextmanager
def _held(path: Path, mode: int = fcntl.LOCK_EX) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, mode)
        yield
