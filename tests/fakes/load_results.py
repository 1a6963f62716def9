"""Results of the load generator with plain figures: 100 requests a second that all take the same time."""

import msgspec
import numpy as np

from perf_client.profile import LoadResult, ServerTimes
from perf_client.summarize import summarize
from tests.fakes import recorded

SERVER = ServerTimes(
    model="m",
    version="1",
    inference_count=2000,
    execution_count=500,
    success_count=500,
    fail_count=0,
    queue_ns=500 * 15_000,
    compute_input_ns=500 * 18_000,
    compute_infer_ns=500 * 109_000,
    compute_output_ns=500 * 36_000,
    request_ns=500 * 180_000,
)


def result(
    profile=recorded.CLOSED, *, takes_ns=387_000, failures=None, server=(SERVER,), count=500, **options
) -> LoadResult:
    due = np.arange(count, dtype=np.int64) * 10_000_000
    columns = recorded.columns((due, due + takes_ns), failures=failures, **options)
    made = summarize(profile, columns, recorded.facts(count * 10_000_000))
    return msgspec.structs.replace(made, server=server)
