"""Where is measured, as options: this machine, or the machines of a cluster."""

from collections.abc import Iterator
from typing import Annotated

from analyzer.settings.options import option
from analyzer.settings.served import ServedSettings
from analyzer.settings.values import at_least, choice, text, whole


def core_counts(raw: object) -> tuple[int, int]:
    """``6+2``: cores of the server, cores of the load generator."""
    parts = raw.split("+") if isinstance(raw, str) else raw
    counts = [whole(part) for part in parts] if isinstance(parts, (list, tuple)) else []
    if len(counts) != 2 or min(counts) < 1:
        raise ValueError("takes the cores of the server and of the load generator, such as 6+2")
    return counts[0], counts[1]


class PlacedSettings(ServedSettings, frozen=True, kw_only=True):
    """The executor. None of this is part of a point's identity."""

    executor: Annotated[
        str,
        option(
            choice("local", "ray"),
            "Measure on this machine (local) or on those of a Ray cluster (ray).",
            "NAME",
            section="How it is measured",
        ),
    ] = "local"
    ray_address: Annotated[
        str, option(text, "Of a running cluster; auto finds it, local starts one here.", "ADDRESS")
    ] = "auto"
    parallel: Annotated[
        int | None, option(at_least(1, whole), "Points measured at a time on a cluster.  [as many as fit]", "N")
    ] = None
    ray_cpus: Annotated[
        tuple[int, int] | None,
        option(core_counts, "Cores for the server and for the load generator.  [a GPU's share, 3 to 1]", "S+C"),
    ] = None
    ray_gpus: Annotated[
        int | None, option(at_least(0, whole), "GPUs for the server.  [1 where the cluster has any]", "N")
    ] = None
    ray_resource: Annotated[
        str | None, option(text, "Only machines that offer this Ray resource: accelerator_type:H100.", "NAME")
    ] = None

    def complaints(self) -> Iterator[str]:
        yield from super().complaints()
        given = {
            "--parallel": self.parallel is not None,
            "--ray-address": self.ray_address != "auto",
            "--ray-cpus": self.ray_cpus is not None,
            "--ray-gpus": self.ray_gpus is not None,
            "--ray-resource": self.ray_resource is not None,
        }
        if self.executor == "local" and any(given.values()):
            flags = ", ".join(flag for flag, is_given in given.items() if is_given)
            yield f"{flags} goes with --executor ray: points measured together on one machine would disturb each other"
        if self.executor == "ray" and self.launch_mode != "local":
            yield "--executor ray starts servers of its own on the cluster: leave --triton-launch-mode out"
