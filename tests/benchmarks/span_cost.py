"""What a span costs: batches written to the ring against the same calls while it is off, in turns, in one process.

    python -m tests.benchmarks.span_cost [--requests 1] [--repeats 7]

Prints ns a span: a batch leaves four (batch, input, compute, output), a request two (request, queue).
"""

import argparse
import statistics
from time import monotonic_ns

import numpy as np

from analyzer.runtime.backends.base import Execution
from analyzer.runtime.request import InferRequest
from analyzer.runtime.servable import Job
from analyzer.runtime.spans import ModelSpans, Spans

_BATCHES = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1, help="requests a batch")
    parser.add_argument("--repeats", type=int, default=7)
    wanted = parser.parse_args()
    ring = Spans(2**14)
    spans = ModelSpans(ring, ring.model_id("m", "1"), None)
    requests = [InferRequest("m", {}, monotonic_ns()) for _ in range(wanted.requests)]
    jobs = [Job(request, print, 1, None, monotonic_ns(), None) for request in requests]  # type: ignore[arg-type]  # nobody is answered here
    answers = [{"B": np.zeros(1, np.float32)} for _ in jobs]
    costs: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(wanted.repeats):
        for is_on in (True, False):
            ring.start()
            ring.is_on = is_on
            began_ns = monotonic_ns()
            for _ in range(_BATCHES):
                execution = Execution(requests, [1] * len(jobs))
                if ring.is_on:
                    spans.sent(jobs, execution)
                if ring.is_on:
                    spans.executed(jobs, execution, answers)
            costs[is_on].append((monotonic_ns() - began_ns) / _BATCHES)
    on_ns, off_ns = (statistics.median(costs[is_on]) for is_on in (True, False))
    spans_a_batch = 4 + 2 * wanted.requests
    print(f"{wanted.requests} requests a batch, {spans_a_batch} spans: {on_ns - off_ns:.0f} ns more a batch when on")
    print(
        f"{(on_ns - off_ns) / spans_a_batch:.0f} ns a span (median of {wanted.repeats}); off: {off_ns:.0f} ns a batch"
    )


if __name__ == "__main__":
    main()
