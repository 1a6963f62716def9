"""Stages, steps, batches, queues, the critical path of a request, and the difference of two timelines."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import InputError
from analyzer.timeline import import_nsight
from analyzer.timeline.analyses import serving
from analyzer.timeline.analyses.critical_path import critical_path, slowest
from analyzer.timeline.analyses.diff import bare, diff
from analyzer.timeline.kinds import Kind, Relation
from tests.fakes.timelines import Scene


def batched() -> Scene:
    """Two requests that make one batch, and one that runs alone on another instance."""
    scene = Scene().request(1, 0, 100).request(2, 20, 100).request(3, 60, 160)
    scene.queue(1, 0, 40).queue(2, 20, 40).queue(3, 60, 70)
    scene.batch(11, [1, 2], 40, 90).batch(12, [3], 70, 150, instance=1)
    model = {"model_id": scene.build.name_id("m")}
    return scene.work(50, 80, batch=11, instance=0, **model).work(80, 95, batch=12, instance=1, **model)


def test_time_is_told_by_model_and_instance():
    first, second = serving.instance_times(batched().timeline())
    assert (first.model, first.instance, first.batch_count, first.row_count) == ("m", 0, 1, 2)
    assert (first.execute.total, first.busy_ns, first.kernels_ns, first.copies_ns) == (50, 50, 30, 0)
    assert (second.instance, second.row_count, second.kernels_ns) == (1, 1, 15)


def test_time_is_told_by_stage():
    queue, compute = serving.stage_times(batched().timeline())
    assert (compute.model, compute.stage, compute.spread.total) == ("m", "compute_infer", 130)
    assert (queue.stage, queue.spread.total, queue.spread.count) == ("queue", 70, 3)


def test_a_queue_is_as_deep_as_requests_wait():
    queue = serving.queue_depths(batched().timeline())["m"]
    assert (queue.time_ns.tolist(), queue.count.tolist()) == ([0, 20, 40, 60, 70], [1, 2, 0, 1, 0])
    assert serving.requests_in_flight(batched().timeline()).largest == 3


def test_requests_of_an_ensemble_to_its_models_are_not_in_flight_beside_it():
    scene = Scene().request(1, 0, 90).request(2, 10, 50, model="part")
    scene.build.link(Relation.REQUEST_CHILD, [1], [2])
    assert serving.requests_in_flight(scene.timeline()).largest == 1


def test_a_batch_knows_its_requests_and_how_long_they_waited():
    (found,) = serving.batch_forming(batched().timeline())
    assert (found.batch_count, found.mean_size, found.batches_by_size) == (2, 1.5, {1: 1, 2: 1})
    assert (found.mean_request_count, found.oldest_wait.largest, found.newest_wait.largest) == (1.5, 40, 20)
    assert found.mean_depth_at_form == 1.5


def test_batches_without_edges_have_unknown_waits():
    scene = Scene().add(Kind.BATCH, "execute", 0, 10, "m", batch=1, instance=0)
    (found,) = serving.batch_forming(scene.timeline())
    assert (found.mean_size, found.mean_request_count, found.oldest_wait, found.mean_depth_at_form) == (None,) * 4


def ensemble(gap: int = 450) -> Scene:
    """One request of an ensemble of two models, each with its own request, and a gap between the steps."""
    second = 200 + gap
    scene = Scene().request(1, 0, second + 120, "chain")
    scene.add(Kind.STEP, "conv", 10, 200, "conv", request=1, step=1)
    scene.add(Kind.STEP, "relu", second, second + 100, "relu", request=1, step=2)
    scene.request(2, 10, 200, "conv").queue(2, 10, 50, "conv").batch(7, [2], 50, 200, "conv")
    scene.request(3, second, second + 100, "relu").batch(8, [3], second, second + 100, "relu")
    scene.build.link(Relation.REQUEST_CHILD, [1, 1], [2, 3])
    return scene.work(60, 190, batch=7).work(second + 10, second + 60, batch=8)


def test_the_gap_between_the_steps_of_an_ensemble_is_found():
    (found,) = serving.step_gaps(ensemble().timeline())
    assert (found.before, found.after, found.gap.total, found.gpu_idle_ns) == ("conv", "relu", 450, 450)


def test_what_an_answer_takes_from_its_batch_to_the_next_step_is_part_of_the_gap():
    scene = Scene().request(1, 0, 500, "chain")
    for place, (begin, computed, told) in enumerate([(10, 100, 190), (200, 300, 390)]):
        scene.add(Kind.STEP, f"s{place}", begin, told, "m", request=1, step=place)
        scene.batch(7 + place, [1], begin, computed)
        scene.build.link(Relation.BATCH_STEP, 7 + place, place)
    (found,) = serving.step_gaps(scene.timeline())
    assert (found.before, found.after, found.gap.total) == ("s0", "s1", 100)


def test_models_are_told_in_the_order_of_the_steps_and_their_stages_in_that_of_time():
    scene = Scene()
    for number in range(3):
        for place, model in enumerate(("z_first", "a_second")):
            begin = 1000 * number + 100 * place
            request, batch = 10 * number + place, 20 * number + place
            scene.add(Kind.STEP, model, begin, begin + 90, model, request=number, step=batch)
            scene.add(Kind.STAGE, "compute_output", begin + 80, begin + 90, model, batch=batch)
            scene.batch(batch, [request], begin + 40, begin + 80, model)
            scene.queue(request, begin, begin + 10, model)
    scene.queue(99, 0, 5, "alone")
    timeline = scene.timeline()
    assert list(serving.queue_depths(timeline)) == ["z_first", "a_second", "alone"]
    assert [each.model for each in serving.instance_times(timeline)] == ["z_first", "a_second"]
    assert [each.model for each in serving.batch_forming(timeline)] == ["z_first", "a_second"]
    assert [(each.model, each.stage) for each in serving.stage_times(timeline)] == [
        *(
            (model, stage)
            for model in ("z_first", "a_second")
            for stage in ("queue", "compute_infer", "compute_output")
        ),
        ("alone", "queue"),
    ]


def test_steps_that_overlap_leave_no_gap():
    scene = Scene().add(Kind.STEP, "a", 0, 100, request=1, step=1).add(Kind.STEP, "b", 10, 20, request=1, step=2)
    scene.add(Kind.STEP, "c", 90, 120, request=1, step=3).add(Kind.STEP, "d", 130, 140, request=1, step=4)
    (found,) = serving.step_gaps(scene.timeline())
    assert (found.before, found.after, found.gap.total, found.gpu_idle_ns) == ("c", "d", 10, None)


def test_ranges_that_follow_each_other_in_a_range_stand_for_steps():
    capture = import_nsight.read(Path("tests/data/nsight/dev.sqlite"))
    found = {(each.before, each.after): each.gap.count for each in serving.step_gaps(capture)}
    stages = [f"serving:compute_{stage}" for stage in ("input", "infer", "output")]
    assert found == {(stages[0], stages[1]): 20, (stages[1], stages[2]): 20}


def pieces(scene: Scene, request: int = 1) -> list[tuple[str, int]]:
    path = critical_path(scene.timeline(), request)
    assert sum(piece.duration_ns for piece in path.pieces) == path.duration_ns
    return [(piece.name, piece.duration_ns) for piece in path.pieces]


def test_the_path_of_a_request_goes_through_its_steps_and_the_gap_between_them():
    assert pieces(ensemble()) == [
        ("before queue", 10),
        ("queue", 40),
        ("compute_infer", 150),
        ("between compute_infer and compute_infer", 450),
        ("compute_infer", 100),
        ("after compute_infer", 20),
    ]


def test_pieces_say_their_model_batch_and_time_on_the_gpu():
    path = critical_path(ensemble().timeline(), 1)
    computing = [piece for piece in path.pieces if piece.name == "compute_infer"]
    assert [(piece.model, piece.batch, piece.gpu_ns) for piece in computing] == [("conv", 7, 130), ("relu", 8, 50)]
    assert (path.model, path.start_ns, path.duration_ns) == ("chain", 0, 770)


def test_what_the_client_saw_beyond_the_server_is_client_and_network():
    scene = ensemble().add(Kind.CLIENT_REQUEST, "request", -500, 900, "chain", request=1)
    found = pieces(scene)
    assert found[0] == ("client and network", 510)
    assert found[-1] == ("client and network", 150)


def test_of_parallel_steps_the_one_that_ended_last_is_on_the_path():
    scene = Scene().request(1, 0, 100)
    scene.add(Kind.STEP, "left", 0, 40, request=1, step=1).add(Kind.STEP, "right", 0, 90, request=1, step=2)
    scene.add(Kind.STEP, "join", 90, 100, request=1, step=3)
    assert pieces(scene) == [("right", 90), ("join", 10)]


def test_a_request_of_which_nothing_else_is_known_is_one_wait():
    assert pieces(Scene().request(1, 0, 10)) == [("not known", 10)]


def test_the_slowest_requests_are_those_that_users_made():
    timeline = ensemble().request(9, 2000, 2900, "conv").timeline()
    assert slowest(timeline, 5) == [9, 1]


def test_a_request_that_is_not_there_is_told():
    with pytest.raises(InputError, match="has no request 77"):
        critical_path(ensemble().timeline(), 77)


PARTS = st.lists(st.tuples(st.integers(-10, 110), st.integers(0, 60)), max_size=8)


@given(PARTS)
def test_a_path_always_adds_up_to_the_request(parts):
    scene = Scene().request(1, 0, 100)
    for number, (start, length) in enumerate(parts):
        scene.add(Kind.STAGE, f"s{number}", start, start + length, request=1)
    path = critical_path(scene.timeline(), 1)
    at = 0
    for piece in path.pieces:
        assert piece.start_ns == at
        assert piece.duration_ns > 0
        at += piece.duration_ns
    assert at == 100


def test_a_difference_is_told_kernel_by_kernel():
    a = Scene().work(0, 10, name="conv").work(20, 30, name="conv").work(30, 35, name="gone").timeline()
    b = Scene().work(0, 6, name="conv").work(20, 90, name="new").timeline()
    new, conv, gone = diff(a, b).kernels
    assert (new.name, new.a, new.total_change, new.total_ratio) == ("new", None, 70, None)
    assert (conv.a.count, conv.b.count, conv.total_ratio, conv.mean_ratio) == (2, 1, 0.3, 0.6)
    assert (gone.name, gone.b, gone.total_change) == ("gone", None, -5)


def test_a_kernel_of_another_build_is_found_by_its_bare_name():
    old = "void cutlass::Kernel<cutlass_80_tensorop_s1688gemm_128x64>(T1::Params)"
    new = "void cutlass::Kernel<cutlass_90_tensorop_s1688gemm_256x128>(T1::Params)"
    (change,) = diff(Scene().work(0, 10, name=old).timeline(), Scene().work(0, 5, name=new).timeline()).kernels
    assert change.is_renamed
    assert (change.name, change.name_b, change.total_ratio) == (old, new, 0.5)


def test_a_bare_name_that_several_have_joins_nothing():
    a = Scene().work(0, 10, name="f<1>").work(10, 20, name="f<2>").timeline()
    b = Scene().work(0, 10, name="f<3>").timeline()
    assert [(each.name, each.is_renamed) for each in diff(a, b).kernels] == [
        ("f<1>", False),
        ("f<2>", False),
        ("f<3>", False),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("void at::native::elementwise_kernel<128, 2, f<g<float>>>(int, T3)", "at::native::elementwise_kernel"),
        ("sm80_xmma_gemm_f32_tilesize128x32x8_stage3", "sm#_xmma_gemm_f#_tilesize#_stage#"),
        ("gemm", "gemm"),
    ],
)
def test_a_bare_name_lacks_what_differs_between_builds(name, expected):
    assert bare(name) == expected


def test_a_capture_differs_from_itself_in_nothing():
    capture = import_nsight.read(Path("tests/data/nsight/dev.sqlite"))
    found = diff(capture, capture)
    changes = [*found.kernels, *found.copies, *found.ranges, *found.calls]
    assert len(found.kernels) == 6
    assert {(each.total_change, each.total_ratio, each.is_renamed) for each in changes} == {(0, 1.0, False)}
