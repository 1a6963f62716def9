"""Bytes of a file to the input of magika's file type model: its start and its end, one integer a byte.

The rules are those of magika's feature extraction, version 2: whitespace is stripped from the start of the first block
and from the end of the last one, what is missing to the full length is padded on the inner side.
"""

from dataclasses import dataclass
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError


class FeatureConfig(msgspec.Struct, frozen=True):
    """The part of the package's ``config.min.json`` that says how the input is made and what the outputs mean."""

    beg_size: int
    mid_size: int
    end_size: int
    use_inputs_at_offsets: bool
    min_file_size_for_dl: int
    padding_token: int
    block_size: int
    target_labels_space: tuple[str, ...]

    @property
    def length(self) -> int:
        return self.beg_size + self.end_size


def parse_feature_config(text: bytes) -> FeatureConfig:
    try:
        config = msgspec.json.decode(text, type=FeatureConfig)
    except msgspec.DecodeError as error:
        raise InputError(f"magika's model configuration can't be read ({error}); reinstall the package") from None
    if config.mid_size or config.use_inputs_at_offsets:
        raise InputError("this release of magika takes features from the middle of a file; install magika 1.0.3")
    return config


@dataclass(frozen=True)
class FileEnds:
    """The first and the last block of a file; they overlap where the file is small."""

    head: bytes
    tail: bytes


def read_ends(stream: BinaryIO, size_bytes: int, block_bytes: int) -> FileEnds:
    length = min(block_bytes, size_bytes)
    stream.seek(0)
    head = stream.read(length)
    stream.seek(size_bytes - length)
    return FileEnds(head, stream.read(length))


def extract_features(ends: FileEnds, config: FeatureConfig) -> NDArray[np.int32] | None:
    """The model's input, or None where too few bytes are left for the model to judge (as the package decides it)."""
    head = ends.head.lstrip()[: config.beg_size]
    stripped = ends.tail.rstrip()
    tail = stripped[max(0, len(stripped) - config.end_size) :]
    if len(ends.head) < config.min_file_size_for_dl or len(head) < config.min_file_size_for_dl:
        return None
    features = np.full(config.length, config.padding_token, np.int32)
    features[: len(head)] = np.frombuffer(head, np.uint8)
    features[config.length - len(tail) :] = np.frombuffer(tail, np.uint8)
    return features
