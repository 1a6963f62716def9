"""One process's part of a load that several share, and the parts put together again."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from math import gcd
from typing import TypeVar

import msgspec
import numpy as np

from perf_client.answer_times import AnswerTimes
from perf_client.errors import usage_error
from perf_client.loads import Concurrency, PeriodicConcurrency
from perf_client.profile import LoadProfile
from perf_client.record import Columns, RunFacts

Item = TypeVar("Item")


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``index``-th of ``count`` parts: of what comes in a row every ``count``-th, from ``index`` on."""

    index: int = 0
    count: int = 1

    def of(self, row: Iterable[Item]) -> Iterator[Item]:
        return islice(row, self.index, None, self.count)

    def of_number(self, number: int) -> int:
        """Shares of a number differ by one at most and add up to it."""
        return number // self.count + (self.index < number % self.count)

    def of_pool(self, pool: Sequence[Item]) -> list[Item]:
        """What this share sends over and over, where all shares together go round the pool in turn."""
        size = len(pool)
        return [pool[(self.index + turn * self.count) % size] for turn in range(size // gcd(size, self.count))]

    def of_profile(self, profile: LoadProfile) -> LoadProfile:
        """The profile of this share alone. The schedule of an open loop is left whole: ``of`` cuts it."""
        load = profile.load
        count = profile.request_count
        if isinstance(load, Concurrency):
            load = msgspec.structs.replace(load, in_flight=self.of_number(load.in_flight))
            count = None if count is None else self.of_number(count)
        elif not isinstance(load, PeriodicConcurrency) and load.max_in_flight is not None:
            load = msgspec.structs.replace(load, max_in_flight=self.of_number(load.max_in_flight))
        return msgspec.structs.replace(profile, load=load, request_count=count, workers=1)


WHOLE = Share()


def check_workers(profile: LoadProfile) -> None:
    """Raises LoadError where the load can't be shared."""
    load, workers = profile.load, profile.workers
    if profile.service == "in_process":
        raise usage_error("--workers would load the models once each; leave it out, or start a server")
    if isinstance(load, PeriodicConcurrency) or profile.sequences is not None:
        raise usage_error("--workers shares neither sequences nor a periodic concurrency; leave it out")
    bounds = [load.in_flight] if isinstance(load, Concurrency) else [load.max_in_flight or workers]
    if isinstance(load, Concurrency) and profile.request_count is not None:
        bounds.append(profile.request_count)
    if min(bounds) < workers:
        raise usage_error(f"{workers} workers can't share a load of {min(bounds)}; use --workers {max(1, min(bounds))}")


def joined_columns(parts: Sequence[Columns]) -> Columns:
    """All rows by due time, as if one process had recorded them. All parts have the same zero."""
    names = [""]
    names += sorted({name for part in parts for name in part.failure_names} - {""})
    codes = [np.array([names.index(name) for name in part.failure_names], dtype=np.uint8) for part in parts]
    order = np.argsort(np.concatenate([part.scheduled_ns for part in parts]), kind="stable")
    dropped_order = np.argsort(np.concatenate([part.dropped_ns for part in parts]), kind="stable")
    models = [part.model for part in parts if part.model is not None]
    dropped_models = [part.dropped_model for part in parts if part.dropped_model is not None]
    return Columns(
        scheduled_ns=np.concatenate([part.scheduled_ns for part in parts])[order],
        sent_ns=np.concatenate([part.sent_ns for part in parts])[order],
        first_byte_ns=np.concatenate([part.first_byte_ns for part in parts])[order],
        last_byte_ns=np.concatenate([part.last_byte_ns for part in parts])[order],
        failure=np.concatenate([code[part.failure] for code, part in zip(codes, parts)])[order],
        failure_names=tuple(names),
        dropped_ns=np.concatenate([part.dropped_ns for part in parts])[dropped_order],
        model=np.concatenate(models)[order] if models else None,
        dropped_model=np.concatenate(dropped_models)[dropped_order] if dropped_models else None,
        answers=_joined_answers(parts).reordered(order) if any(part.answers for part in parts) else None,
    )


def _joined_answers(parts: Sequence[Columns]) -> AnswerTimes:
    return AnswerTimes.joined(
        [AnswerTimes.none_of(len(part)) if part.answers is None else part.answers for part in parts]
    )


def joined_facts(parts: Sequence[RunFacts]) -> RunFacts:
    """What the first one knows of the server, and the sum or the worst of what all know of themselves."""
    reasons = [part.incomplete_reason for part in parts if part.incomplete]
    examples: dict[str, str] = {}
    for part in parts:
        examples = part.failure_examples | examples
    return replace(
        parts[0],
        ended_ns=max(part.ended_ns for part in parts),
        cpu_s=sum(part.cpu_s for part in parts),
        wall_s=max(part.wall_s for part in parts),
        busiest_cpu_ratio=max(part.cpu_s / part.wall_s for part in parts),
        loop_stall_max_ns=max(part.loop_stall_max_ns for part in parts),
        incomplete=bool(reasons),
        incomplete_reason=reasons[0] if reasons else "",
        failure_examples=examples,
        waited_for_slot=sum(part.waited_for_slot for part in parts),
    )
