"""What is to be measured: a server configuration and the load put on it."""

from functools import cached_property

from analyzer.domain.record import Record, content_key
from perf_client.profile import LoadProfile

EditValue = bool | int | float | str | tuple[int | float | str, ...] | None
"""A message is given as text: JSON or protobuf text format."""


class Edit(Record, frozen=True):
    """One field of ``config.pbtxt`` set to a value; None clears it.

    ``path`` is dotted: ``instance_group.kind`` (of every entry), ``parameters.KEY`` (its string value),
    ``optimization.graph.level``.
    """

    path: str
    value: EditValue


class ModelVariant(Record, frozen=True, omit_defaults=True):
    """Changes to one model's ``config.pbtxt``. ``None`` leaves a field as the repository has it.

    ``dynamic_batching`` switches the batcher on or off; ``preferred_batch_sizes`` and ``queue_delay_us``
    (``max_queue_delay_microseconds``) count only while it is on. ``edits`` change any other field, sorted by path.
    ``name`` is what the tool that made it calls it; it keeps apart two that differ in fields which are not among these.
    """

    model: str
    instance_count: int | None = None
    max_batch_size: int | None = None
    dynamic_batching: bool | None = None
    preferred_batch_sizes: tuple[int, ...] | None = None
    queue_delay_us: int | None = None
    name: str = ""
    edits: tuple[Edit, ...] = ()

    @property
    def is_default(self) -> bool:
        """True where nothing is changed: the configuration the user has today."""
        return self == ModelVariant(model=self.model)


class ServerConfig(Record, frozen=True):
    """The variants of all models that one server runs with."""

    variants: tuple[ModelVariant, ...]

    @property
    def is_default(self) -> bool:
        return all(variant.is_default for variant in self.variants)

    @property
    def key(self) -> str:
        return content_key(self)


class RunConfig(Record, frozen=True, dict=True, omit_defaults=True):
    """One point of the search. ``content`` is the digest of the models' files and of the input data.

    ``beside`` are loads on other models of the same server, applied at the same time and for as long as ``load``.

    Its ``key`` is its identity: where the server listened or how often counters were sampled has no part in it, nor
    has a field that is at its default, so that a field added later does not make old points strangers.
    """

    server: ServerConfig
    load: LoadProfile
    content: str
    beside: tuple[LoadProfile, ...] = ()

    @property
    def loads(self) -> tuple[LoadProfile, ...]:
        """What every driven model gets."""
        return (self.load, *self.beside)

    @cached_property
    def key(self) -> str:
        return content_key(self)
