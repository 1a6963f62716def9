"""When each answer of a request came, where a request may have several: streams and server-sent events."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOT_SAID = -1
"""Tokens of a request whose answers don't tell their number."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AnswerTimes:
    """Entry i of ``count`` and ``tokens`` is request i of the columns; ``at_ns`` has the times of all, in order."""

    count: Ints
    tokens: Ints
    at_ns: Ints

    @staticmethod
    def none_of(row_count: int) -> "AnswerTimes":
        """For rows without answers of their own."""
        nothing = np.empty(0, dtype=np.int64)
        return AnswerTimes(np.zeros(row_count, np.int64), np.full(row_count, NOT_SAID, np.int64), nothing)

    def owner(self) -> NDArray[np.intp]:
        """For each time the request that it belongs to."""
        return np.repeat(np.arange(len(self.count)), self.count)

    def first_ns(self) -> Ints:
        """Of each request that has an answer, in order."""
        starts: Ints = (np.cumsum(self.count) - self.count)[self.count > 0]
        return self.at_ns[starts]

    def last_ns(self) -> Ints:
        """Of each request that has an answer, in order."""
        ends: Ints = np.cumsum(self.count)[self.count > 0]
        return self.at_ns[ends - 1]

    def of(self, chosen: NDArray[np.bool_]) -> "AnswerTimes":
        """Those of some requests only."""
        return AnswerTimes(self.count[chosen], self.tokens[chosen], self.at_ns[chosen[self.owner()]])

    def gaps_ns(self) -> Ints:
        """Between one answer and the next of the same request."""
        owner = self.owner()
        gaps: Ints = np.diff(self.at_ns)[owner[1:] == owner[:-1]]
        return gaps

    def reordered(self, order: NDArray[np.intp]) -> "AnswerTimes":
        count = self.count[order]
        starts = (np.cumsum(self.count) - self.count)[order]
        moved_by = np.repeat(starts - (np.cumsum(count) - count), count)
        return AnswerTimes(count, self.tokens[order], self.at_ns[np.arange(len(self.at_ns)) + moved_by])

    @staticmethod
    def joined(parts: "Sequence[AnswerTimes]") -> "AnswerTimes":
        return AnswerTimes(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("count", "tokens", "at_ns"))
        )


class AnswerLog:
    """Grows while the load runs: what was answered of the rows that have answers of their own."""

    __slots__ = ("_counts", "_rows", "_times", "_tokens")

    def __init__(self) -> None:
        self._rows = array("q")
        self._counts = array("q")
        self._tokens = array("q")
        self._times = array("q")

    def add(self, row: int, times_ns: "array[int]", tokens: int) -> None:
        self._rows.append(row)
        self._counts.append(len(times_ns))
        self._tokens.append(tokens)
        self._times += times_ns

    def frozen(self, row_count: int, start_ns: int) -> AnswerTimes:
        """For all rows, times made relative. Rows come in the order they were added in."""
        rows = np.array(self._rows, dtype=np.int64)
        count = np.zeros(row_count, dtype=np.int64)
        tokens = np.full(row_count, NOT_SAID, dtype=np.int64)
        count[rows], tokens[rows] = self._counts, self._tokens
        return AnswerTimes(count, tokens, np.array(self._times, dtype=np.int64) - start_ns)
