"""The tensors of a run in shared memory: made and registered before the load, unregistered and given back after it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from perf_client.control import Control, Refused
from perf_client.errors import server_error, usage_error
from perf_client.payload import Request
from perf_client.placement import Placement, lay_out, output_sizes
from perf_client.profile import LoadProfile, SharedMemory
from perf_client.regions import Region, SystemRegion, unused_name
from perf_client.target import ModelDescription

_FAREWELL_S = 2.0
"""At most, for a server that may be gone."""

Placements = Sequence[Placement | None]

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
) -> AbstractAsyncContextManager[Placements]:
    """Where each request's tensors lie, as long as the context is open; None where they travel with it."""
    if profile.shared_memory == "none":
        return nullcontext([None] * len(requests))
    return shared_tensors(control, profile, model, requests, region_maker(profile.shared_memory))


@asynccontextmanager
async def shared_tensors(
    control: Control, profile: LoadProfile, model: ModelDescription, requests: Sequence[Request], make: MakeRegion
) -> AsyncIterator[Placements]:
    """Where each request's tensors lie, as long as the context is open.

    Raises LoadError where memory or server can't do that; nothing is left behind then either.
    """
    if any(request.expected for request in requests):
        raise usage_error("outputs in shared memory are not compared; leave out the validation data or --shared-memory")
    name = unused_name()
    sizes = output_sizes(profile, model)
    if not sizes:
        raise usage_error(f"model {model.name} doesn't name its outputs; leave out --shared-memory")
    layout = lay_out(requests, sizes, f"{name}_in", f"{name}_out")
    regions: list[Region] = []
    try:
        for region_name, byte_size in ((f"{name}_in", layout.input_bytes), (f"{name}_out", layout.output_bytes)):
            regions.append(make(region_name, max(byte_size, 1)))
        for offset, tensor in layout.contents:
            regions[0].write(offset, tensor.data)
        for region in regions:
            await _register(control, region)
        yield layout.placements
    finally:
        await _give_back(control, regions)


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
