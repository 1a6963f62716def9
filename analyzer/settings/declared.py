"""Every option once: name, type, default and help. Flags, settings file and help text are made from this one place.

What is wanted stands in ``wanted``, the axes in ``tried``, the executor in ``placed``.
"""

from collections.abc import Iterator
from typing import Annotated

from analyzer.domain.figures import forbids_failures
from analyzer.settings.options import option
from analyzer.settings.placed import PlacedSettings
from analyzer.settings.values import at_least, choice, choices, positive, seconds, switch, text, texts, whole
from analyzer.settings.wanted import WantedSettings

_FORMATS = ("html", "pdf", "csv", "json")
_ALL_FORMATS = (*_FORMATS, "model-analyzer")
"""``model-analyzer``: the three CSV tables that Triton Model Analyzer writes."""
COLLECTORS = ("spans", "cupti", "nsys", "torch", "onnxruntime")
"""What can watch a server of ours while it is measured; a GPU has one tracer at a time."""
NEEDS_CONSTRAINTS = "num_top_model_configs compares models, so it needs constraints for all of them"


class ProfileSettings(PlacedSettings, frozen=True, kw_only=True):
    """All of ``analyzer profile``."""

    model_repository: Annotated[
        str,
        option(text, "Folder of models in Triton's layout.  [needed]", "DIR", short="-m", section="What is profiled"),
    ] = ""
    profile_models: Annotated[
        tuple[str, ...], option(texts, "Models to profile, one after another: NAME or A,B.", "NAMES")
    ]
    together: Annotated[
        bool, option(switch, "Profile the models on one device at the same time, as one answer.", "")
    ] = False
    bls_composing_models: Annotated[
        tuple[str, ...], option(texts, "Models that the profiled model calls; they are varied with it.", "NAMES")
    ] = ()
    run: Annotated[str | None, option(text, "Folder of this run; taken up again if it exists.  [runs/NAME]", "DIR")] = (
        None
    )

    search: Annotated[
        str,
        option(
            choice("capacity", "brute", "quick", "optuna"),
            "How the space is searched: capacity, brute, quick or optuna.",
            "NAME",
            section="How it is measured",
        ),
    ] = "capacity"
    dry_run: Annotated[
        bool, option(switch, "Say how large the space is and what would be tried; measure nothing.", "")
    ] = False
    time_limit_s: Annotated[
        float | None, option(positive(seconds), "Give the best answer within this time.", "10m", key="time_limit")
    ] = None
    duration_s: Annotated[
        float, option(positive(seconds), "How long a leading point is measured.", "5s", key="duration")
    ] = 5.0
    screen_duration_s: Annotated[
        float, option(positive(seconds), "How long a point is measured at first.", "2s", key="screen_duration")
    ] = 2.0
    warmup_s: Annotated[
        float | None, option(at_least(0, seconds), "Cut from the front.  [found by MSER-5]", "1s", key="warmup")
    ] = None
    server_warmup_s: Annotated[
        float,
        option(at_least(0, seconds), "Load on a fresh server before anything counts.", "1s", key="server_warmup"),
    ] = 0.5
    timeout_s: Annotated[
        float, option(positive(seconds), "A request without an answer by then failed.", "30s", key="timeout")
    ] = 30.0
    sample_interval_s: Annotated[
        float, option(positive(seconds), "Between samples of host and GPU.", "100ms", key="sample_interval")
    ] = 0.1
    collect: Annotated[
        tuple[str, ...],
        option(
            choices("auto", "none", *COLLECTORS),
            "Timelines to keep of each point: spans,cupti,nsys,torch,onnxruntime or none; auto is spans.",
            "LIST",
        ),
    ] = ("auto",)
    capture_duration_s: Annotated[
        float,
        option(
            positive(seconds),
            "How long cupti, nsys, torch or onnxruntime watch each point, after its figures were taken without them.",
            "2s",
            key="capture_duration",
        ),
    ] = 2.0
    measure_overhead: Annotated[
        str,
        option(
            choice("auto", "on", "off"),
            "Measure at the end what collecting does to the answer's figures; auto: for all but spans.",
            "WHEN",
        ),
    ] = "auto"
    nsys: Annotated[str, option(text, "Nsight Systems' command.", "PATH")] = "nsys"
    seed: Annotated[int, option(at_least(0, whole), "Seed of arrivals and random inputs.", "N")] = 0
    formats: Annotated[
        tuple[str, ...],
        option(
            choices(*_ALL_FORMATS),
            "Reports to write: html,pdf,csv,json,model-analyzer.",
            "LIST",
            section="What is written",
        ),
    ] = _FORMATS
    num_top_model_configs: Annotated[
        int, option(at_least(0, whole), "Of several models, list the N best configurations over all of them.", "N")
    ] = 0

    @property
    def collectors(self) -> tuple[str, ...]:
        """Spans come with every other: they say what the GPU's work was for."""
        if "none" in self.collect:
            return ()
        return tuple(name for name in COLLECTORS if name == "spans" or name in self.collect)

    @property
    def has_capture_windows(self) -> bool:
        """Whether something is to be collected that would slow the server while figures are taken."""
        return any(name != "spans" for name in self.collectors)

    @property
    def weighed(self) -> tuple[str, ...]:
        """Collectors whose cost is to be measured."""
        if self.measure_overhead == "off" or (self.measure_overhead == "auto" and not self.has_capture_windows):
            return ()
        return self.collectors

    def complaints(self) -> Iterator[str]:
        yield from super().complaints()
        if not self.model_repository and self.launch_mode != "remote":
            yield "--model-repository is needed"
        if len(set(self.profile_models)) < len(self.profile_models) or not self.profile_models:
            yield "--profile-models takes the name of each model once"
        if len(set(self.collect) & {"cupti", "nsys", "torch"}) > 1:
            yield "--collect takes one of cupti, nsys and torch: a process can have one GPU tracer at a time"
        if len(self.collect) > 1 and "none" in self.collect:
            yield "--collect none goes alone"
        if self.measure_overhead == "on" and not self.collectors:
            yield "--measure-overhead on needs something that is collected: leave --collect none out"
        if self.num_top_model_configs and all(forbids_failures(budget) for budget in self.budgets):
            yield NEEDS_CONSTRAINTS
        if self.together and len(self.profile_models) == 1:
            yield "--together takes several models: name them with --profile-models A,B"
        if self.bls_composing_models and len(self.profile_models) > 1:
            yield "--bls-composing-models goes with one profiled model: profile the others in a run of their own"
        if self.streams is not None and self.together:
            yield "--streams are of one model: leave --together out, or give --request-rate"
        if self.loads and not self.together:
            yield "--load is for models that are profiled together: give --concurrency or --request-rate"
        unknown = self.loads.keys() - set(self.profile_models)
        if self.together and unknown:
            yield f"--load names {', '.join(sorted(unknown))}, which --profile-models does not"


class ReportSettings(WantedSettings, frozen=True):
    """All of ``analyzer report``. A limit or objective given here replaces those of the run."""

    output: Annotated[
        str | None,
        option(text, "Folder to write into.  [that of RUN]", "DIR", short="-o", section="What is written"),
    ] = None
    formats: Annotated[
        tuple[str, ...],
        option(choices(*_ALL_FORMATS), "Reports to write: html,pdf,csv,json,model-analyzer.", "LIST"),
    ] = _FORMATS
    num_top_model_configs: Annotated[
        int | None,
        option(at_least(0, whole), "Of several models, list the N best configurations over all of them.  [5]", "N"),
    ] = None
