"""What is known of a model before anything is measured."""

from analyzer.domain.record import Record


class TensorSpec(Record, frozen=True):
    """``shape`` is without the batch dimension; -1 is variable. ``datatype`` as in KServe v2 (FP32, BYTES...)."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelSpec(Record, frozen=True):
    """One model of a repository as its ``config.pbtxt``, completed from its files, describes it.

    ``max_batch_size`` 0 means the model does no batching. ``composing`` names the models an ensemble calls.
    ``digest`` is over the content of the model's files, so an edited model is another model. ``config_text`` is the
    configuration as written (protobuf text format). ``queue_delay_us`` None: no batcher, or an
    earlier version wrote this.
    """

    name: str
    backend: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    instance_count: int
    dynamic_batching: bool
    digest: str
    config_text: str
    composing: tuple[str, ...] = ()
    queue_delay_us: int | None = None
