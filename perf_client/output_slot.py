"""The outputs of one request in memory shared with the server, read after its answer and made unlike what is expected.

What lies there before the request is sent is wrong on purpose: a server that answers without writing is found out.
"""

from collections.abc import Mapping
from math import prod

from perf_client.placement import Place
from perf_client.regions import Region
from perf_client.tensors import SIZES, Shape, Tensor
from perf_client.transports.base import BadAnswer

_LENGTH_BYTES = 4
_COMPLEMENT = bytes(range(255, -1, -1))
"""No byte stays what it was, so no value is the expected one or close to it."""


class OutputSlot:
    """Counts who uses it: the same request may be on its way twice, and its outputs are the same then.

    Who is given up stays counted, since the server may still write. So from then on nothing is made wrong here.
    """

    def __init__(self, region: Region, places: Mapping[str, Place], expected: Mapping[str, Tensor]) -> None:
        self._region = region
        self._places = places
        self._wrong = {
            name: tensor.data[: places[name].byte_size].translate(_COMPLEMENT)
            for name, tensor in expected.items()
            if name in places
        }
        self._users = 0
        self._spoil()

    def take(self) -> None:
        self._users += 1

    def release(self) -> None:
        self._users -= 1
        if not self._users:
            self._spoil()

    def _spoil(self) -> None:
        for name, data in self._wrong.items():
            self._region.write(self._places[name].offset, data)

    def content(self) -> bytes:
        """All that matters, to be known again."""
        return b"".join(self._read(self._places[name], len(data)) for name, data in self._wrong.items())

    def output(self, name: str, datatype: str, shape: Shape) -> bytes:
        """Raises BadAnswer where an output of that form can't be there."""
        place = self._places.get(name)
        if place is None:
            raise BadAnswer(f"output {name} was not asked for")
        if datatype == "BYTES":
            return self._elements(name, place, prod(shape))
        size = prod(shape) * SIZES.get(datatype, 1)
        if size > place.byte_size:
            raise BadAnswer(f"output {name} of {size} bytes does not fit in its {place.byte_size} bytes of memory")
        return self._read(place, size)

    def _elements(self, name: str, place: Place, count: int) -> bytes:
        """Nothing says where the last of them ends but they themselves."""
        data = self._read(place, place.byte_size)
        end = 0
        for _ in range(count):
            end += _LENGTH_BYTES + int.from_bytes(data[end : end + _LENGTH_BYTES], "little")
            if end > len(data):
                raise BadAnswer(f"output {name} has elements that reach over its {len(data)} bytes of memory")
        return data[:end]

    def _read(self, place: Place, byte_size: int) -> bytes:
        return self._region.read(place.offset, byte_size)
