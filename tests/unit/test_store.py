import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.domain.ledger import Candidate, LedgerEntry
from analyzer.domain.measurement import Failure
from analyzer.domain.run import ModelVariant, RunConfig, ServerConfig
from analyzer.domain.space import LoadRange, ModelSpace, SearchSpace
from analyzer.errors import InputError, UsageError
from analyzer.store import RunFolder, RunHeader, locked
from perf_client.profile import Concurrency, LoadProfile


def header(**changes) -> RunHeader:
    base = RunHeader(
        command="analyzer profile -m repo --profile-models m",
        settings={"duration_s": 1.0},
        model_specs=(),
        space=SearchSpace(models=(ModelSpace(model="m", load=LoadRange(kind="concurrency", minimum=1, maximum=8)),)),
        objectives=(),
        budgets=(),
        content="c0",
        tool_version="0",
        started_at="2026-01-01T00:00:00Z",
    )
    return msgspec.structs.replace(base, **changes)


def failure(in_flight: int) -> Failure:
    config = RunConfig(
        server=ServerConfig(variants=(ModelVariant(model="m", instance_count=2),)),
        load=LoadProfile(model="m", load=Concurrency(in_flight=in_flight)),
        content="c0",
    )
    return Failure(config=config, stage="load", reason="out of memory", measured_at="2026-01-01T00:00:00Z")


def test_outcomes_come_back_in_the_order_measured(tmp_path: Path):
    run = RunFolder.create(tmp_path / "run", header(), {"cpu": "x"})
    for n in (3, 1, 2):
        run.append(failure(n))
    again = RunFolder.open(tmp_path / "run")
    assert again.outcomes() == [failure(3), failure(1), failure(2)]
    assert again.header == header()
    assert again.environment == {"cpu": "x"}


@given(st.integers(min_value=0), st.integers(1, 4))
def test_a_file_cut_at_any_byte_loses_at_most_the_last_outcome_and_goes_on(tmp_path_factory, cut, count):
    folder = tmp_path_factory.mktemp("run")
    run = RunFolder.create(folder, header(), {})
    ends = []
    file = folder / "measurements.jsonl"
    for n in range(1, count + 1):
        run.append(failure(n))
        ends.append(file.stat().st_size)
    cut %= ends[-1] + 1
    os.truncate(file, cut)
    whole = [failure(n) for n, end in enumerate(ends, 1) if end <= cut]
    assert run.outcomes() == whole
    run.append(failure(99))
    assert run.outcomes() == [*whole, failure(99)]


def test_a_line_damaged_in_the_middle_is_named_not_skipped(tmp_path: Path):
    run = RunFolder.create(tmp_path, header(), {})
    run.append(failure(1))
    with (tmp_path / "measurements.jsonl").open("ab") as file:
        file.write(b"{not json}\n")
    with pytest.raises(InputError, match="line 2"):
        run.outcomes()


def test_a_second_process_is_refused(tmp_path: Path):
    with locked(tmp_path), pytest.raises(UsageError, match="another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--run"), locked(tmp_path / "file" / "run"):
        pass


def test_what_is_no_run_folder_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"no run\.json"):
        RunFolder.open(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path):
    RunFolder.create(tmp_path, header(format_version=99), {})
    with pytest.raises(InputError, match="format 99"):
        RunFolder.open(tmp_path)


def test_the_identity_of_a_point_is_its_content():
    assert failure(1).config.key == failure(1).config.key
    assert failure(1).config.key != failure(2).config.key


def test_the_ledger_is_kept_and_absent_until_then(tmp_path: Path):
    run = RunFolder.create(tmp_path, header(), {})
    assert run.ledger() == ()
    entry = LedgerEntry(candidate=Candidate(server=failure(1).config.server), state="failed", rule="it did not load")
    run.keep_ledger([entry])
    assert RunFolder.open(tmp_path).ledger() == (entry,)


def test_a_run_of_format_1_is_read_with_its_one_model(tmp_path: Path):
    RunFolder.create(tmp_path / "run", header(), {"cpu": "x"})
    path = tmp_path / "run" / "run.json"
    raw = msgspec.json.decode(path.read_bytes())
    axes = {"model": "m", "load": {"kind": "concurrency", "minimum": 1, "maximum": 8}, "queue_delays_us": [0, 500]}
    raw |= {"space": axes | {"batch_sizes": [1, 4]}, "format_version": 1}
    raw.pop("effort")
    path.write_bytes(msgspec.json.encode(raw))
    space = RunFolder.open(tmp_path / "run").header.space
    assert (space.model, space.batch_sizes, space.models[0].queue_delays_us) == ("m", (1, 4), (0, 500))
    assert space.load == LoadRange(kind="concurrency", minimum=1, maximum=8)


def test_a_run_of_a_later_format_says_so_before_anything_else(tmp_path: Path):
    RunFolder.create(tmp_path / "run", header(), {"cpu": "x"})
    path = tmp_path / "run" / "run.json"
    path.write_bytes(msgspec.json.encode({"format_version": 99, "something": "new"}))
    with pytest.raises(InputError, match="format 99"):
        RunFolder.open(tmp_path / "run")
