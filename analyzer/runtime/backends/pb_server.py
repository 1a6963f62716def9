"""What ``triton_python_backend_utils`` asks of the server: other models, their coming and going, metrics, the log."""

import logging
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any, Protocol

from analyzer.runtime.backends.pb_tensor import TritonModelException

Reply = tuple[Any, bool]
"""An answer, and whether it is the last one."""


class Arriving:
    """The answers of one call to the server, in the order in which they come; for threads and event loops alike."""

    def __init__(self, number: int = 0) -> None:
        """``number`` is the call's."""
        self.number = number
        self._lock = threading.Lock()
        self._arrived: deque[Reply] = deque()
        self.total = 0
        """Of those that came so far."""
        self._awaited: deque[Future[Reply]] = deque()

    def put(self, reply: Reply) -> None:
        """Called by whoever hears of it."""
        with self._lock:
            self.total += 1
            if not self._awaited:
                self._arrived.append(reply)
                return
            future = self._awaited.popleft()
        if future.set_running_or_notify_cancel():
            future.set_result(reply)
        else:
            self.total -= 1
            self.put(reply)

    @property
    def is_empty(self) -> bool:
        """Whether the next one is still to come."""
        return not self._arrived

    def next(self) -> "Future[Reply]":
        """Set with the next answer."""
        future: Future[Reply] = Future()
        with self._lock:
            if not self._arrived:
                self._awaited.append(future)
                return future
            reply = self._arrived.popleft()
        future.set_result(reply)
        return future


class Server(Protocol):
    """The server as the process of a model reaches it. Called from any thread."""

    def call(self, operation: str, *arguments: Any) -> Arriving:
        """One answer, or more where the operation is an inference of a decoupled model."""
        ...

    def tell(self, operation: str, *arguments: Any) -> None:
        """A call that nobody answers."""
        ...

    def abandon(self, number: int) -> None:
        """Nobody takes the answers of this call any more. May be called by a finalizer: takes no lock."""
        ...


class _Connection:
    """One a process: set before a model is imported."""

    server: Server | None = None


def connect(server: Server) -> None:
    _Connection.server = server


def server(purpose: str) -> Server:
    """Raises TritonModelException where the model runs in a thread of the server."""
    if _Connection.server is None:
        raise TritonModelException(
            f"{purpose} needs a process of the model's own; leave the parameter 'execution: thread' out of its "
            "config.pbtxt"
        )
    return _Connection.server


def ask(purpose: str, operation: str, *arguments: Any) -> Any:
    """Calls and waits. Raises TritonModelException with the server's words where it refuses."""
    (given, _) = server(purpose).call(operation, *arguments).next().result()
    succeeded, value = given
    if not succeeded:
        raise TritonModelException(value[1])
    return value


def load_model(model_name: str, config: str = "", files: dict[str, bytes] | None = None) -> None:
    """Returns when the model is loaded. ``files`` are contents by path, as ``file:1/model.py``, and need a config."""
    if files and not config:
        raise TritonModelException("load_model with files needs a config too")
    contents = {path.removeprefix("file:"): bytes(content) for path, content in (files or {}).items()}
    ask("load_model", "load", model_name, config, contents)


def unload_model(model_name: str, unload_dependents: bool = False) -> None:
    """Returns when the model takes no more requests."""
    if unload_dependents:
        raise TritonModelException("unload_model can't unload dependents; unload them by their names")
    ask("unload_model", "unload", model_name)


def is_model_ready(model_name: str, model_version: str = "") -> bool:
    return bool(ask("is_model_ready", "ready", model_name, model_version))


class Logger:
    """Writes to the server's log. Callable on the class, as models do."""

    INFO, WARNING, ERROR, VERBOSE = range(4)

    @classmethod
    def log(cls, message: str, level: int = INFO) -> None:
        """Writes at a level of this class."""
        if _Connection.server is None:
            log_from_model(level, str(message))
        else:
            _Connection.server.tell("log", level, str(message))

    @classmethod
    def log_info(cls, message: str) -> None:
        cls.log(message, cls.INFO)

    @classmethod
    def log_warn(cls, message: str) -> None:
        cls.log(message, cls.WARNING)

    @classmethod
    def log_error(cls, message: str) -> None:
        cls.log(message, cls.ERROR)

    @classmethod
    def log_verbose(cls, message: str) -> None:
        cls.log(message, cls.VERBOSE)


_LEVELS = {Logger.WARNING: logging.WARNING, Logger.ERROR: logging.ERROR, Logger.VERBOSE: logging.DEBUG}
_log = logging.getLogger("analyzer.runtime.model")


def log_from_model(level: int, message: str) -> None:
    """Where what models log ends up, in the server's process."""
    _log.log(_LEVELS.get(level, logging.INFO), "%s", message)


class MetricFamily:
    """A metric of the model's own on the server's metrics page."""

    COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

    def __init__(self, name: str, description: str, kind: str) -> None:
        if kind not in (self.COUNTER, self.GAUGE, self.HISTOGRAM):
            raise TritonModelException(f"metric family '{name}' must be a COUNTER, a GAUGE or a HISTOGRAM")
        self._name = name
        self._kind = kind
        ask("MetricFamily", "metric_family", name, description, kind)

    def Metric(self, labels: dict[str, str] | None = None, buckets: list[float] | None = None) -> "Metric":
        return Metric(self._name, self._kind, labels or {}, buckets)


class Metric:
    """One series of a family; made by ``MetricFamily.Metric``."""

    def __init__(self, family: str, kind: str, labels: dict[str, str], buckets: list[float] | None) -> None:
        if (kind == MetricFamily.HISTOGRAM) != (buckets is not None):
            raise TritonModelException(f"a metric of '{family}' has buckets if and only if it is a histogram")
        self._family = family
        self._kind = kind
        self._labels = tuple(sorted((str(key), str(value)) for key, value in labels.items()))
        ask("Metric", "metric", family, self._labels, tuple(map(float, buckets or ())))

    def increment(self, value: float) -> None:
        self._check(self._kind != MetricFamily.HISTOGRAM, "increment")
        self._check(self._kind != MetricFamily.COUNTER or value >= 0, "increment by less than 0")
        self._change("increment", value)

    def set(self, value: float) -> None:
        self._check(self._kind == MetricFamily.GAUGE, "set")
        self._change("set", value)

    def observe(self, value: float) -> None:
        self._check(self._kind == MetricFamily.HISTOGRAM, "observe")
        self._change("observe", value)

    def value(self) -> float:
        self._check(self._kind != MetricFamily.HISTOGRAM, "value")
        return float(ask("Metric", "metric_value", self._family, self._labels))

    def _check(self, allowed: bool, what: str) -> None:
        if not allowed:
            raise TritonModelException(f"metric '{self._family}' is a {self._kind}, which has no {what}")

    def _change(self, how: str, value: float) -> None:
        server("Metric").tell("metric_change", self._family, self._labels, how, float(value))
