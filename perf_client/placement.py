"""Where the tensors of each request lie in memory shared with the server: two regions, one in, one out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from perf_client.payload import Request
from perf_client.profile import LoadProfile
from perf_client.target import VARIABLE, ModelDescription
from perf_client.tensors import SIZES, Tensor

if TYPE_CHECKING:
    from perf_client.output_slot import OutputSlot

ALIGNMENT_BYTES = 64

OUTPUT_LIMIT_BYTES = 256 << 20
"""Above it requests take turns with the places of their outputs."""


@dataclass(frozen=True, slots=True)
class Place:
    region: str
    offset: int
    byte_size: int

    @property
    def parameters(self) -> dict[str, str | int]:
        """As the shared-memory extensions of KServe v2 name them on an input or output."""
        return {
            "shared_memory_region": self.region,
            "shared_memory_offset": self.offset,
            "shared_memory_byte_size": self.byte_size,
        }


@dataclass(frozen=True, slots=True)
class Placement:
    """The places of one request's tensors, by name. ``slot`` reads its outputs, where they are to be compared."""

    inputs: dict[str, Place]
    outputs: dict[str, Place]
    slot: "OutputSlot | None" = None


@dataclass(frozen=True, slots=True)
class Layout:
    """``contents`` are the tensors of the region for inputs with their offsets; ``placements`` has one a request.

    ``turns`` is how many requests have places for their outputs that are their own.
    """

    input_bytes: int
    output_bytes: int
    turns: int
    contents: tuple[tuple[int, Tensor], ...]
    placements: tuple[Placement, ...]


def output_sizes(profile: LoadProfile, model: ModelDescription) -> dict[str, int]:
    """Bytes that each wanted output may take: what its shape says, else what the user allows it, times the batch."""
    wanted = [spec for spec in model.outputs if not profile.outputs or spec.name in profile.outputs]
    sizes = {}
    for spec in wanted:
        known = spec.datatype in SIZES and VARIABLE not in spec.shape
        one = prod(spec.shape) * SIZES[spec.datatype] if known else profile.output_shared_memory_bytes
        sizes[spec.name] = one * profile.batch_size
    return sizes


def lay_out(requests: Sequence[Request], outputs: Mapping[str, int], region_in: str, region_out: str) -> Layout:
    """Every request has places of its own, so that none writes over what another one still reads."""
    contents: list[tuple[int, Tensor]] = []
    places_in: list[dict[str, Place]] = []
    end = 0
    for request in requests:
        places = {}
        for name, tensor in request.inputs.items():
            places[name] = Place(region_in, end, len(tensor.data))
            contents.append((end, tensor))
            end = _aligned(end + len(tensor.data))
        places_in.append(places)
    turn_bytes = sum(_aligned(size) for size in outputs.values())
    turns = min(len(requests), most_turns(outputs))
    placements = [
        Placement(places, _output_places(outputs, region_out, (number % turns) * turn_bytes))
        for number, places in enumerate(places_in)
    ]
    return Layout(end, turns * turn_bytes, turns, tuple(contents), tuple(placements))


def most_turns(outputs: Mapping[str, int]) -> int:
    """How many requests' outputs of these sizes have room beside each other."""
    return max(1, OUTPUT_LIMIT_BYTES // max(sum(_aligned(size) for size in outputs.values()), 1))


def _output_places(outputs: Mapping[str, int], region: str, start: int) -> dict[str, Place]:
    places = {}
    for name, size in outputs.items():
        places[name] = Place(region, start, size)
        start += _aligned(size)
    return places


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
