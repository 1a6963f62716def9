"""Triton's rate limiter as a policy: which instance that waits for its turn may execute next, given what is in use.

An instance holds the resources of its group while it executes. Those that wait go by their executions so far times
their priority number, the lowest first, so that priority 2 gets half the turns of priority 1. The first of them goes
before all others: while its resources are in use, the others wait too, or one that needs much would never get it.

Unlike Triton's, the count of an instance that comes late, or back after a pause, starts where the others are. Otherwise
a model that is loaded after a million executions would have the next million turns for itself.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

GLOBAL = -1
"""In the place of a device: what a resource that all devices share is counted under."""

Pool = tuple[str, int]
"""A resource and the device it belongs to."""


class UnmetDemand(Exception):
    """Why an instance could never run, in a sentence."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What an instance holds while it executes. The lower the priority number, the more turns."""

    resources: Mapping[Pool, int] = field(default_factory=dict)
    priority: int = 1


@dataclass(slots=True, eq=False)
class Ticket:
    """One instance. ``account`` is its executions times its priority, moved up to the others' after a pause."""

    demand: Demand
    account: int = 0
    is_running: bool = False


class RatePolicy:
    """``limits`` are those stated, by resource and device; None in the place of the device is for every device.

    Of a resource that is not stated there is as much as the most demanding instance asks for.
    """

    def __init__(self, limits: Mapping[tuple[str, int | None], int] | None = None) -> None:
        self._stated = dict(limits or {})
        self._tickets: set[Ticket] = set()
        self._used: Counter[Pool] = Counter()
        self._waiting: dict[Ticket, int] = {}  # by order of their asking
        self._numbers = count()
        self._account = 0  # of the instance that was let go last

    def add(self, demands: Iterable[Demand]) -> list[Ticket]:
        """Raises UnmetDemand where one of them could never be met, or has a resource that others share otherwise."""
        tickets = [Ticket(demand) for demand in demands]
        for ticket in tickets:
            self._check(ticket.demand, [*self._tickets, *tickets])
        self._tickets.update(tickets)
        return tickets

    def remove(self, ticket: Ticket) -> None:
        """Of an instance that is gone. What it holds is free again."""
        self.release(ticket)
        self.withdraw(ticket)
        self._tickets.discard(ticket)

    def ask(self, ticket: Ticket) -> None:
        """The instance has something to execute, and waits for its turn from now on."""
        if ticket in self._waiting or ticket.is_running or ticket not in self._tickets:
            return
        ticket.account = max(ticket.account, self._account)
        self._waiting[ticket] = next(self._numbers)

    def withdraw(self, ticket: Ticket) -> None:
        """The instance has nothing to execute any more."""
        self._waiting.pop(ticket, None)

    def let_go(self) -> Iterator[Ticket]:
        """Those whose turn it is, each with its resources taken; none where the first in line can't have them yet."""
        while self._waiting:
            ticket = min(self._waiting, key=self._place)
            wanted = ticket.demand.resources
            if not all(self._used[pool] + amount <= self.limit(pool) for pool, amount in wanted.items()):
                return
            del self._waiting[ticket]
            ticket.is_running = True
            self._account = ticket.account
            ticket.account += ticket.demand.priority
            self._used.update(wanted)
            yield ticket

    def release(self, ticket: Ticket) -> None:
        """The instance has executed."""
        if ticket.is_running:
            ticket.is_running = False
            self._used.subtract(ticket.demand.resources)

    def limit(self, pool: Pool) -> int:
        """How much there is of a resource on a device."""
        stated = self._stated_limit(pool)
        if stated is not None:
            return stated
        return max((ticket.demand.resources.get(pool, 0) for ticket in self._tickets), default=0)

    def in_use(self, pool: Pool) -> int:
        return self._used[pool]

    def _place(self, ticket: Ticket) -> tuple[int, int]:
        return ticket.account, self._waiting[ticket]

    def _stated_limit(self, pool: Pool) -> int | None:
        name, device = pool
        if device == GLOBAL:  # the device of a stated limit is then of no importance
            return next((limit for (stated, _), limit in self._stated.items() if stated == name), None)
        return self._stated.get((name, device), self._stated.get((name, None)))

    def _check(self, demand: Demand, tickets: Iterable[Ticket]) -> None:
        for pool, wanted in demand.resources.items():
            name, device = pool
            limit = self._stated_limit(pool)
            if limit is not None and wanted > limit:
                raise UnmetDemand(
                    f"an instance needs {wanted} of the resource '{name}', of which there are {limit}; "
                    f"raise --rate-limit-resource {name}:{limit}"
                )
            for ticket in tickets:
                if any(other == name and (on == GLOBAL) != (device == GLOBAL) for other, on in ticket.demand.resources):
                    raise UnmetDemand(f"the resource '{name}' is global for one instance and of a device for another")
