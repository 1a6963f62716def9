"""What executions took, and who wants to be told: the account of a request."""

from typing import Protocol

import msgspec


class Stamps(Protocol):
    """When an execution began and when its stages ended, CLOCK_MONOTONIC; 0: not yet."""

    start_ns: int
    input_end_ns: int
    infer_end_ns: int
    end_ns: int


class Account(Protocol):
    """Is told of the executions that a request was part of, before its reply is called."""

    def executed(self, queued_ns: int, stamps: Stamps) -> None:
        """One execution of the request itself, which was queued at ``queued_ns``."""
        ...

    def add(self, spent: "Durations") -> None:
        """The sum of those that were made for an ensemble's request."""
        ...


class Durations(msgspec.Struct, eq=False):
    """Nanoseconds of one execution, or of one request's way through an ensemble. An Account."""

    queue_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0

    def executed(self, queued_ns: int, stamps: Stamps) -> None:
        self.queue_ns += stamps.start_ns - queued_ns
        self.input_ns += stamps.input_end_ns - stamps.start_ns
        self.infer_ns += stamps.infer_end_ns - stamps.input_end_ns
        self.output_ns += stamps.end_ns - stamps.infer_end_ns

    def add(self, spent: "Durations") -> None:
        self.queue_ns += spent.queue_ns
        self.input_ns += spent.input_ns
        self.infer_ns += spent.infer_ns
        self.output_ns += spent.output_ns
