"""Models coming and going: loads them in the order that ensembles need, swaps a reloaded one in, retires the old."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.backends.python_calls import Calls
from analyzer.runtime.links import refuse_links_out
from analyzer.runtime.loading import LoadedModel, Prepared, build, composing_models, prepare
from analyzer.runtime.overlay import Overlay, Override, is_model_name, write_overlay
from analyzer.runtime.rate_limiter import RateLimiter
from analyzer.runtime.repository_diff import callers
from analyzer.runtime.request import ErrorKind, InferError
from analyzer.runtime.resizing import differs_in_count_only, resize
from analyzer.runtime.response_cache import ResponseCache
from analyzer.runtime.servable import Servable
from analyzer.runtime.spans import Spans
from analyzer.runtime.summaries import Summaries

log = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 5.0
"""What models that have answered everything get to finish with."""
_GIVE_UP_S = 0.1
"""The least for anything: turns of the loop, in which processes are ended."""
"""For freeing instances after the drain; a thread stuck in its model is then left to the end of the process."""


_NO_OVERRIDE = Override()


class Residents:
    """The loaded models of a repository folder. ``routes`` finds a servable by (model, version), "" is the latest.

    ``reasons`` says why a model that should be there is not, and ``failed`` which versions of it were tried.
    ``loading`` names those on their way, ``unloaded`` has the versions of those that were served before. Links in the
    repository may lead to places in it and in ``link_targets``. ``summarizes``: their statistics keep quantiles, too.
    A model that goes has ``unload_limit_s`` to answer what it has (None: all the time that it wants).
    """

    def __init__(
        self,
        repository: Path,
        loop: asyncio.AbstractEventLoop,
        *,
        cache: ResponseCache | None = None,
        limiter: RateLimiter | None = None,
        spans: Spans | None = None,
        link_targets: Sequence[Path] = (),
        summarizes: bool = False,
        unload_limit_s: float | None = None,
    ) -> None:
        self._unload_limit_s = unload_limit_s
        self._cache = cache
        self._summarizes = summarizes
        self._homes = repository, *link_targets
        self._spans = spans
        self._limiter = limiter
        self.script_calls = Calls(self, loop)
        self.models: dict[str, LoadedModel] = {}
        self.routes: dict[tuple[str, str], Servable] = {}
        self.reasons: dict[str, str] = {}
        self.failed: dict[str, tuple[int, ...]] = {}
        self.loading: set[str] = set()
        self.unloaded: dict[str, tuple[int, ...]] = {}
        self._calls: dict[str, set[str]] = {}  # by ensemble; of those that failed to load, too
        self._repository = repository
        self._loop = loop
        self._changing = asyncio.Lock()
        self._retiring: dict[asyncio.Task[None], str] = {}

    def names(self) -> list[str]:
        """The model folders of the repository, whether loaded or not. Raises OSError."""
        return sorted(
            path.name for path in self._repository.iterdir() if path.is_dir() and not path.name.startswith(".")
        )

    def served(self) -> Iterator[tuple[str, int, Servable]]:
        for name in sorted(self.models):
            for number, servable in self.models[name].versions.items():
                yield name, number, servable

    def find(self, model: str, version: str) -> Servable:
        """Raises InferError."""
        servable = self.routes.get((model, version))
        if servable is None:
            raise self.why_not_served(model, version)
        return servable

    def why_not_served(self, model: str, version: str) -> InferError:
        """Triton's words for a model that can't be used."""
        if model in self.models:
            text = f"Request for unknown model: '{model}' version {version} is not found"
            return InferError(ErrorKind.NOT_FOUND, text)
        if model in self.loading:
            return InferError(ErrorKind.UNAVAILABLE, f"'{model}' is not at ready state")
        if model in self.reasons or model in self.unloaded or model in self._retiring.values():
            text = f"Request for unknown model: '{model}' has no available versions"
            return InferError(ErrorKind.NOT_FOUND, text)
        return InferError(ErrorKind.NOT_FOUND, f"Request for unknown model: '{model}' is not found")

    def state(self, model: str) -> str:
        """LOADING, UNLOADING, UNAVAILABLE or empty, for a model that is not loaded."""
        if model in self.loading:
            return "LOADING"
        if model in self._retiring.values():
            return "UNLOADING"
        return "UNAVAILABLE" if model in self.reasons else ""

    async def load(self, names: Sequence[str], override: Override = _NO_OVERRIDE) -> dict[str, str]:
        """Loads these models again, and what they call if it isn't loaded. Gives the reasons of those that failed."""
        async with self._changing:
            failures: dict[str, str] = {}
            prepared: dict[str, Prepared] = {}
            try:
                prepared = await self._prepare_all(names, override, failures)
                for group in _in_order(prepared, failures):
                    await asyncio.gather(*(self._start(prepared[name], failures) for name in group))
            finally:
                self.loading.clear()
            for name, reason in failures.items():
                overlay = prepared[name].overlay if name in prepared else None
                if overlay is not None:
                    overlay.remove()
                log.error("model '%s' was not loaded: %s", name, reason)
                if name not in self.models:
                    self.reasons[name] = reason
                    self.failed[name] = (
                        tuple(files.version for files in prepared[name].versions) if name in prepared else ()
                    )
            return failures

    async def unload(self, model: str, *, wait: bool = True) -> None:
        """Returns when its requests in flight are answered and it is freed, or before (``wait=False``)."""
        async with self._changing:
            self.reasons.pop(model, None)
            for called in self._calls.pop(model, ()):
                if not any(called in names for names in self._calls.values()):
                    self.reasons.pop(called, None)  # nobody else misses it
            old = self.models.pop(model, None)
            self._route(model, None)
            if old is not None and old.overlay is None:
                self.unloaded[model] = tuple(old.versions)
        if old is not None:
            retiring = self._retire(model, old)
            if wait:
                await asyncio.shield(retiring)

    def called_by(self, model: str) -> set[str]:
        """What an ensemble calls, and what that calls, and so on."""
        found: set[str] = set()
        wanted = {model}
        while wanted:
            wanted = {name for caller in wanted for name in self._calls.get(caller, ())} - found
            found |= wanted
        return found & self.models.keys()

    def callers_of(self, models: Iterable[str]) -> set[str]:
        """The ensembles, loaded or not, that call one of these models, directly or through others."""
        return callers(self._calls, models)

    async def close(self, drain_timeout_s: float) -> list[str]:
        """The models that did not answer all their requests in time: they are given up at once."""
        drains = {name: asyncio.ensure_future(loaded.drain()) for name, loaded in self.models.items()}
        retiring = dict(self._retiring)
        await _wait([*drains.values(), *retiring], max(_GIVE_UP_S, drain_timeout_s))
        late = [name for name, drain in drains.items() if not drain.done() or drain.cancelled()]
        closes = {name: asyncio.ensure_future(loaded.close()) for name, loaded in self.models.items()}
        self.models.clear()
        self.routes.clear()
        await _wait([closes[name] for name in late], _GIVE_UP_S)
        await _wait([*closes.values(), *self._retiring], _CLOSE_TIMEOUT_S)
        return sorted({*late, *(name for task, name in retiring.items() if task.cancelled() or not task.done())})

    async def _prepare_all(
        self, names: Iterable[str], override: Override, failures: dict[str, str]
    ) -> dict[str, Prepared]:
        """The models named, and those that their ensembles call, and so on."""
        prepared: dict[str, Prepared] = {}
        wanted = list(dict.fromkeys(names))
        while wanted:
            self.loading.update(wanted)
            found = await asyncio.gather(*(self._prepare(name, override, failures) for name in wanted))
            override = _NO_OVERRIDE  # it is meant for the model named, not for those it calls
            prepared.update({item.config.name: item for item in found if item is not None})
            self._calls.update({name: composing_models(item.config) for name, item in prepared.items()})
            called = {name for item in found if item is not None for name in composing_models(item.config)}
            wanted = sorted(called - self.models.keys() - prepared.keys() - failures.keys())
        return prepared

    async def _prepare(self, name: str, override: Override, failures: dict[str, str]) -> Prepared | None:
        overlay: Overlay | None = None
        try:
            if override.files and is_model_name(name):
                overlay = await asyncio.to_thread(write_overlay, name, override.files)
                prepared = await asyncio.to_thread(prepare, overlay.model_dir, override.config_json)
                return replace(prepared, overlay=overlay)
            # A name may come from a client: only one that the folder lists leads to a path.
            if name not in self.names():
                raise ModelError("there is no such folder in the model repository")
            await asyncio.to_thread(refuse_links_out, self._repository, name, self._homes)
            return await asyncio.to_thread(prepare, self._repository / name, override.config_json)
        except (ModelError, OSError) as error:
            failures[name] = str(error)
        except Exception as error:  # a bug, but one model's: the others are loaded all the same
            log.exception("model '%s' could not be read", name)
            failures[name] = f"{type(error).__name__}: {error}"
        if overlay is not None:
            overlay.remove()
        return None

    async def _start(self, prepared: Prepared, failures: dict[str, str]) -> None:
        name = prepared.config.name
        old = self.models.get(name)
        try:
            if old is not None and self._limiter is None and differs_in_count_only(old, prepared):
                self.models[name] = await resize(old, prepared)
                return
            loaded = await build(
                prepared, self.find, self._loop, self._cache, self._limiter, calls=self.script_calls, spans=self._spans
            )
        except ModelError as error:
            failures[name] = str(error)
            return
        except Exception as error:  # likewise
            log.exception("model '%s' could not be loaded", name)
            failures[name] = f"{type(error).__name__}: {error}"
            return
        finally:
            self.loading.discard(name)
        if self._summarizes:
            for servable in loaded.versions.values():
                servable.statistics.summaries = Summaries()
        self.models[name] = loaded
        self._route(name, loaded)
        self.reasons.pop(name, None)
        self.unloaded.pop(name, None)
        if old is not None:
            self._retire(name, old)

    def _route(self, model: str, loaded: LoadedModel | None) -> None:
        """Swaps all routes of a model in one turn of the loop, so that no request meets a gap."""
        for key in [key for key in self.routes if key[0] == model]:
            del self.routes[key]
        if loaded is not None:
            for number, servable in loaded.versions.items():
                self.routes[model, str(number)] = self.routes[model, ""] = servable

    def _retire(self, model: str, old: LoadedModel) -> asyncio.Task[None]:
        task = self._loop.create_task(_drain_and_close(model, old, self._unload_limit_s))
        self._retiring[task] = model
        task.add_done_callback(self._retiring.pop)
        return task


async def _drain_and_close(model: str, old: LoadedModel, limit_s: float | None) -> None:
    drain = asyncio.ensure_future(old.drain())
    await asyncio.wait((drain,), timeout=limit_s)
    if drain.done():
        await old.close()
        return
    log.error("model '%s' did not answer its last requests in %g s; they are given up", model, limit_s)
    drain.cancel()
    await _wait([asyncio.ensure_future(old.close())], _CLOSE_TIMEOUT_S)


async def _wait(futures: Iterable[asyncio.Future[None]], timeout_s: float) -> None:
    """Waits for all of them that end in time; the rest are given up."""
    waiting = list(futures)
    if waiting:
        _, late = await asyncio.wait(waiting, timeout=timeout_s)
        for future in late:
            future.cancel()


def _in_order(prepared: dict[str, Prepared], failures: dict[str, str]) -> Iterator[tuple[str, ...]]:
    """Groups of models that can be started together, those called before those that call them."""
    graph = {name: composing_models(item.config) & prepared.keys() for name, item in prepared.items()}
    while True:
        sorter = TopologicalSorter(graph)
        try:
            sorter.prepare()
            break
        except CycleError as error:
            cycle = error.args[1]
            for name in set(cycle):
                failures[name] = f"the ensembles call each other in a cycle: {' -> '.join(cycle)}"
                graph.pop(name)
            graph = {name: called & graph.keys() for name, called in graph.items()}
    while sorter.is_active():
        group = sorter.get_ready()
        yield group
        sorter.done(*group)
