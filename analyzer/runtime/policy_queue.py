"""A queue with priority levels and a policy for each, decided purely: who is next, who came too late, who is too many.

It takes the place of a plain deque where a configuration says more than first in, first out. Clocks are passed in.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    @property
    def queued_ns(self) -> int: ...

    @property
    def parameters(self) -> Mapping[str, object]:
        """Of the request: ``priority`` (1 is the highest, 0 the default) and ``timeout`` in microseconds."""
        ...


_Q = TypeVar("_Q", bound=Queued)


class QueueFull(Exception):
    """The queue of a request's level is as long as its policy allows."""


class WrongParameter(Exception):
    """A priority or timeout that is no whole number; says which."""


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """0 is no timeout and no limit. ``delays``: what comes too late is not rejected but served after the rest."""

    timeout_ns: int = 0
    may_override: bool = False
    delays: bool = False
    max_size: int = 0

    def expires_ns(self, queued_ns: int, wanted_us: int) -> int:
        """When a request's time is up, 0 for never. A request can only shorten what its policy gives."""
        timeout_ns = self.timeout_ns
        if self.may_override and wanted_us and (not timeout_ns or wanted_us * 1_000 < timeout_ns):
            timeout_ns = wanted_us * 1_000
        return queued_ns + timeout_ns if timeout_ns else 0


@dataclass(frozen=True, slots=True)
class QueuePolicies:
    """One for each priority level, the first is the highest. Without levels there is one."""

    levels: tuple[QueuePolicy, ...]
    default_level: int = 1

    @property
    def is_plain(self) -> bool:
        return len(self.levels) == 1 and self.levels[0] == QueuePolicy()

    @property
    def has_timeouts(self) -> bool:
        return any(policy.timeout_ns or policy.may_override for policy in self.levels)


@dataclass(slots=True)
class _Level(Generic[_Q]):
    policy: QueuePolicy
    waiting: deque[tuple[_Q, int]] = field(default_factory=deque)
    late: deque[_Q] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self.waiting) + len(self.late)


class PolicyQueue(Generic[_Q]):
    """Reads like a deque: the highest level first, in each those in time first, then in the order of arrival."""

    def __init__(self, policies: QueuePolicies) -> None:
        self._default = policies.default_level
        self._levels: list[_Level[_Q]] = [_Level(policy) for policy in policies.levels]

    def __len__(self) -> int:
        return sum(len(level) for level in self._levels)

    def __iter__(self) -> Iterator[_Q]:
        for level in self._levels:
            for item, _ in level.waiting:
                yield item
            yield from level.late

    def __getitem__(self, position: int) -> _Q:
        """The first; other positions are not needed."""
        if position:
            raise IndexError(position)
        return next(iter(self))

    def append(self, item: _Q) -> None:
        """Raises QueueFull and WrongParameter."""
        priority = _whole(item.parameters, "priority")
        level = self._levels[(priority if 0 < priority <= len(self._levels) else self._default) - 1]
        policy = level.policy
        if policy.max_size and len(level) >= policy.max_size:
            raise QueueFull
        level.waiting.append((item, policy.expires_ns(item.queued_ns, _whole(item.parameters, "timeout"))))

    def popleft(self) -> _Q:
        for level in self._levels:
            if level.waiting:
                return level.waiting.popleft()[0]
            if level.late:
                return level.late.popleft()
        raise IndexError("the queue is empty")

    def drop(self, unwanted: Callable[[_Q], bool]) -> list[_Q]:
        """Takes out what is unwanted."""
        dropped = [item for item in self if unwanted(item)]
        for level in self._levels:
            level.waiting = deque(entry for entry in level.waiting if not unwanted(entry[0]))
            level.late = deque(item for item in level.late if not unwanted(item))
        return dropped

    def expire(self, now_ns: int) -> tuple[list[_Q], int | None]:
        """Takes out what is rejected for coming too late, and gives the next time at which that may happen."""
        rejected: list[_Q] = []
        next_ns: int | None = None
        for level in self._levels:
            kept: deque[tuple[_Q, int]] = deque()
            for item, expires_ns in level.waiting:
                if not expires_ns or expires_ns > now_ns:
                    kept.append((item, expires_ns))
                    if expires_ns:
                        next_ns = expires_ns if next_ns is None else min(next_ns, expires_ns)
                elif level.policy.delays:
                    level.late.append(item)
                else:
                    rejected.append(item)
            level.waiting = kept
        return rejected, next_ns


def _whole(parameters: Mapping[str, object], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or value < 0:
        raise WrongParameter(f"parameter '{name}' must be a whole number")
    return value
