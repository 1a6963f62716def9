"""Summaries and differences of timelines as text of at most 80 columns."""

from collections.abc import Iterable, Sequence

from analyzer.timeline.analyses.busy import Busy
from analyzer.timeline.analyses.counters import CounterSum
from analyzer.timeline.analyses.critical_path import CriticalPath
from analyzer.timeline.analyses.diff import Change, Difference
from analyzer.timeline.analyses.idle import Gap, Idle, Side
from analyzer.timeline.kernel_names import labels, short_name
from analyzer.timeline.summary import GpuSummary, ServerSummary, Summary

WIDTH = 80
MOST_STAGES = 48
"""Of these the whole list is wanted, unless there are a great many models."""
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"))


def summary_lines(summary: Summary, count: int) -> list[str]:
    """The whole summary, with ``count`` rows of each table."""
    producer = f"{summary.meta.producer} {summary.meta.producer_version}".strip()
    lines = [_fit(f"{summary.source}"), f"{producer}, {summary.event_count:,} events, {time(summary.span_ns)}"]
    lines += _warnings(summary)
    if summary.gpu is not None:
        lines += _gpu(summary.gpu, count)
    lines += _server(summary.server, count)
    lines += _table(
        "Ranges",
        ("total", "count", "mean", ""),
        [(time(r.spread.total), f"{r.spread.count:,}", time(r.spread.mean), r.name) for r in summary.ranges[:count]],
    )
    for title, sums in (("Operators", summary.operators), ("Calls of the CUDA runtime", summary.calls)):
        rows = [(time(s.spread.total), f"{s.spread.count:,}", time(s.spread.mean), s.name) for s in sums[:count]]
        lines += _table(title, ("total", "count", "mean", ""), rows)
    counters = [(_amount(c.mean, c.unit), _amount(c.most, c.unit), _counter_name(c)) for c in summary.counters]
    return lines + _table("Counters", ("mean", "most", ""), counters)


def _warnings(summary: Summary) -> list[str]:
    told = list(summary.meta.warnings)
    if summary.gpu_absent and summary.gpu_absent not in told:
        told.append(summary.gpu_absent)
    told += [f"{dropped:,} events of kind {kind} were dropped" for kind, dropped in summary.meta.dropped.items()]
    return [line for doubt in told for line in _wrapped(f"! {doubt}")]


def _gpu(gpu: GpuSummary, count: int) -> list[str]:
    lines: list[str] = []
    for busy, idle in zip(gpu.busy, gpu.idle, strict=True):
        lines += _device(busy, idle)
    lines += _launches(gpu)
    lines += _table("Longest gaps", ("gap", "cause", ""), [_gap(gap) for gap in gpu.gaps[:count]])
    known = labels(k.name for k in gpu.kernels[:count])
    kernels = [
        (f"{k.share_ratio:.1%}", f"{k.spread.count:,}", time(k.spread.mean), known[k.name]) for k in gpu.kernels[:count]
    ]
    lines += _table("Kernels", ("of time", "count", "mean", ""), kernels)
    copies = [
        (
            time(c.total_ns),
            f"{c.count:,}",
            size(c.bytes),
            time(c.exposed_ns),
            f"{c.direction}, {c.source} to {c.destination}",
        )
        for c in gpu.copies[:count]
    ]
    lines += _table("Copies", ("total", "count", "size", "not hidden", ""), copies)
    ranges = [
        (time(r.projected.total), f"{r.projected.count:,}", time(r.projected.mean), f"{r.work_count:,}", r.name)
        for r in gpu.projected_ranges[:count]
    ]
    lines += _table("Ranges on the GPU", ("total", "count", "mean", "operations", ""), ranges)
    shared = [
        (f"{each.shared_ratio:.1%}", str(len(each.lanes)), each.group) for each in gpu.streams if len(each.lanes) > 1
    ]
    return lines + _table("Streams at work together", ("of time", "streams", ""), shared)


def _device(busy: Busy, idle: Idle) -> list[str]:
    number = f"GPU {busy.device}"
    device = number if busy.name == number else f"{number} {busy.name}"  # a capture that names no device
    lines = ["", _fit(f"{device}: {time(busy.span_ns)} from first to last operation")]
    lines.append(f"  kernels               {time(busy.kernels_ns):>9} {busy.kernels_ratio:7.1%}")
    lines.append(f"  kernels and copies    {time(busy.activity_ns):>9} {busy.activity_ratio:7.1%}")
    lines.append(f"  idle                  {time(idle.idle_ns):>9} {idle.idle_ns / max(idle.span_ns, 1):7.1%}")
    for each in idle.causes:
        share = each.time_ns / max(idle.span_ns, 1)
        lines.append(f"    {each.cause:<20}{time(each.time_ns):>9} {share:7.1%}  {each.gap_count:,} gaps")
    return lines


def _launches(gpu: GpuSummary) -> list[str]:
    if gpu.launches.delay is None:
        return []
    delay, deepest = gpu.launches.delay, max((queue.largest for queue in gpu.queues), default=0)
    return [
        f"  launch to start       {time(delay.median):>9} median, {time(delay.largest)} at most; "
        f"{deepest:,} queued at most"
    ]


def _gap(gap: Gap) -> tuple[str, ...]:
    return time(gap.duration_ns), gap.cause.value, f"{_side(gap.before, 24)} -> {_side(gap.after, 24)}"


def _side(side: Side, width: int) -> str:
    """The range that launched an operation, or else its model, tells more than the name of a kernel."""
    return shorten(side.range or side.model or short_name(side.name), width)


def _server(server: ServerSummary, count: int) -> list[str]:
    instances = [
        (f"{each.batch_count:,}", time(each.execute.mean), time(each.busy_ns), f"{each.model} instance {each.instance}")
        for each in server.instances[:count]
    ]
    lines = _table("Instances", ("batches", "mean", "busy", ""), instances)
    stages = [
        (
            time(each.spread.mean),
            time(each.spread.median),
            f"{each.spread.count:,}",
            f"step {each.stage}" if place >= len(server.stages) else f"{each.model} {each.stage}".strip(),
        )
        for place, each in enumerate((*server.stages, *server.steps)[: max(MOST_STAGES, count)])
    ]
    lines += _table("Stages and steps", ("mean", "median", "count", ""), stages)
    gaps = [
        (time(each.gap.median), time(each.gap.total), f"{each.gap.count:,}", f"{each.before} -> {each.after}")
        for each in server.step_gaps[:count]
    ]
    lines += _table("Gaps between steps", ("median", "total", "count", ""), gaps)
    shared = [
        (f"{each.shared_ratio:.1%}", str(len(each.lanes)), each.group)
        for each in server.instance_overlap
        if len(each.lanes) > 1
    ]
    lines += _table("Instances at work together", ("of time", "instances", ""), shared)
    lines += _batches(server)
    queues = [(f"{each.mean:.1f}", str(each.p99), str(each.largest), each.queue) for each in server.queues[:count]]
    lines += _table("Requests in queue", ("mean", "p99", "most", ""), queues)
    for path in server.paths:
        lines += _path(path)
    return lines


def _batches(server: ServerSummary) -> list[str]:
    rows = []
    for each in server.batches:
        mean = "-" if each.mean_size is None else f"{each.mean_size:.1f}"
        wait = "-" if each.oldest_wait is None else time(each.oldest_wait.median)
        rows.append((f"{each.batch_count:,}", mean, wait, each.model))
    return _table("Batches", ("count", "mean size", "oldest waited", ""), rows)


def _path(path: CriticalPath) -> list[str]:
    rows = []
    for piece in path.pieces:
        where = " ".join(part for part in (piece.model, f"batch {piece.batch}" if piece.batch >= 0 else "") if part)
        share = piece.duration_ns / max(path.duration_ns, 1)
        on_gpu = "-" if piece.is_wait or not piece.gpu_ns else time(piece.gpu_ns)
        rows.append((time(piece.duration_ns), f"{share:.1%}", on_gpu, f"{piece.name} {where}".strip()))
    who = f"{path.standing.capitalize()} request" if path.standing else "Request"
    title = f"{who} {path.request} {path.model}: {time(path.duration_ns)}, piece by piece"
    return _table(title, ("time", "share", "on GPU", ""), rows)


def diff_lines(difference: Difference, a: str, b: str, count: int) -> list[str]:
    """What changed from a to b, the largest change first."""
    lines = [_fit(f"a: {a}"), _fit(f"b: {b}")]
    for mark, devices in (("a", difference.busy_a), ("b", difference.busy_b)):
        lines += [
            f"{mark}: GPU {each.device} kernels {each.kernels_ratio:.1%}, kernels and copies {each.activity_ratio:.1%} "
            f"of {time(each.span_ns)}"
            for each in devices
        ] or [f"{mark}: no GPU activity in the capture"]
    each_of = ""
    if difference.per:
        counts = f"{difference.count_a:,} in a, {difference.count_b:,} in b"
        each_of = f", of one {difference.per}"
        lines.append(_fit(f"totals and counts are of one {difference.per}: {counts}"))
    known = labels(each.name for each in difference.kernels[:count])
    for title, changes in (
        ("Kernels", difference.kernels),
        ("Copies", difference.copies),
        ("Ranges", difference.ranges),
        ("Operators", difference.operators),
        ("Calls of the CUDA runtime", difference.calls),
    ):
        heads = ("a total", "b total", "b/a", "mean b/a", "count", "")
        lines += _table(f"{title}{each_of}", heads, _changes(changes[:count], known))
    return lines


def _changes(changes: Iterable[Change], known: dict[str, str]) -> list[tuple[str, ...]]:
    rows = []
    for each in changes:
        sides = list(zip((each.a, each.b), each.totals, each.per, strict=True))
        totals = [time(total) if side else "-" for side, total, _ in sides]
        ratios = ["-" if ratio is None else f"{ratio:.2f}" for ratio in (each.total_ratio, each.mean_ratio)]
        counts = " ".join(_times(side.count, per) if side else "-" for side, _, per in sides)
        rows.append(
            (*totals, *ratios, counts, known.get(each.name, each.name) + (" (renamed)" if each.is_renamed else ""))
        )
    return rows


def _times(count: int, per: int) -> str:
    return f"{count:,}" if per == 1 else f"{round(count / per, 2):,g}"


def _table(title: str, heads: Sequence[str], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Right-aligned figures and, last, a name that gets the rest of the line. No rows, no table."""
    if not rows:
        return []
    widths = [max(len(row[place]) for row in (heads, *rows)) for place in range(len(heads) - 1)]
    lines = ["", _fit(title)]
    for row in (heads, *rows):
        figures = "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=False))
        lines.append(f"  {figures}  {shorten(row[-1], WIDTH - len(figures) - 4)}".rstrip())
    return lines


def time(value_ns: float) -> str:
    """Three digits or so, with the unit that fits: ``450 µs``, ``2.05 ms``."""
    for factor, unit in _UNITS:
        if abs(value_ns) >= factor:
            scaled = value_ns / factor
            return (
                f"{scaled:.2f} {unit}"
                if scaled < 10
                else f"{scaled:.1f} {unit}"
                if scaled < 100
                else f"{scaled:,.0f} {unit}"
            )
    return f"{value_ns:.0f} ns"


def size(value_bytes: int) -> str:
    for factor, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value_bytes >= factor:
            return f"{value_bytes / factor:.1f} {unit}"
    return f"{value_bytes} B"


def _amount(value: float, unit: str) -> str:
    if unit in ("B", "B/s"):
        return size(round(value)) + unit[1:]
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 or not value else f"{value:.2g}"
    return f"{text}{unit}" if unit.startswith("%") else f"{text} {unit}".rstrip()


def _counter_name(counter: CounterSum) -> str:
    return f"GPU {counter.device} {counter.name}" if counter.device >= 0 else counter.name


def shorten(text: str, width: int) -> str:
    """The begin and the end of a name that is too long: both tell kernels apart."""
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    tail = width // 3
    return f"{text[: width - tail - 1]}…{text[len(text) - tail :]}"


def _fit(text: str) -> str:
    return shorten(text, WIDTH)


def _wrapped(text: str) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = " "
        line = f"{line} {word}".removeprefix(" ") if not line else f"{line} {word}"
    return [*lines, line]
