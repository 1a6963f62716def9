"""What is sent: a pool of distinct requests, batches already assembled, made before the clock starts."""

from dataclasses import dataclass, field
from math import ceil, gcd, prod
from pathlib import Path

import numpy as np

from perf_client.errors import LoadError, data_error, usage_error
from perf_client.fitting import check_shape
from perf_client.headers import check_headers
from perf_client.input_data import load_samples
from perf_client.profile import LoadProfile, Parameter
from perf_client.sample import Sample
from perf_client.target import ModelDescription
from perf_client.tensors import Shape, Tensor, encode_bytes, known, random_tensors, zeros

_RANDOM_POOL_BYTES = 16 << 20
_RANDOM_POOL_REQUESTS = 2048
_FILE_POOL_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """One request, batch dimension included where the model has one.

    ``expected`` are the outputs that its answers are compared with, in order, where the user gave any; ``stream`` and
    ``timestamp_ms`` are those of its first sample.
    """

    inputs: dict[str, Tensor]
    parameters: dict[str, Parameter] = field(default_factory=dict)
    expected: tuple[dict[str, Tensor], ...] = ()
    stream: int = 0
    timestamp_ms: float | None = None


def make_requests(profile: LoadProfile, model: ModelDescription) -> list[Request]:
    """Distinct requests to be sent in turn, over and over. Raises LoadError where profile and model disagree."""
    _check(profile, model)
    match profile.input_data:
        case "random":
            return _random_requests(profile, model)
        case "zero":
            return [_zero_request(profile, model)]
        case path:
            paths = [Path(each) for each in (path, *profile.more_input_data)]
            return _batches(load_samples(paths, model, profile.shapes), profile, model)


def _check(profile: LoadProfile, model: ModelDescription) -> None:
    if model.max_batch_size == 0 and profile.batch_size != 1:
        raise usage_error(f"model {model.name} has no batch dimension; use batch size 1, not {profile.batch_size}")
    if profile.batch_size < 1 or (model.max_batch_size and profile.batch_size > model.max_batch_size):
        raise usage_error(
            f"batch size {profile.batch_size} is not within 1 to {model.max_batch_size} of model {model.name}"
        )
    if model.decoupled and not profile.streaming:
        raise usage_error(f"model {model.name} is decoupled: it answers over streams; use -i grpc --streaming")
    names = {spec.name for spec in model.inputs}
    for name in profile.shapes:
        if name not in names:
            raise usage_error(
                f"--shape {name}: model {model.name} has no such input; it has {', '.join(sorted(names))}"
            )
    for spec in model.inputs:
        if not known(spec.datatype):
            raise data_error(f"input {spec.name} of model {model.name} has the unknown type {spec.datatype!r}")
    _check_asked(profile, model)


def _check_asked(profile: LoadProfile, model: ModelDescription) -> None:
    check_headers(profile.headers, profile.protocol)
    if profile.protocol == "grpc" and "json" in (profile.input_format, profile.output_format):
        raise usage_error("tensors travel as JSON over HTTP only; use -i http or the binary format")
    outputs = {spec.name for spec in model.outputs}
    for name in profile.outputs:
        if outputs and name not in outputs:
            raise usage_error(
                f"--output {name}: model {model.name} has no such output; it has {', '.join(sorted(outputs))}"
            )


def _shapes(profile: LoadProfile, model: ModelDescription) -> dict[str, Shape]:
    """Of the inputs that data has to be made up for, batch dimension included."""
    shapes = {}
    for spec in model.inputs:
        if not spec.optional or spec.name in profile.shapes:
            shape = profile.shapes.get(spec.name, spec.shape)
            try:
                check_shape(spec, shape)
            except LoadError as error:
                given = f"--shape {spec.name}:{','.join(map(str, shape))}: " if spec.name in profile.shapes else ""
                raise data_error(f"{given}{error}") from None
            shapes[spec.name] = (profile.batch_size, *shape) if model.max_batch_size else shape
    return shapes


def _zero_request(profile: LoadProfile, model: ModelDescription) -> Request:
    datatypes = {spec.name: spec.datatype for spec in model.inputs}
    inputs = {}
    for name, shape in _shapes(profile, model).items():
        text = profile.string_data if datatypes[name] == "BYTES" else None
        data = zeros(datatypes[name], prod(shape)) if text is None else encode_bytes([text.encode()] * prod(shape))
        inputs[name] = Tensor(datatypes[name], shape, data)
    return Request(inputs, profile.parameters)


def _random_requests(profile: LoadProfile, model: ModelDescription) -> list[Request]:
    """As many different ones as fit in a fixed memory, so that no cache sees the same bytes again soon."""
    rng = np.random.default_rng([profile.seed, len("random data")])
    shapes = _shapes(profile, model)
    size = sum(len(tensor.data) for tensor in _zero_request(profile, model).inputs.values())
    size += sum(profile.string_length * prod(shapes[s.name]) for s in model.inputs if s.datatype == "BYTES")
    count = max(2, min(_RANDOM_POOL_REQUESTS, _RANDOM_POOL_BYTES // max(size, 1)))
    pools = {}
    for spec in model.inputs:
        if (shape := shapes.get(spec.name)) is None:
            continue
        if spec.datatype == "BYTES" and profile.string_data is not None:
            data = [encode_bytes([profile.string_data.encode()] * prod(shape))] * count
        else:
            data = random_tensors(spec.datatype, shape, count, profile.string_length, rng)
        pools[spec.name] = [Tensor(spec.datatype, shape, each) for each in data]
    return [
        Request({name: pool[number] for name, pool in pools.items()}, profile.parameters) for number in range(count)
    ]


def _batches(samples: list[Sample], profile: LoadProfile, model: ModelDescription) -> list[Request]:
    """Samples in order, around and around, until every combination that arises has been made once.

    With an odd number of samples that would be ``batch_size`` times the data; where that is too much memory it is
    only until every sample has been in a batch.
    """
    if profile.outputs:
        for name in _expected_names(samples) - set(profile.outputs):
            raise usage_error(f"the validation data holds output {name}, which is not asked for; add --output {name}")
    size, total = profile.batch_size, len(samples)
    count = total // gcd(total, size)
    if count * size * _sample_bytes(samples[0]) > _FILE_POOL_BYTES:
        count = ceil(total / size)
    rows = [[samples[(first * size + offset) % total] for offset in range(size)] for first in range(count)]
    return [_batch(row, profile, model) for row in rows]


def _batch(samples: list[Sample], profile: LoadProfile, model: ModelDescription) -> Request:
    first = samples[0]
    if any(_form(sample) != _form(first) for sample in samples):
        raise data_error(
            f"samples of different inputs, shapes or parameters can't share a batch of {len(samples)}; use batch size 1"
        )
    batched = model.max_batch_size > 0
    return Request(
        inputs=_joined([sample.inputs for sample in samples]) if batched else first.inputs,
        parameters=profile.parameters | first.parameters,
        expected=tuple(_joined(list(rows)) for rows in zip(*(sample.expected for sample in samples)))
        if batched
        else first.expected,
        stream=first.stream,
        timestamp_ms=first.timestamp_ms,
    )


def _expected_names(samples: list[Sample]) -> set[str]:
    return {name for sample in samples for outputs in sample.expected for name in outputs}


def _sample_bytes(sample: Sample) -> int:
    return sum(len(tensor.data) for tensor in sample.inputs.values())


def _form(sample: Sample) -> object:
    return (
        {name: tensor.shape for name, tensor in sample.inputs.items()},
        [{name: tensor.shape for name, tensor in outputs.items()} for outputs in sample.expected],
        sample.parameters,
    )


def _joined(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {
        name: Tensor(tensor.datatype, (len(rows), *tensor.shape), b"".join(row[name].data for row in rows))
        for name, tensor in rows[0].items()
    }
