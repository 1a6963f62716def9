"""Executions held back until the rate limiter lets an instance of their model go."""

from collections import deque
from collections.abc import Sequence
from functools import partial

from analyzer.runtime.backends.base import Answers, Execution
from analyzer.runtime.instance import UNLOADED, Crew, OnDone
from analyzer.runtime.rate_policy import Demand, RatePolicy, Ticket

_Waiting = tuple[Execution, OnDone]


class RateLimiter:
    """One for all models of a server. Used on the event loop's thread only."""

    def __init__(self, policy: RatePolicy) -> None:
        self._policy = policy
        self._members: dict[Ticket, tuple[LimitedCrew, Crew]] = {}
        self._is_settling = False

    def admit(self, demands: Sequence[Demand]) -> list[Ticket]:
        """Raises UnmetDemand."""
        return self._policy.add(demands)

    def place(self, ticket: Ticket, limited: "LimitedCrew", crew: Crew) -> None:
        self._members[ticket] = limited, crew

    def dismiss(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            self._members.pop(ticket, None)
            self._policy.remove(ticket)
        self.settle()

    def ask(self, ticket: Ticket) -> None:
        self._policy.ask(ticket)

    def withdraw(self, ticket: Ticket) -> None:
        self._policy.withdraw(ticket)

    def settle(self) -> None:
        """Lets everybody go whose turn it is. An execution that ends within that is looked at in the same loop."""
        if self._is_settling:
            return
        self._is_settling = True
        try:
            for ticket in self._policy.let_go():
                limited, crew = self._members[ticket]
                execution, on_done = limited.take()
                crew.start(execution, partial(self._on_done, ticket, limited, on_done))
        finally:
            self._is_settling = False

    def _on_done(
        self, ticket: Ticket, limited: "LimitedCrew", on_done: OnDone, execution: Execution, answers: Answers
    ) -> None:
        self._policy.release(ticket)
        if limited.has_waiting:
            self._policy.ask(ticket)
        on_done(execution, answers)
        self.settle()


class LimitedCrew:
    """A Crew over instances that each have a crew, and a ticket, of their own."""

    def __init__(self, members: Sequence[tuple[Ticket, Crew]], limiter: RateLimiter) -> None:
        self.size = sum(crew.size for _, crew in members)
        self.takes_device_tensors = all(crew.takes_device_tensors for _, crew in members)
        self._members = members
        self._limiter = limiter
        self._waiting: deque[_Waiting] = deque()
        for ticket, crew in members:
            limiter.place(ticket, self, crew)

    @property
    def failure(self) -> str:
        reasons = [crew.failure for _, crew in self._members]
        return reasons[0] if all(reasons) else ""

    @property
    def deaths(self) -> int:
        return sum(crew.deaths for _, crew in self._members)

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def take(self) -> _Waiting:
        """What waits longest, for the instance whose turn it is. With the last of it no instance asks any more."""
        item = self._waiting.popleft()
        if not self._waiting:
            self._withdraw()
        return item

    def start(self, execution: Execution, on_done: OnDone) -> None:
        self._waiting.append((execution, on_done))
        for ticket, _ in self._members:
            self._limiter.ask(ticket)
        self._limiter.settle()

    async def stop(self) -> None:
        while self._waiting:
            execution, on_done = self._waiting.popleft()
            on_done(execution, [UNLOADED for _ in execution.requests])
        self._withdraw()
        for _, crew in self._members:
            await crew.stop()
        self._limiter.dismiss([ticket for ticket, _ in self._members])

    def _withdraw(self) -> None:
        for ticket, _ in self._members:
            self._limiter.withdraw(ticket)
