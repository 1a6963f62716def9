import pytest

from analyzer.domain.model import ModelSpec, TensorSpec
from analyzer.domain.run import Edit
from analyzer.domain.space import Axis, LoadRange, SearchSpace
from analyzer.errors import UsageError
from analyzer.settings.declared import ProfileSettings
from analyzer.settings.options import settings_from
from analyzer.spaces import search_space


def spec(name: str, *, max_batch_size: int = 8, composing: tuple[str, ...] = ()) -> ModelSpec:
    tensor = TensorSpec(name="X", datatype="FP32", shape=(-1,))
    return ModelSpec(
        name=name,
        backend="",
        max_batch_size=max_batch_size,
        inputs=(tensor,),
        outputs=(),
        instance_count=1,
        dynamic_batching=False,
        digest="",
        config_text="",
        composing=composing,
    )


def space(*driven: ModelSpec, called: tuple[ModelSpec, ...] = (), cores: int = 2, **flags: object) -> SearchSpace:
    given = {"model_repository": "r", "profile_models": [each.name for each in driven], **flags}
    settings = settings_from(ProfileSettings, None, given | {"together": len(driven) > 1})
    return search_space(settings, driven, called, has_gpu=False, cores=cores)


def test_one_model_gets_the_values_that_usually_help():
    (model,) = space(spec("a")).models
    assert (model.instance_counts, model.max_batch_sizes) == ((1, 2), (4, 16, 64))
    assert (model.dynamic_batching, model.queue_delays_us) == ((True,), (0, 500))


def test_several_models_get_few_values_each_because_their_product_is_tried():
    found = space(spec("a"), spec("b"), cores=8)
    assert [model.instance_counts for model in found.models] == [(1, 2), (1, 2)]
    assert all(not model.max_batch_sizes and not model.queue_delays_us for model in found.models)
    assert found.server_config_count == len(list(found.server_configs())) == 9


def test_the_models_that_an_ensemble_calls_are_varied_and_the_ensemble_gets_the_load():
    found = space(spec("e", composing=("a", "b")), called=(spec("a"), spec("b", max_batch_size=0)))
    assert [model.model for model in found.driven] == ["e"]
    ensemble, first, second = found.models
    assert len(ensemble.variants()) == 1
    assert len(first.variants()) == 3
    assert second.dynamic_batching == ()


def test_an_axis_for_one_model_goes_before_one_for_all_and_known_fields_are_the_known_axes():
    found = space(
        spec("a"),
        spec("b"),
        axes=[
            "instance_group.count=3",
            "b:instance_group.count=1,4",
            "b:max_batch_size=2",
            "a:parameters.x=1,2",
            "b:dynamic_batching.preferred_batch_size=[1,2],[2]",
        ],
    )
    first, second = found.models
    assert (first.instance_counts, second.instance_counts) == ((3,), (1, 4))
    assert (first.max_batch_sizes, second.max_batch_sizes) == ((), (2,))
    assert first.axes == (Axis(path="parameters.x", values=("1", "2")),)
    assert second.axes == ()
    assert second.preferred_batch_sizes == ((1, 2), (2,))


def test_where_instances_run_is_an_axis_and_a_cpu_only_model_has_one_value():
    found = space(spec("a"), spec("b"), instance_kinds="cpu,gpu", cpu_only="b")
    assert [model.axes[0].values for model in found.models] == [("KIND_CPU", "KIND_GPU"), ("KIND_CPU",)]
    (model,) = space(spec("a"), instance_gpus="0,0+1").models
    assert [(axis.path, axis.values) for axis in model.axes] == [
        ("instance_group.kind", ("KIND_GPU",)),
        ("instance_group.gpus", ((0,), (0, 1))),
    ]


def test_each_of_several_models_can_have_a_load_of_its_own():
    found = space(spec("a"), spec("b"), loads=["b:2:8"], concurrency="1:64")
    assert [model.load for model in found.driven] == [
        LoadRange(kind="concurrency", minimum=1, maximum=64),
        LoadRange(kind="concurrency", minimum=2, maximum=8),
    ]


def test_shapes_are_alternatives_of_the_client():
    found = space(spec("a"), shapes=["X:4|8"], instance_counts="1", max_batch_sizes="4", queue_delays_us="0")
    assert found.shapes == ((("X", (4,)),), (("X", (8,)),))
    assert found.candidate_count == 2 * found.server_config_count == 4


def test_edits_of_the_batcher_count_only_while_it_is_on():
    axes = ["dynamic_batching.preserve_ordering=0,1", "parameters.x=1"]
    (model,) = space(
        spec("a"),
        axes=axes,
        dynamic_batching="true,false",
        instance_counts="1",
        max_batch_sizes="4",
        queue_delays_us="0",
    ).models
    off = [variant for variant in model.variants() if variant.dynamic_batching is False]
    assert [variant.edits for variant in off] == [(Edit(path="parameters.x", value="1"),)]
    assert len(model.variants()) == 1 + 1 + 2


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"axes": ["c:parameters.x=1"]}, "--axis names c, which is not varied here; these are: a"),
        ({"cpu_only": "c"}, "--cpu-only names c"),
        ({"instance_counts": "1:100:1", "max_batch_sizes": "1:100:1"}, "more than the 5,000"),
    ],
)
def test_what_can_not_be_searched_gets_a_sentence(flags: dict[str, object], sentence: str):
    with pytest.raises(UsageError, match=sentence):
        space(spec("a"), **flags)


def test_batching_options_for_a_model_that_does_not_batch_are_refused():
    with pytest.raises(UsageError, match="does no batching"):
        space(spec("a", max_batch_size=0), max_batch_sizes="4")
