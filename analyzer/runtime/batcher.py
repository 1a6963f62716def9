"""Dynamic batching, decided purely: what waits and what is idle in, send or wait out. Clocks are passed in."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


class Waiting(Protocol):
    """A queued request: its rows (client batch), when it was queued, and what must be equal within a batch."""

    @property
    def rows(self) -> int: ...

    @property
    def queued_ns(self) -> int: ...

    @property
    def shape_key(self) -> object: ...


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """``dynamic`` false: each request goes alone. Without preferred sizes the maximum is the preferred one."""

    max_batch_size: int
    dynamic: bool
    preferred_sizes: tuple[int, ...] = ()
    max_delay_ns: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Send the first ``count`` requests of the queue now."""

    count: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Decide again at ``until_ns``, or as soon as ``until_rows`` rows or a request of another shape are queued."""

    until_ns: int
    until_rows: int


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to send, or nobody to send it to."""


Decision = Batch | Wait | Nothing

NOTHING = Nothing()
_ALONE = Batch(1)


@dataclass(frozen=True, slots=True)
class _Fit:
    """What of the queue could go together: all that fits, and the part that ends at a preferred size."""

    count: int
    rows: int
    preferred_count: int
    is_closed: bool


def decide(policy: BatchPolicy, queue: Iterable[Waiting], now_ns: int, idle_instances: int) -> Decision:
    """What to do with the head of a first-in, first-out queue.

    A batch leaves at once when a preferred size is reached or it cannot grow, and when the oldest request has waited
    its delay. Without a delay nothing waits while an instance is idle.
    """
    if idle_instances <= 0:
        return NOTHING
    oldest = next(iter(queue), None)
    if oldest is None:
        return NOTHING
    if not policy.dynamic:
        return _ALONE
    expires_ns = oldest.queued_ns + policy.max_delay_ns
    is_expired = policy.max_delay_ns > 0 and now_ns >= expires_ns
    fit = _fit(policy, queue)
    if fit.preferred_count and not is_expired:
        return Batch(fit.preferred_count)
    if is_expired or fit.is_closed or policy.max_delay_ns == 0:
        return Batch(fit.count)
    return Wait(expires_ns, _next_size(policy, fit.rows))


def _fit(policy: BatchPolicy, queue: Iterable[Waiting]) -> _Fit:
    """Walks the queue as Triton's dynamic batcher does.

    A queue that steps over the largest preferred size without having met one leaves just below it; one that has
    met a preferred size leaves at the largest it met.
    """
    largest_preferred = max(policy.preferred_sizes, default=policy.max_batch_size)
    shape_key: object = None
    count = rows = preferred_count = 0
    for waiting in queue:
        size = waiting.rows
        if count == 0:
            shape_key = waiting.shape_key
        else:
            if rows + size > largest_preferred and not preferred_count:
                preferred_count = count
            if rows + size > policy.max_batch_size or waiting.shape_key != shape_key:
                return _Fit(count, rows, preferred_count, is_closed=True)
        count += 1
        rows += size
        if rows in policy.preferred_sizes:
            preferred_count = count
        if rows >= policy.max_batch_size:
            break
    return _Fit(count, rows, preferred_count, is_closed=rows >= largest_preferred)


def _next_size(policy: BatchPolicy, rows: int) -> int:
    """The number of rows at which a waiting batch may leave early."""
    return min((size for size in policy.preferred_sizes if size > rows), default=policy.max_batch_size)
