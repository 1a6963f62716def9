"""Answers in the order of their requests, whichever instance is quicker."""

from collections import deque
from dataclasses import dataclass, field
from functools import partial

from analyzer.runtime.request import InferError, InferResponse, Reply
from analyzer.runtime.servable import call_reply


@dataclass(slots=True, eq=False)
class _Ticket:
    reply: Reply
    held: list[InferResponse | InferError] = field(default_factory=list)
    is_over: bool = False


class InOrder:
    """Holds an answer back until every request before its own is answered."""

    def __init__(self) -> None:
        self._tickets: deque[_Ticket] = deque()

    def ticket(self, reply: Reply) -> Reply:
        """What to reply with instead. Called in the order that the answers are to keep."""
        ticket = _Ticket(reply)
        self._tickets.append(ticket)
        return partial(self._on_answer, ticket)

    def _on_answer(self, ticket: _Ticket, answer: InferResponse | InferError) -> None:
        ticket.held.append(answer)
        ticket.is_over = isinstance(answer, InferError) or answer.final
        while self._tickets and self._tickets[0].held:
            first = self._tickets[0]
            held, first.held = first.held, []
            if first.is_over:
                self._tickets.popleft()
            for kept in held:
                call_reply(first.reply, kept)
            if not first.is_over:
                break
