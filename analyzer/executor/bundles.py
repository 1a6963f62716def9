"""What a candidate needs of a cluster, and which machines have it. Pure: nodes in, sizes and refusals out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.domain.run import ServerConfig
from analyzer.errors import UsageError
from analyzer.repository import varied_all

CLIENT_SHARE = 4
"""One core in so many goes to the load generator, unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster. ``resources`` are what Ray says it has in all, ``machine`` its environment record."""

    id: str
    resources: Mapping[str, float]
    machine: Mapping[str, Any] = field(default_factory=dict)

    def count(self, resource: str) -> int:
        return int(self.resources.get(resource, 0))


@dataclass(frozen=True, slots=True)
class Bundle:
    """Room for one candidate on one machine: cores and GPUs of the server, and cores of the load generator beside it.

    ``resource`` is what a machine must offer besides; none of it is used up.
    """

    server_cpus: int
    client_cpus: int
    gpus: int
    resource: str = ""

    @property
    def cpus(self) -> int:
        return self.server_cpus + self.client_cpus

    def fits(self, node: Node) -> bool:
        has = not self.resource or node.resources.get(self.resource, 0) > 0
        return has and node.count("CPU") >= self.cpus and node.count("GPU") >= self.gpus

    def __str__(self) -> str:
        parts = [f"{self.cpus} CPUs", f"{self.gpus} GPUs" if self.gpus else "", self.resource]
        return " and ".join(part for part in parts if part)


def bundle_for(
    nodes: Sequence[Node], cpus: tuple[int, int] | None = None, gpus: int | None = None, resource: str = ""
) -> Bundle:
    """The room of a candidate: what was asked, else one GPU where there are any, with its share of a machine's cores.

    Raises:
        UsageError: no machine has that much.
    """
    offering = [node for node in nodes if not resource or node.resources.get(resource, 0) > 0]
    wanted = gpus if gpus is not None else int(any(node.count("GPU") for node in offering))
    able = [node for node in offering if node.count("GPU") >= wanted]
    if cpus is None:
        share = min((node.count("CPU") // max(1, node.count("GPU") // max(1, wanted)) for node in able), default=2)
        client = max(1, share // CLIENT_SHARE)
        cpus = max(1, share - client), client
    bundle = Bundle(*cpus, gpus=wanted, resource=resource)
    if not any(bundle.fits(node) for node in nodes):
        raise UsageError(
            f"no machine of the cluster has {bundle}; give less with --ray-cpus S+C and --ray-gpus N, "
            "or add machines to the cluster"
        )
    return bundle


def of_one_kind(nodes: Sequence[Node]) -> dict[str, Any]:
    """The environment record that stands for all of them.

    Raises:
        UsageError: figures of different machines can't be compared.
    """
    kinds: dict[tuple[str, tuple[str, ...]], Node] = {}
    for node in nodes:
        kinds.setdefault((node.machine["cpu"], tuple(sorted(set(node.machine["gpus"])))), node)
    if len(kinds) > 1:
        told = "; ".join(" with ".join([cpu, *gpus]) for cpu, gpus in kinds)
        raise UsageError(
            f"the machines of the cluster differ ({told}), and their figures can't be compared; "
            "name a resource that only one kind offers with --ray-resource"
        )
    return dict(nodes[0].machine)


def room_on(nodes: Iterable[Node], bundle: Bundle) -> int:
    """How many candidates fit at the same time."""
    return sum(
        min(node.count("CPU") // bundle.cpus, node.count("GPU") // bundle.gpus if bundle.gpus else node.count("CPU"))
        for node in nodes
        if bundle.fits(node)
    )


def gpus_named(configs: Mapping[str, ModelConfig], server: ServerConfig) -> int:
    """How many GPUs a server configuration counts on: up to the highest that an instance group names."""
    groups = (group for config in varied_all(configs, server).values() for group in config.instance_group)
    return max((gpu + 1 for group in groups for gpu in group.gpus), default=0)
