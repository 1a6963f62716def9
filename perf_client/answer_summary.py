"""What the answers of requests that may have several add to a result."""

from collections.abc import Sequence

import numpy as np

from perf_client.answer_times import NOT_SAID
from perf_client.estimate import latency, rate
from perf_client.parts import Counted
from perf_client.profile import AnswerResult
from perf_client.record import OK, Columns


def answer_summary(columns: Columns, counted: Counted, percents: Sequence[float]) -> AnswerResult | None:
    """Times are over the answered requests of the counted window; rates count what came within it, as throughput does.

    None where every request has one answer, which the other fields say all about.
    """
    if columns.answers is None:
        return None
    succeeded = columns.failure == OK
    answered = counted.rows & succeeded
    answers = columns.answers.of(answered)
    sent_ns = columns.sent_ns[answered][answers.count > 0]
    first_ns = answers.first_ns()
    last_ns = answers.last_ns()
    said = columns.answers.tokens != NOT_SAID
    spread = rate(columns.answers.of(succeeded).at_ns, counted.from_ns, counted.to_ns)
    tokens = None
    if bool(np.any(said & answered)):
        ended = columns.last_byte_ns[succeeded & said]
        tokens = rate(np.repeat(ended, columns.answers.tokens[succeeded & said]), counted.from_ns, counted.to_ns)
    return AnswerResult(
        answer_count=int(answers.count.sum()),
        answers_per_second=spread,
        first_answer=latency(first_ns - sent_ns, percents),
        last_answer=latency(last_ns - sent_ns, percents),
        between_answers=latency(answers.gaps_ns(), percents),
        output_token_count=int(columns.answers.tokens[answered & said].sum()) if tokens else None,
        output_tokens_per_second=tokens,
    )
