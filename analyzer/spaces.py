"""Settings and models to a search space: the axes asked for, and where nothing was said values that usually help."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from msgspec.structs import replace

from analyzer.domain.model import ModelSpec
from analyzer.domain.run import EditValue
from analyzer.domain.space import Axis, LoadRange, ModelSpace, SearchSpace, Shapes
from analyzer.errors import UsageError
from analyzer.settings.tried import TriedSettings

MOST_CANDIDATES = 5000
"""A search looks at each candidate before each point, so more would cost more time than measuring does."""

_BATCHER = "dynamic_batching."


@dataclass(frozen=True, slots=True)
class _Usual:
    """What is tried of a model that batches where nothing is said."""

    max_batch_sizes: tuple[int, ...] = ()
    dynamic_batching: tuple[bool, ...] = (True,)
    queue_delays_us: tuple[int, ...] = ()


_USUAL = {
    "usual": _Usual((4, 16, 64), queue_delays_us=(0, 500)),
    "wide": _Usual((1, 2, 4, 8, 16, 32, 64, 128)),
    "none": _Usual(dynamic_batching=()),
}
_USUAL_OF_SEVERAL = _Usual()


def search_space(
    settings: TriedSettings, driven: Sequence[ModelSpec], called: Sequence[ModelSpec], *, has_gpu: bool, cores: int
) -> SearchSpace:
    """``driven`` get the load; ``called`` are the models that those call in turn, and are varied instead of ensembles.

    Raises:
        UsageError: an option does not fit the models, or the space is too large to search.
    """
    varied = [spec for spec in (*driven, *called) if not spec.composing]
    _check_names(settings, [spec.name for spec in varied])
    several = len(varied) > 1
    models = []
    for spec in (*driven, *called):
        model = _axes_of(spec, settings, has_gpu, cores, several) if spec in varied else ModelSpace(model=spec.name)
        models.append(_with_load(model, settings) if spec in driven else model)
    shapes = shape_choices(settings, driven[0], alone=len(driven) == 1)
    space = SearchSpace(models=tuple(models), batch_sizes=settings.batch_sizes, shapes=shapes)
    if space.candidate_count > MOST_CANDIDATES:
        raise UsageError(
            f"the space has {space.candidate_count:,} candidates, more than the {MOST_CANDIDATES:,} that a search can "
            "look through; give fewer values of an axis"
        )
    return space


def shape_choices(settings: TriedSettings, spec: ModelSpec, *, alone: bool) -> tuple[Shapes, ...]:
    """Each combination of the sizes given for the model's inputs. A model that is ``alone`` takes all of them."""
    inputs = {tensor.name for tensor in spec.inputs}
    each = [
        [(name, sizes) for sizes in alternatives]
        for name, alternatives in sorted(settings.shapes.items())
        if alone or name in inputs
    ]
    return tuple(product(*each))


def _axes_of(spec: ModelSpec, settings: TriedSettings, has_gpu: bool, cores: int, several: bool) -> ModelSpace:
    """Of several models, only those axes that are asked for and the instances: their product grows fast."""
    named = _named_axes(spec, settings)
    batches = spec.max_batch_size > 0 or any(_wholes(named.get("max_batch_size", ())))
    if not batches and not several and settings.automatic_axes == "usual" and _asks_for_batching(settings):
        raise UsageError(
            f"{spec.name} does no batching (max_batch_size 0): leave --max-batch-sizes, --dynamic-batching, "
            "--preferred-batch-sizes and --queue-delays-us out"
        )
    instances = _wholes(named.pop("instance_group.count", ())) or settings.instance_counts
    if not instances and "instance_group" not in named:
        instances = _usual_instances(settings, several, has_gpu, cores)
    sizes = _wholes(named.pop("max_batch_size", ()))
    usual = _USUAL_OF_SEVERAL if several and settings.automatic_axes != "none" else _USUAL[settings.automatic_axes]
    delays = _wholes(named.pop(f"{_BATCHER}max_queue_delay_microseconds", ()))
    preferred = _lists(named.pop(f"{_BATCHER}preferred_batch_size", ()))
    return ModelSpace(
        model=spec.name,
        instance_counts=instances,
        max_batch_sizes=sizes or ((settings.max_batch_sizes or usual.max_batch_sizes) if batches else ()),
        dynamic_batching=(settings.dynamic_batching or usual.dynamic_batching) if batches else (),
        queue_delays_us=delays or ((settings.queue_delays_us or usual.queue_delays_us) if batches else ()),
        preferred_batch_sizes=preferred or (settings.preferred_batch_sizes if batches else ()),
        axes=(*_placement(spec, settings, named), *(Axis(path=path, values=named[path]) for path in named)),
    )


def _usual_instances(settings: TriedSettings, several: bool, has_gpu: bool, cores: int) -> tuple[int, ...]:
    if settings.automatic_axes == "none":
        return ()
    if settings.automatic_axes == "wide" and not several:
        return (1, 2, 3, 4, 5)
    return tuple(count for count in (1, 2, 4) if has_gpu or count <= cores)[: 2 if several else 3]


def _placement(spec: ModelSpec, settings: TriedSettings, named: dict[str, tuple[EditValue, ...]]) -> list[Axis]:
    """Kind and GPUs of the instances, unless an axis of the model's own says them."""
    kinds = ("cpu",) if spec.name in settings.cpu_only else settings.instance_kinds
    kinds = kinds or (("gpu",) if settings.instance_gpus else ())
    axes = []
    if kinds and "instance_group.kind" not in named:
        axes.append(Axis(path="instance_group.kind", values=tuple(f"KIND_{kind.upper()}" for kind in kinds)))
    if settings.instance_gpus and kinds != ("cpu",) and "instance_group.gpus" not in named:
        axes.append(Axis(path="instance_group.gpus", values=settings.instance_gpus))
    return axes


def _named_axes(spec: ModelSpec, settings: TriedSettings) -> dict[str, tuple[EditValue, ...]]:
    """Axes given by path. One that names the model goes before one for all."""
    for_all = {each.axis.path: each.axis.values for each in settings.axes if not each.model}
    return for_all | {each.axis.path: each.axis.values for each in settings.axes if each.model == spec.name}


def _with_load(model: ModelSpace, settings: TriedSettings) -> ModelSpace:
    load = settings.load_range
    if model.model in settings.loads:
        low, high = settings.loads[model.model]
        load = LoadRange(kind=load.kind, minimum=low, maximum=high)
    return replace(model, load=load)


def _asks_for_batching(settings: TriedSettings) -> bool:
    asked = (settings.max_batch_sizes, settings.dynamic_batching, settings.queue_delays_us)
    return any((*asked, settings.preferred_batch_sizes))


def _check_names(settings: TriedSettings, varied: Sequence[str]) -> None:
    """A mistyped name must not leave an axis out in silence."""
    for flag, names in (("--axis", {each.model for each in settings.axes} - {""}), ("--cpu-only", settings.cpu_only)):
        unknown = [name for name in names if name not in varied]
        if unknown:
            raise UsageError(f"{flag} names {unknown[0]}, which is not varied here; these are: {', '.join(varied)}")


def _wholes(values: tuple[EditValue, ...]) -> tuple[int, ...]:
    return tuple(value for value in values if isinstance(value, int))


def _lists(values: tuple[EditValue, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(_wholes(value) for value in values if isinstance(value, tuple))
