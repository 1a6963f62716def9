"""A Ray cluster, as far as measuring needs it: its machines, room for a candidate on one of them, and cleaning up."""

import os
import secrets
import socket
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any

from analyzer.errors import AnalyzerError, MissingExtraError, UsageError
from analyzer.executor import ray_node
from analyzer.executor.bundles import Bundle, Node
from analyzer.executor.parcel import Parcel, packed
from perf_client.version import __version__

CLOSE_TIMEOUT_S = 35.0
"""For a server to drain and end; what is left then is ended with its actor."""
SWEEP_TIMEOUT_S = 30.0
REACH_TIMEOUT_S = 5.0


class Cluster:
    """A connection to a cluster. One that this process has already is used, and kept."""

    def __init__(self, address: str) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("--executor ray needs Ray: pip install 'serving-analyzer[ray]'") from error
        self.ray: Any = ray
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            _connect(ray, address)

    def close(self) -> None:
        if self._is_ours:
            self.ray.shutdown()

    def nodes(self) -> list[Node]:
        """Those that are alive."""
        return [Node(each["NodeID"], each["Resources"]) for each in self.ray.nodes() if each["Alive"]]

    def probed(self, nodes: Sequence[Node]) -> list[Node]:
        """With their environment records. Refuses machines that have another version of this program."""
        ask = self.ray.remote(num_cpus=0, max_retries=0)(ray_node.probe)
        answers = [ask.options(scheduling_strategy=self._on(node.id)).remote() for node in nodes]
        try:
            records = self.ray.get(answers)
        except self.ray.exceptions.RayError as error:
            raise UsageError(
                f"a machine of the cluster can't measure ({_last_line(error)}); "
                f"install serving-analyzer {__version__} with what the models need on each"
            ) from error
        for record in records:
            if record["analyzer"] != __version__:
                raise UsageError(
                    f"a machine of the cluster has version {record['analyzer']} of this program, here is "
                    f"{__version__}; install the same on each"
                )
        return [Node(node.id, node.resources, record) for node, record in zip(nodes, records)]

    def parcel(self, path: Any) -> Parcel:
        digest, content = packed(path)
        return Parcel(path.name, digest, self.ray.put(content))

    def lease(self, bundle: Bundle, avoided: Collection[str] = ()) -> "Lease":
        return Lease(self.ray, bundle, avoided)

    def result(self, reference: Any) -> Any:
        """Of a call to an actor.

        Raises:
            LostError: the machine, or the process there, is gone.
        """
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, AnalyzerError):
                raise error.cause from None
            raise
        except self.ray.exceptions.RayError as error:
            raise LostError(_last_line(error)) from error

    def sweep(self, leases: Iterable["Lease"], digests: Sequence[str]) -> None:
        """On each machine that was used. One that is gone, or busy for too long, is left as it is."""
        by_node: dict[str, list[str]] = {}
        for lease in leases:
            if lease.node_id:
                by_node.setdefault(lease.node_id, []).append(lease.name)
        work = self.ray.remote(num_cpus=0, max_retries=0)(ray_node.sweep)
        alive = {node.id for node in self.nodes()}
        calls = [
            work.options(scheduling_strategy=self._on(node)).remote(tuple(names), tuple(digests))
            for node, names in by_node.items()
            if node in alive
        ]
        if calls:
            self.ray.wait(calls, num_returns=len(calls), timeout=SWEEP_TIMEOUT_S)

    def _on(self, node_id: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node_id, soft=False)


class LostError(Exception):
    """What was being measured is lost with the process or the machine that measured it."""


class Lease:
    """Room for one candidate: a placement group on one machine and the actor in it."""

    def __init__(self, ray: Any, bundle: Bundle, avoided: Collection[str]) -> None:
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._ray = ray
        self.name = secrets.token_hex(8)
        server: dict[str, float] = {"CPU": bundle.server_cpus}
        if bundle.gpus:
            server["GPU"] = bundle.gpus
        if bundle.resource:
            server[bundle.resource] = 0.001
        elsewhere = {"ray.io/node-id": f"!in({','.join(sorted(avoided))})"}
        self._group = placement_group(
            [server, {"CPU": bundle.client_cpus}],
            strategy="STRICT_PACK",
            bundle_label_selector=[elsewhere, elsewhere] if avoided else None,
        )
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=0)
        actor = ray.remote(ray_node.MeasuringNode)
        options = {"num_cpus": bundle.server_cpus, "num_gpus": bundle.gpus, "max_restarts": 0, "max_task_retries": 0}
        self.actor = actor.options(scheduling_strategy=place, **options).remote(self.name)
        self._node = self.actor.node.remote()

    @property
    def node_id(self) -> str:
        """Where it is; empty as long as it waits for room."""
        try:
            return str(self._ray.get(self._node, timeout=0))
        except self._ray.exceptions.RayError:
            return ""

    def close(self) -> None:
        """Give the room back, its server ended in order."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.wait([self.actor.close.remote()], timeout=CLOSE_TIMEOUT_S)
        self.drop()

    def drop(self) -> None:
        """Give the room back at once; the server ends with the actor."""
        from ray.util.placement_group import remove_placement_group

        self._ray.kill(self.actor, no_restart=True)
        remove_placement_group(self._group)


def _connect(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": "error"}
    try:
        if address == "local":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            _reach(address)
            ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        named = "no Ray cluster runs here" if address == "auto" else f"no Ray cluster answers at {address}"
        raise UsageError(
            f"{named} ({_last_line(error)}); start one with `ray start --head`, or give --ray-address local"
        ) from error


def _reach(address: str) -> None:
    """Ray itself tries for minutes. Raises OSError or ValueError."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=REACH_TIMEOUT_S).close()


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
