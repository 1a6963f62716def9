"""A model that only takes time: declared service times, outputs echoed. For tests and for planning without a model.

Parameters of its ``config.pbtxt``: ``service_us`` an execution, ``service_per_item_us`` a row of its batch,
``distribution`` (fixed, exponential, or lognormal with ``sigma``) around that mean with ``seed``, ``is_shared`` (all
instances take turns on one device), ``is_busy`` (burns a core instead of sleeping) and ``fail_every`` (each Nth
execution fails). Without any it is an identity that runs on the event loop.
"""

import hashlib
import math
import random
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import msgspec
import numpy as np

from analyzer.runtime.backends.base import Answers, Execution, Instance, ModelError, ModelFiles, Placement
from analyzer.runtime.dtypes import NUMPY_DTYPES, datatype_of
from analyzer.runtime.request import ErrorKind, InferError, InferRequest

_BLOCK = bytes(16_384)


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The declared service time: the mean of an execution is ``service_us + rows * service_per_item_us``."""

    service_us: float = 0.0
    service_per_item_us: float = 0.0
    distribution: Literal["fixed", "exponential", "lognormal"] = "fixed"
    sigma: float = 0.5
    seed: int = 0
    is_shared: bool = False
    is_busy: bool = False
    fail_every: int = 0

    @property
    def is_instant(self) -> bool:
        return self.service_us == 0 and self.service_per_item_us == 0

    def draw_ns(self, rows: int, rng: random.Random) -> int:
        """One service time; each distribution has the declared mean."""
        mean_ns = 1_000 * (self.service_us + rows * self.service_per_item_us)
        match self.distribution:
            case "fixed":
                return round(mean_ns)
            case "exponential":
                return round(mean_ns * rng.expovariate(1.0))
            case "lognormal":
                # A lognormal variable has the mean exp(mu + sigma^2 / 2).
                return round(mean_ns * rng.lognormvariate(-(self.sigma**2) / 2, self.sigma))


class SimulatedBackend:
    file_names: Sequence[str] = ()

    def __init__(self) -> None:
        self._device = threading.Lock()

    def complete(self, files: ModelFiles) -> None:
        read_service(files)

    def default_kind(self) -> str:
        return "KIND_CPU"

    def runs_inline(self, files: ModelFiles) -> bool:
        return read_service(files).is_instant

    def load(self, files: ModelFiles, placement: Placement) -> Instance:
        service = read_service(files)
        device = self._device if service.is_shared else nullcontext()
        return _SimulatedInstance(files, service, placement.index, device)


class _SimulatedInstance:
    def __init__(self, files: ModelFiles, service: Service, index: int, device: AbstractContextManager[object]) -> None:
        self._name = files.name
        self._service = service
        self._is_instant = service.is_instant
        self._fail_every = service.fail_every
        self._device = device
        self._rng = random.Random(service.seed + index)
        self._executions = 0
        self._outputs = [_Output(files, position) for position in range(len(files.config.output))]

    def execute(self, execution: Execution) -> Answers:
        execution.input_ended()
        if not self._is_instant:
            with self._device:
                self._spend(self._service.draw_ns(sum(execution.rows), self._rng))
        execution.infer_ended()
        self._executions += 1
        if self._fail_every and self._executions % self._fail_every == 0:
            raise InferError(ErrorKind.INTERNAL, f"simulated failure of model '{self._name}'")
        outputs = self._outputs
        answers: Answers = []
        for request, rows in zip(execution.requests, execution.rows):
            answer = {}
            for output in outputs:  # a comprehension would make a function for each request
                answer[output.name] = output.make(request, rows)
            answers.append(answer)
        return answers

    def close(self) -> None:
        """There is nothing to free."""

    def _spend(self, duration_ns: int) -> None:
        if not self._service.is_busy:
            time.sleep(duration_ns / 1e9)
            return
        until_ns = time.monotonic_ns() + duration_ns
        while time.monotonic_ns() < until_ns:
            # Hashing a block this large lets go of the interpreter lock, as native inference does.
            hashlib.sha256(_BLOCK)


class _Output:
    """Echoes the first input of the same type and dims, not echoed by an output before; zeros where there is none."""

    def __init__(self, files: ModelFiles, position: int) -> None:
        config = files.config
        spec = config.output[position]
        self.name: str = spec.name
        self._datatype = datatype_of(spec.data_type)
        self._dims = tuple(max(1, dim) for dim in spec.dims)
        self._batches = config.max_batch_size > 0
        alike = [item.name for item in config.input if _kind(item) == _kind(spec)]
        before = sum(_kind(item) == _kind(spec) for item in config.output[:position])
        self._source = alike[before] if before < len(alike) else None

    def make(self, request: InferRequest, rows: int) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        if self._source is not None and (echo := request.inputs.get(self._source)) is not None:
            return echo
        shape = (rows, *self._dims) if self._batches else self._dims
        if self._datatype == "BYTES":
            return np.full(shape, b"", dtype=np.object_)
        return np.zeros(shape, dtype=NUMPY_DTYPES[self._datatype])


def _kind(tensor: object) -> tuple[int, tuple[int, ...]]:
    return tensor.data_type, tuple(tensor.dims)  # type: ignore[attr-defined]  # ModelInput and ModelOutput alike


def read_service(files: ModelFiles) -> Service:
    """The parameters of a configuration as a Service. Raises ModelError."""
    texts = {key: value.string_value for key, value in files.config.parameters.items()}
    try:
        service = msgspec.convert(texts, Service, strict=False)
    except msgspec.ValidationError as error:
        raise ModelError(f"model '{files.name}' has a wrong parameter for the simulated backend: {error}") from None
    numbers = (service.service_us, service.service_per_item_us, service.sigma, service.fail_every)
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise ModelError(f"model '{files.name}' has a negative or infinite parameter for the simulated backend")
    return service
