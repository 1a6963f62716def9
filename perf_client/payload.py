"""What is sent: a pool of distinct requests, batches already assembled, made before the clock starts."""

from dataclasses import dataclass, field
from math import gcd, prod
from pathlib import Path

import numpy as np

from perf_client.errors import data_error, usage_error
from perf_client.input_data import Sample, Tensor, check_shape, load_samples
from perf_client.profile import LoadProfile, Parameter
from perf_client.target import ModelDescription, TensorSpec
from perf_client.tensors import known, random_bytes_elements, random_numbers, zeros

_RANDOM_POOL_BYTES = 16 << 20
_RANDOM_POOL_REQUESTS = 512


@dataclass(frozen=True, slots=True)
class Request:
    """One request, batch dimension included where the model has one.

    ``expected`` are the outputs that its answer is compared with, where the user gave any.
    """

    inputs: dict[str, Tensor]
    parameters: dict[str, Parameter] = field(default_factory=dict)
    expected: dict[str, Tensor] = field(default_factory=dict)


def make_requests(profile: LoadProfile, model: ModelDescription) -> list[Request]:
    """Distinct requests to be sent in turn, over and over. Raises LoadError where profile and model disagree."""
    _check(profile, model)
    match profile.input_data:
        case "random":
            return _random_requests(profile, model)
        case "zero":
            return [Request(_batch([_zero_sample(profile, model)] * profile.batch_size, model), profile.parameters)]
        case path:
            samples = load_samples(Path(path), model, profile.shapes)
            return _batches(samples, profile, model)


def _check(profile: LoadProfile, model: ModelDescription) -> None:
    if model.max_batch_size == 0 and profile.batch_size != 1:
        raise usage_error(f"model {model.name} has no batch dimension; use batch size 1, not {profile.batch_size}")
    if profile.batch_size < 1 or (model.max_batch_size and profile.batch_size > model.max_batch_size):
        raise usage_error(
            f"batch size {profile.batch_size} is not within 1 to {model.max_batch_size} of model {model.name}"
        )
    if model.sequential:
        raise usage_error(f"model {model.name} wants sequences, which are not supported yet")
    if model.decoupled:
        raise usage_error(f"model {model.name} is decoupled, and streamed answers are not supported yet")
    names = {spec.name for spec in model.inputs}
    for name in profile.shapes:
        if name not in names:
            raise usage_error(
                f"--shape {name}: model {model.name} has no such input; it has {', '.join(sorted(names))}"
            )
    for spec in model.inputs:
        if not known(spec.datatype):
            raise data_error(f"input {spec.name} of model {model.name} has the unknown type {spec.datatype!r}")


def _shape(spec: TensorSpec, profile: LoadProfile) -> tuple[int, ...]:
    shape = profile.shapes.get(spec.name, spec.shape)
    check_shape(spec, shape)
    return shape


def _zero_sample(profile: LoadProfile, model: ModelDescription) -> Sample:
    sample = {}
    for spec in model.inputs:
        if not spec.optional:
            shape = _shape(spec, profile)
            sample[spec.name] = Tensor(spec.datatype, shape, zeros(spec.datatype, prod(shape)))
    return sample


def _random_requests(profile: LoadProfile, model: ModelDescription) -> list[Request]:
    """As many different ones as fit in a fixed memory, so that no cache sees the same bytes again soon."""
    rng = np.random.default_rng([profile.seed, len("random data")])
    requests = [_random_request(profile, model, rng)]
    size = sum(len(tensor.data) for tensor in requests[0].inputs.values())
    count = max(2, min(_RANDOM_POOL_REQUESTS, _RANDOM_POOL_BYTES // max(size, 1)))
    requests += [_random_request(profile, model, rng) for _ in range(count - 1)]
    return requests


def _random_request(profile: LoadProfile, model: ModelDescription, rng: np.random.Generator) -> Request:
    inputs: dict[str, Tensor] = {}
    for spec in model.inputs:
        if spec.optional:
            continue
        shape = _shape(spec, profile)
        if model.max_batch_size:
            shape = (profile.batch_size, *shape)
        count = prod(shape)
        if spec.datatype == "BYTES":
            data = random_bytes_elements(count, profile.string_length, rng)
        else:
            data = random_numbers(spec.datatype, count, rng)
        inputs[spec.name] = Tensor(spec.datatype, shape, data)
    return Request(inputs, profile.parameters)


def _batches(samples: list[Sample], profile: LoadProfile, model: ModelDescription) -> list[Request]:
    """Samples in order, around and around, until every combination that arises has been made once."""
    size, total = profile.batch_size, len(samples)
    count = total // gcd(total, size)
    rows = [[samples[(first * size + offset) % total] for offset in range(size)] for first in range(count)]
    return [Request(_batch(row, model), profile.parameters) for row in rows]


def _batch(samples: list[Sample], model: ModelDescription) -> dict[str, Tensor]:
    if not model.max_batch_size:
        return samples[0]
    first = samples[0]
    for sample in samples[1:]:
        if sample.keys() != first.keys() or any(sample[name].shape != first[name].shape for name in first):
            raise data_error(
                f"samples of different shapes can't share a batch of {len(samples)}; use batch size 1 or equal shapes"
            )
    return {
        name: Tensor(tensor.datatype, (len(samples), *tensor.shape), b"".join(sample[name].data for sample in samples))
        for name, tensor in first.items()
    }
