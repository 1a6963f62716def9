"""Model Analyzer's keys, from its file and its flags, to settings of ours. Nothing is read here and nothing printed."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from analyzer.domain.record import Record
from analyzer.errors import UsageError
from analyzer.model_analyzer.blocks import job_of, job_of_all
from analyzer.model_analyzer.forms import model_blocks
from analyzer.model_analyzer.keys import BY_NAME, Fate
from analyzer.model_analyzer.output import Output
from analyzer.model_analyzer.place import Globals, Job
from analyzer.model_analyzer.tables import TableFields
from analyzer.settings.declared import NEEDS_CONSTRAINTS
from analyzer.settings.values import at_least, switch, text, texts, whole

T = TypeVar("T")

DEFAULT_SEARCH = "capacity"
_THEIR_OWN = frozenset(name for name, key in BY_NAME.items() if key.fate is not Fate.OURS) | {"reload_model_disable"}
_OUTPUT = (
    "export_path", "filename_model_inference", "filename_model_gpu", "filename_server_only", "inference_output_fields",
    "gpu_output_fields", "server_output_fields", "output_model_repository_path", "num_configs_per_model",
)  # fmt: skip
_FOR_ALL = {
    "constraints", "constraint", "latency_budget", "min_throughput", "gpu_memory_budget", "server_memory_budget",
}  # fmt: skip
"""Limits that hold for every model."""


class Translation(Record, frozen=True):
    """``jobs`` are settings of ours by key, a run each; ``notes`` are said once.

    ``output`` None: none of its files are wanted.
    """

    jobs: tuple[Job, ...]
    notes: tuple[str, ...]
    output: Output | None


def is_theirs(raw: Mapping[str, object], ours: Iterable[str]) -> bool:
    """A file or command line that our own options would not take: keys of theirs, blocks of models, lists of loads."""
    names = set(ours)
    if any(name in _THEIR_OWN and name not in names for name in raw):
        return True
    models, objectives = raw.get("profile_models"), raw.get("objectives")
    if isinstance(models, Mapping) or (isinstance(models, list) and any(isinstance(item, Mapping) for item in models)):
        return True
    if isinstance(objectives, (list, Mapping)) and any(str(tag).startswith("perf_") for tag in objectives):
        return True
    return any(_is_list(raw.get(load)) for load in ("concurrency", "request_rate"))


def _is_list(raw: object) -> bool:
    return isinstance(raw, (list, Mapping)) or (isinstance(raw, str) and "," in raw)


def translate(
    raw: Mapping[str, object], ours: Iterable[str], *, from_file: bool, twice: Iterable[str] = ()
) -> Translation:
    """``raw`` by key, flags over file; ``ours`` are the keys of our options; ``twice`` stood in both.

    Raises:
        UsageError: with every mistake, a line each.
    """
    own = frozenset(ours)
    mistakes = _unknown(raw, own)
    if "profile_models" in twice and from_file:
        mistakes.append("profile_models stands in the file and on the command line: give it once")
    if "weighting" in raw:
        mistakes.append("weighting is of one model: put it into the model's block")
    if _whole(raw, "num_top_model_configs", 0, mistakes) and not _FOR_ALL & raw.keys():
        mistakes.append(NEEDS_CONSTRAINTS)
    if raw.get("model_type", "generic") not in ("generic", "LLM", "llm") or str(raw.get("model_type")).lower() == "llm":
        mistakes.append("model_type takes generic: language models are not profiled yet")
    blocks = _tried(lambda: model_blocks(raw.get("profile_models", ())), "profile_models", mistakes) or {}
    theirs = from_file or any(name.startswith("run_config_search") for name in raw)
    notes = [note_of(name) for name in (*raw, *(key for block in blocks.values() for key in block)) if is_noted(name)]
    if from_file and "run_config_search_mode" not in raw:
        notes.append(
            f"no run_config_search_mode is given: the space is searched by {DEFAULT_SEARCH}, which finds what brute "
            "finds in fewer points"
        )
    every = Globals(raw=raw, ours=own, theirs=theirs, from_file=from_file)
    jobs = _jobs(every, blocks, mistakes, notes)
    output = _tried(lambda: _output(raw), "", mistakes)
    if mistakes:
        raise UsageError("\n".join(mistakes))
    wants_files = from_file or any(name in raw for name in _OUTPUT)
    return Translation(tuple(jobs), tuple(dict.fromkeys(notes)), output if wants_files else None)


def _jobs(
    every: Globals, blocks: Mapping[str, Mapping[str, object]], mistakes: list[str], notes: list[str]
) -> list[Job]:
    made = []
    together = _switch(every.raw, "run_config_profile_models_concurrently_enable", mistakes)
    try:
        if together and len(blocks) > 1:
            made.append(job_of_all(every, blocks, notes))
        else:
            made += [job_of(every, name, block, len(blocks), notes) for name, block in blocks.items()]
    except UsageError as error:
        mistakes += str(error).splitlines()
    if not blocks:
        mistakes.append("profile_models is needed: the names of the models")
    return made


def _unknown(raw: Mapping[str, object], ours: frozenset[str]) -> list[str]:
    known = [*BY_NAME, *ours]
    found = []
    for name in (name for name in raw if name not in BY_NAME and name not in ours):
        near = get_close_matches(name.replace("-", "_"), known, n=1)
        found.append(f"{name} is no option" + (f"; did you mean {near[0]}?" if near else ""))
    return found


def is_noted(name: str) -> bool:
    return name in BY_NAME and BY_NAME[name].fate is Fate.NOTED


def note_of(name: str) -> str:
    return f"{name} is accepted and not honoured: {BY_NAME[name].note}"


def _output(raw: Mapping[str, object]) -> Output:
    usual, fields = Output(), TableFields()

    def read(name: str, parse: Callable[[object], T], otherwise: T) -> T:
        try:
            return parse(raw[name]) if raw.get(name) is not None else otherwise
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None

    return Output(
        folder=read("export_path", text, usual.folder),
        inference_file=read("filename_model_inference", text, usual.inference_file),
        gpu_file=read("filename_model_gpu", text, usual.gpu_file),
        server_file=read("filename_server_only", text, usual.server_file),
        fields=TableFields(
            inference=read("inference_output_fields", texts, fields.inference),
            gpu=read("gpu_output_fields", texts, fields.gpu),
            server=read("server_output_fields", texts, fields.server),
        ),
        variants=read("output_model_repository_path", text, ""),
        may_override=read("override_output_model_repository", switch, False),
        has_summary=not read("skip_summary_reports", switch, False),
        has_detailed=not read("skip_detailed_reports", switch, False),
        configs_per_model=read("num_configs_per_model", at_least(0, whole), usual.configs_per_model),
    )


def output_of(raw: Mapping[str, object]) -> Output:
    """Raises UsageError."""
    mistakes: list[str] = []
    made = _tried(lambda: _output(raw), "", mistakes)
    if made is None:
        raise UsageError("\n".join(mistakes))
    return made


def _switch(raw: Mapping[str, object], name: str, mistakes: list[str]) -> bool:
    return bool(_tried(lambda: switch(raw.get(name, False)), name, mistakes))


def _whole(raw: Mapping[str, object], name: str, usual: int, mistakes: list[str]) -> int:
    return _tried(lambda: whole(raw.get(name, usual)), name, mistakes) or 0


def _tried(make: Callable[[], T], name: str, mistakes: list[str]) -> T | None:
    try:
        return make()
    except ValueError as error:
        mistakes.append(f"{name} {error}".strip())
        return None
