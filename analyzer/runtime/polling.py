"""Model control mode ``poll``: looks at the repository again and again, and loads and unloads what changed in it."""

import asyncio
import logging
from pathlib import Path

from analyzer.runtime.footprint import footprint
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.repository_diff import Changes, Snapshot, difference

log = logging.getLogger(__name__)


def look(repository: Path) -> Snapshot:
    """The repository as it is now. What vanishes meanwhile is left out. Raises OSError."""
    return {
        path.name: footprint(path)
        for path in sorted(repository.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }


class RepositoryPoller:
    """Compares every look with the one before.

    A change that fails to load is logged, and tried again once more of it changes; what was loaded goes on serving.
    """

    def __init__(self, store: ModelStore, seen: Snapshot) -> None:
        """``seen`` is the repository as it was before its models were loaded: nothing that changes since is missed."""
        self._store = store
        self._seen = seen

    async def run(self, period_s: float) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(period_s)
            try:
                await self.poll()
            except Exception:  # a bug must not stop the polling unnoticed
                log.exception("the model repository could not be brought up to date")

    async def poll(self) -> Changes:
        """One look; returns when what it found is loaded and routed. Unloaded models may still be draining."""
        try:
            found = await asyncio.to_thread(look, self._store.repository)
        except OSError as error:
            log.error("the model repository can't be read, its models go on as they are: %s", error)
            return Changes()
        changes, self._seen = difference(self._seen, found), found
        if changes:
            log.info("model repository: %s", _told(changes))
            await self._store.apply(changes)
        return changes


def _told(changes: Changes) -> str:
    kinds = (("new", changes.added), ("changed", changes.changed), ("gone", changes.removed))
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds if names)
