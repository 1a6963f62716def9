"""The tensors of a run in shared memory: made and registered before the load, unregistered and given back after it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from math import ceil

from perf_client.control import Control, Refused
from perf_client.errors import server_error, usage_error
from perf_client.loads import Concurrency
from perf_client.output_slot import OutputSlot
from perf_client.payload import Request
from perf_client.placement import OUTPUT_LIMIT_BYTES, Layout, Placement, lay_out, most_turns, output_sizes
from perf_client.profile import LoadProfile, SharedMemory
from perf_client.regions import Region, SystemRegion, unused_name
from perf_client.target import ModelDescription

_FAREWELL_S = 2.0
"""At most, for a server that may be gone."""

_LIKELY_IN_FLIGHT = 64
"""Of an open loop."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Requests, and where the tensors of each lie; None where they travel with it."""

    requests: Sequence[Request]
    placements: Sequence[Placement | None]


MakeRegion = Callable[[str, int], Region]
"""From a name and a size in bytes. Raises LoadError where there is no such memory."""


def region_maker(kind: SharedMemory) -> MakeRegion:
    if kind == "cuda":
        from perf_client.cuda_memory import CudaDriver, CudaRegion

        device = CudaDriver()
        return lambda name, byte_size: CudaRegion(device, name, byte_size)
    return SystemRegion


def placed(
    control: Control, profile: LoadProfile, model: ModelDescription, requests: Sequence[Request]
) -> AbstractAsyncContextManager[Placed]:
    """Where each request's tensors lie, as long as the context is open."""
    if profile.shared_memory == "none":
        return nullcontext(Placed(requests, [None] * len(requests)))
    return shared_tensors(control, profile, model, requests, region_maker(profile.shared_memory))


@asynccontextmanager
async def shared_tensors(
    control: Control, profile: LoadProfile, model: ModelDescription, requests: Sequence[Request], make: MakeRegion
) -> AsyncIterator[Placed]:
    """Where each request's tensors lie, as long as the context is open.

    Raises LoadError where memory or server can't do that; nothing is left behind then either.
    """
    name = unused_name()
    sizes = output_sizes(profile, model)
    if not sizes:
        raise usage_error(f"model {model.name} doesn't name its outputs; leave out --shared-memory")
    checked = any(request.expected for request in requests)
    requests = _spread(requests, most_turns(sizes), profile) if checked else requests
    layout = lay_out(requests, sizes, f"{name}_in", f"{name}_out")
    if checked:
        _check_readable(requests, layout)
    regions: list[Region] = []
    try:
        for region_name, byte_size in ((f"{name}_in", layout.input_bytes), (f"{name}_out", layout.output_bytes)):
            regions.append(make(region_name, max(byte_size, 1)))
        for offset, tensor in layout.contents:
            regions[0].write(offset, tensor.data)
        for region in regions:
            await _register(control, region)
        placements = layout.placements
        if checked:
            placements = tuple(_read_back(each, request, regions[1]) for each, request in zip(placements, requests))
        yield Placed(requests, placements)
    finally:
        await _give_back(control, regions)


def _spread(requests: Sequence[Request], most: int, profile: LoadProfile) -> Sequence[Request]:
    """The same ones several times, so that those in flight together seldom share the place of their outputs."""
    if profile.sequences is not None:
        return requests
    wanted = 2 * profile.load.in_flight if isinstance(profile.load, Concurrency) else _LIKELY_IN_FLIGHT
    return [*requests] * max(1, min(ceil(wanted / len(requests)), most // len(requests)))


def _check_readable(requests: Sequence[Request], layout: Layout) -> None:
    """Raises LoadError where outputs would be written over before they are read."""
    if layout.turns < len(requests):
        raise usage_error(
            f"the outputs of {len(requests)} requests can't be compared in shared memory, there are "
            f"{OUTPUT_LIMIT_BYTES >> 20} MiB for them; send fewer different ones, or leave out --shared-memory"
        )
    if any(len(request.expected) > 1 for request in requests):
        raise usage_error(
            "several answers to a request are written to the same shared memory, so only one can be compared; leave "
            "out --shared-memory, or the lists in validation_data"
        )


def _read_back(placement: Placement, request: Request, region: Region) -> Placement:
    expected = request.expected[0] if request.expected else {}
    return replace(placement, slot=OutputSlot(region, placement.outputs, expected))


async def _register(control: Control, region: Region) -> None:
    try:
        await control.register(region.name)
    except Refused as error:
        kind = region.name.kind
        raise usage_error(f"the server takes no {kind} shared memory: {error}; leave out --shared-memory") from None
    except (OSError, TimeoutError) as error:
        raise server_error(f"the server went away: {str(error) or 'no answer'}") from None


async def _give_back(control: Control, regions: Sequence[Region]) -> None:
    for region in regions:
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await control.unregister(region.name)
        except (Refused, OSError, TimeoutError):
            pass  # it never knew the region, or is gone and knows nothing any more
        finally:
            region.close()
