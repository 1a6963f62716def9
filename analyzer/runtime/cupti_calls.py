"""Which calls of CUDA a trace keeps, by CUPTI's numbers of them, and how the library is told.

Those are kept that give the device work, wait for it, or take and give back memory. The many that only ask or set
something (cudaGetDevice, cudaPeekAtLastError, cudaEventQuery) would be most of a window of small kernels.
"""

import logging
import re
from typing import Any

from analyzer.runtime.cupti_records import ActivityKind

_KEPT = re.compile(
    r"cuda(Launch|GraphLaunch|Memcpy|Memset|MemPrefetch|Malloc|Free|HostAlloc|HostRegister|HostUnregister"
    r"|DeviceSynchronize|StreamSynchronize|EventSynchronize|ThreadSynchronize)"
    r"|cu(Launch|GraphLaunch|Memcpy|Memset|CtxSynchronize|StreamSynchronize|EventSynchronize)"
)
_MISSES = 32
"""Numbers are dense; so many without a name in a row are behind the last."""

log = logging.getLogger(__name__)


class Calls:
    """The calls of one kind, RUNTIME or DRIVER. ``package`` has the functions of ``cupti.cupti``."""

    def __init__(self, package: Any, kind: ActivityKind) -> None:
        self._package = package
        self._kind = kind
        self._names = _all_names(package, kind)
        self.kept = [number for number, name in self._names.items() if _KEPT.match(name)]

    def name(self, number: int) -> str:
        return self._names.get(number) or f"{self._kind.name.lower()} call {number}"

    def switch_off_others(self) -> None:
        """For this window. The other way round, some alone switched on, works only before CUDA is first used."""
        try:
            switch = getattr(self._package, f"activity_enable_{self._kind.name.lower()}_api")
            for number in self._names.keys() - set(self.kept):
                switch(number, 0)
        except Exception as error:  # older libraries can't: then they are left out when the records are read
            log.debug("CUPTI records all calls: %s", error)


def _all_names(package: Any, kind: ActivityKind) -> dict[int, str]:
    domain = getattr(package.CallbackDomain, f"{kind.name}_API")
    names: dict[int, str] = {}
    number = misses = 0
    while misses < _MISSES:
        number += 1
        try:
            names[number] = str(package.get_callback_name(domain, number))
            misses = 0
        except package.cuptiError:
            misses += 1
    return names
