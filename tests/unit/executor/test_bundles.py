"""What a candidate is given of a cluster, and which clusters are refused."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.domain.run import Edit, ModelVariant, ServerConfig
from analyzer.errors import UsageError
from analyzer.executor.bundles import Bundle, Node, bundle_for, gpus_named, of_one_kind, room_on
from analyzer.executor.ray_executor import with_called
from tests.fakes.repositories import write_ensemble

HEAD = Node("head", {"CPU": 4.0})
GPU8 = Node("a", {"CPU": 96.0, "GPU": 8.0, "accelerator_type:H100": 1.0})
GPU1 = Node("b", {"CPU": 16.0, "GPU": 1.0})


@pytest.mark.parametrize(
    ("nodes", "given", "bundle"),
    [
        ([HEAD], {}, Bundle(3, 1, 0)),
        ([Node("one", {"CPU": 2.0})], {}, Bundle(1, 1, 0)),
        ([HEAD, GPU8], {}, Bundle(9, 3, 1)),
        ([GPU8, GPU1], {}, Bundle(9, 3, 1)),
        ([GPU8, GPU1], {"gpus": 2}, Bundle(18, 6, 2)),
        ([HEAD, GPU8], {"gpus": 0, "cpus": (2, 1)}, Bundle(2, 1, 0)),
        ([GPU8, GPU1], {"resource": "accelerator_type:H100"}, Bundle(9, 3, 1, "accelerator_type:H100")),
    ],
)
def test_a_candidate_gets_a_gpu_with_its_share_of_cores_unless_told_otherwise(nodes, given, bundle):
    assert bundle_for(nodes, **given) == bundle


@pytest.mark.parametrize(
    "given", [{"gpus": 9}, {"cpus": (96, 1)}, {"resource": "accelerator_type:L4"}], ids=["gpus", "cpus", "resource"]
)
def test_a_cluster_without_the_room_is_refused(given):
    with pytest.raises(UsageError, match="no machine of the cluster has"):
        bundle_for([HEAD, GPU8], **given)


def test_as_many_candidates_run_as_cores_and_gpus_of_fitting_machines_allow():
    assert room_on([HEAD, GPU8, GPU1], Bundle(9, 3, 1)) == 9
    assert room_on([HEAD, GPU8, GPU1], Bundle(24, 8, 1)) == 3
    assert room_on([HEAD], Bundle(1, 1, 0)) == 2


def machine(cpu: str, *gpus: str) -> Node:
    return Node(cpu, {}, {"cpu": cpu, "gpus": list(gpus), "cores": 8})


def test_machines_of_one_kind_stand_for_each_other_whatever_their_number_of_gpus():
    assert of_one_kind([machine("X", "H100", "H100"), machine("X", "H100")])["gpus"] == ["H100", "H100"]


@pytest.mark.parametrize("other", [machine("Y", "H100"), machine("X", "L4"), machine("X")], ids=["cpu", "gpu", "none"])
def test_machines_that_differ_are_refused_and_named(other: Node):
    with pytest.raises(UsageError, match=r"differ \(X with H100; .*--ray-resource"):
        of_one_kind([machine("X", "H100"), other])


def test_a_configuration_that_names_gpus_needs_as_many():
    config = text_format.Parse('name: "m" instance_group { count: 1 kind: KIND_GPU }', ModelConfig())
    plain = ServerConfig(variants=(ModelVariant(model="m"),))
    named = ServerConfig(variants=(ModelVariant(model="m", edits=(Edit(path="instance_group.gpus", value=(0, 2)),)),))
    assert gpus_named({"m": config}, plain) == 0
    assert gpus_named({"m": config}, named) == 3


def test_the_models_that_an_ensemble_calls_travel_with_it(tmp_path: Path):
    write_ensemble(tmp_path, "chain")
    names = with_called(tmp_path, ["chain"])
    assert names[0] == "chain"
    assert set(names) == {path.name for path in tmp_path.iterdir()}
