"""Two counts of the same requests laid side by side: the server's, and ours from the recorded times.

The server's counters were read at two moments. A request that was sent and answered between them must be in their
difference; one that was under way at either moment may be. Nothing else can be, unless somebody else sends requests too
or requests are answered before they reach the model.
"""

from collections.abc import Sequence, Set

import numpy as np

from perf_client.profile import CountCheck, ServerTimes
from perf_client.record import NEVER, OK, Columns, ServerSample
from perf_client.server_statistics import between, window_bounds

SLOP_NS = 2_000_000
"""Servers count a request a little before or after its answer leaves."""


def check_counts(
    columns: Columns, samples: Sequence[ServerSample], driven: Set[str], from_ns: int, to_ns: int
) -> CountCheck | None:
    """``driven`` are the models that the load goes to; None where the server's counters say nothing about them."""
    bounds = window_bounds(samples, from_ns, to_ns)
    grown = [times for times in between(samples, from_ns, to_ns) if times.model in driven]
    if bounds is None or not grown:
        return None
    first, last = bounds
    began = np.where(columns.sent_ns == NEVER, columns.last_byte_ns, columns.sent_ns)
    surely = (began >= first.at_ns + first.spread_ns + SLOP_NS) & (
        columns.last_byte_ns <= last.at_ns - last.spread_ns - SLOP_NS
    )
    maybe = (columns.last_byte_ns >= first.at_ns - first.spread_ns - SLOP_NS) & (
        began <= last.at_ns + last.spread_ns + SLOP_NS
    )
    answered, sent = columns.failure == OK, columns.sent_ns != NEVER
    return CountCheck(
        server_count=sum(map(_counted, grown)),
        server_failed_count=sum(times.fail_count for times in grown),
        surely_count=int(np.count_nonzero(surely & answered)),
        at_most_count=int(np.count_nonzero(maybe & sent)),
    )


def _counted(times: ServerTimes) -> int:
    return times.success_count + times.fail_count
