"""What steers a search beyond its space, objectives and budgets."""

from analyzer.domain.model import ModelSpec
from analyzer.domain.record import Record
from analyzer.domain.run import ModelVariant


class SearchOptions(Record, frozen=True):
    """``bases`` say what an unchanged field of each model means: the values that the repository has.

    With both durations given, points are first measured for ``screen_duration_s``, and the leaders again for
    ``confirm_duration_s``; else every point takes the duration of the load template. ``max_repeats`` bounds how often
    one point is measured again to settle a comparison, ``max_points`` the whole search.
    """

    bases: tuple[ModelVariant, ...] = ()
    screen_duration_s: float | None = None
    confirm_duration_s: float | None = None
    max_repeats: int = 3
    max_points: int | None = None


def base_variant(spec: ModelSpec) -> ModelVariant:
    """The repository's own values as a variant without gaps."""
    return ModelVariant(
        model=spec.name,
        instance_count=spec.instance_count,
        max_batch_size=spec.max_batch_size,
        dynamic_batching=spec.dynamic_batching,
        queue_delay_us=spec.queue_delay_us,
    )
