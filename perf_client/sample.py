"""One row of a batch as the user gave it."""

from dataclasses import dataclass, field

from perf_client.profile import Parameter
from perf_client.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Sample:
    """Tensors have no batch dimension here. ``expected`` are the outputs of each answer that should come.

    ``stream`` numbers the list of samples that it stands in, over all files; ``timestamp_ms`` is when a recorded
    request was due.
    """

    inputs: dict[str, Tensor]
    expected: tuple[dict[str, Tensor], ...] = ()
    parameters: dict[str, Parameter] = field(default_factory=dict)
    stream: int = 0
    timestamp_ms: float | None = None
