"""Checkpoints of Triton Model Analyzer for tests: those it wrote, and the same content in its older layout."""

import copy
import gzip
import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data" / "model_analyzer"


def content(name: str) -> bytes:
    """The checkpoint ``single-model``, ``multi-model`` or ``older-layout``."""
    plain = DATA / name / "0.ckpt"
    return plain.read_bytes() if plain.is_file() else gzip.decompress((DATA / name / "0.ckpt.gz").read_bytes())


def tree(name: str) -> dict[str, Any]:
    """The same as objects, to be changed."""
    loaded: dict[str, Any] = json.loads(content(name))
    return loaded


def folder(path: Path, checkpoint: bytes | dict[str, Any], number: int = 0) -> Path:
    """A checkpoint folder that holds it."""
    path.mkdir(parents=True, exist_ok=True)
    raw = checkpoint if isinstance(checkpoint, bytes) else json.dumps(checkpoint).encode()
    (path / f"{number}.ckpt").write_bytes(raw)
    return path


def in_older_layout(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """As versions before 2023 kept it: one ``_model_config``, called as the variant."""
    made = copy.deepcopy(checkpoint)
    for run in run_configs(made):
        for part in run["_model_run_configs"]:
            variant = part.pop("_model_config_variant")
            part["_model_config"] = variant["model_config"] | {
                "name": variant["variant_name"],
                "cpu_only": variant["cpu_only"],
            }
            part.pop("_composing_config_variants")
    return made


def run_configs(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    by_model = checkpoint["ResultManager.results"]["_results"]
    return [entry[0] for entries in by_model.values() for entry in entries.values()]


def measured(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    by_model = checkpoint["ResultManager.results"]["_results"]
    return [point for entries in by_model.values() for entry in entries.values() for point in entry[1].values()]


def in_newer_layout(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The other way round."""
    made = copy.deepcopy(checkpoint)
    for run in run_configs(made):
        for part in run["_model_run_configs"]:
            config = part.pop("_model_config")
            name, cpu_only = config["name"], config.pop("cpu_only")
            part["_model_config_variant"] = {
                "model_config": config | {"name": part["_model_name"]},
                "variant_name": name,
                "cpu_only": cpu_only,
            }
    return made
