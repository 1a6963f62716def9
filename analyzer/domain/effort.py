"""How large a search is, before anything is measured."""

from analyzer.domain.record import Record


class Effort(Record, frozen=True):
    """``left_out_count`` of the candidates can't run, or can't differ from another one.

    ``load_count`` are the doublings of the load, so that ``grid_point_count`` is what a whole grid would measure.
    ``expected_s`` is for ``expected_point_count`` points, None where nothing is known of it.
    """

    candidate_count: int
    left_out_count: int
    load_count: int
    grid_point_count: int
    expected_point_count: int
    expected_s: float
