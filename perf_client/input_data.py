"""Input data that the user gives, JSON files or folders of raw files, to checked samples."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from perf_client.errors import LoadError, data_error
from perf_client.fitting import fit
from perf_client.json_data import json_samples
from perf_client.sample import Sample
from perf_client.target import ModelDescription
from perf_client.tensors import Shape, Tensor, encode_bytes


def load_samples(paths: Iterable[Path], model: ModelDescription, shapes: Mapping[str, Shape]) -> list[Sample]:
    """Read JSON files and folders, one after the other. Raises LoadError where something is missing or doesn't fit."""
    samples: list[Sample] = []
    for path in paths:
        first = samples[-1].stream + 1 if samples else 0
        samples += [replace(sample, stream=first + sample.stream) for sample in _load(path, model, shapes)]
    return samples


def _load(path: Path, model: ModelDescription, shapes: Mapping[str, Shape]) -> list[Sample]:
    try:
        if path.is_dir():
            return [_folder_sample(path, model, shapes)]
        return json_samples(path.read_bytes(), model, shapes)
    except OSError as error:
        raise data_error(
            f"input data {path} can't be read: {error.strerror}; give an existing file or folder"
        ) from None
    except LoadError as error:
        raise data_error(f"input data {path}: {error}") from None


def _folder_sample(path: Path, model: ModelDescription, shapes: Mapping[str, Shape]) -> Sample:
    """One file an input, named like it: raw bytes, or for BYTES text with an element a line."""
    inputs: dict[str, Tensor] = {}
    for spec in model.inputs:
        file = path / spec.name
        if not file.is_file():
            if spec.optional:
                continue
            raise data_error(f"the folder lacks a file named {spec.name}, an input of model {model.name}")
        data = file.read_bytes()
        if spec.datatype == "BYTES":
            data = encode_bytes(data.splitlines())
        try:
            inputs[spec.name] = fit(data, spec, shapes.get(spec.name))
        except LoadError as error:
            raise data_error(f"file {spec.name}: {error}") from None
    return Sample(inputs)
