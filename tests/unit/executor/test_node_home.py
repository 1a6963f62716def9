"""What runs share on a machine: parcels by content, cores by claim, scratch folders that leave nothing."""

import os
from pathlib import Path

from analyzer.cores import CoreSplit, on_cores
from analyzer.executor.node_home import NodeHome, cores_by_sibling
from analyzer.executor.parcel import packed, unpacked


def test_a_folder_arrives_as_it_was_with_what_its_links_point_to(tmp_path: Path):
    model = tmp_path / "here" / "m"
    (model / "1").mkdir(parents=True)
    (tmp_path / "weights").write_bytes(b"\x00\x01" * 1000)
    (model / "1" / "weights").symlink_to(tmp_path / "weights")
    (model / "1" / "run.sh").write_text("true")
    (model / "1" / "run.sh").chmod(0o755)
    home = NodeHome(tmp_path / "node")
    place = unpacked(*packed(model), home.parcels) / "m"
    assert (place / "1" / "weights").read_bytes() == b"\x00\x01" * 1000
    assert not (place / "1" / "weights").is_symlink()
    assert os.access(place / "1" / "run.sh", os.X_OK)


def test_equal_content_is_one_parcel_whenever_it_was_written(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / name / "m").mkdir(parents=True)
        (tmp_path / name / "m" / "x").write_text("same")
    os.utime(tmp_path / "a" / "m" / "x", (1, 1))
    (tmp_path / "a" / "m" / "__pycache__").mkdir()
    digest, content = packed(tmp_path / "a" / "m")
    assert packed(tmp_path / "b" / "m")[0] == digest
    home = NodeHome(tmp_path / "node")
    assert unpacked(digest, content, home.parcels) == unpacked(digest, content, home.parcels)
    (tmp_path / "b" / "m" / "x").write_text("other")
    assert packed(tmp_path / "b" / "m")[0] != digest


def test_claims_on_cores_never_overlap_and_end_with_their_holder(tmp_path: Path):
    home, allowed = NodeHome(tmp_path), [0, 1, 2, 3, 4]
    with home.cores(1, 1, allowed) as first, home.cores(2, 1, allowed) as second:
        assert first == CoreSplit((0,), (1,))
        assert second == CoreSplit((2, 3), (4,))
        with home.cores(1, 1, allowed) as third:
            assert third == CoreSplit()
    with home.cores(3, 2, allowed) as again:
        assert again == CoreSplit((0, 1, 2), (3, 4))


def test_too_large_a_claim_keeps_no_core_from_others(tmp_path: Path):
    home = NodeHome(tmp_path)
    with home.cores(2, 2, [0, 1, 2]) as none, home.cores(2, 1, [0, 1, 2]) as all_of_them:
        assert none == CoreSplit()
        assert all_of_them == CoreSplit((0, 1), (2,))


def test_threads_of_one_physical_core_stand_side_by_side(tmp_path: Path):
    for core, siblings in {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}.items():
        (tmp_path / f"cpu{core}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{core}" / "topology" / "thread_siblings_list").write_text(f"{siblings}\n")
    assert cores_by_sibling([0, 1, 2, 3], tmp_path) == [0, 2, 1, 3]
    assert cores_by_sibling([3, 1], tmp_path / "nowhere") == [1, 3]


def test_a_sweep_removes_scratch_and_parcels_but_not_what_another_run_uses(tmp_path: Path):
    home = NodeHome(tmp_path)
    for name in ("left", "used"):
        (home.parcels / name).mkdir()
    (home.work / "killed").mkdir()
    with home.parcel_in_use("used"):
        home.sweep(["killed"], ["left", "used"])
    assert sorted(path.name for path in home.parcels.iterdir() if path.is_dir()) == ["used"]
    assert list(home.work.iterdir()) == []


def test_scratch_is_gone_afterwards(tmp_path: Path):
    home = NodeHome(tmp_path)
    with home.scratch("one") as folder:
        (folder / "file").write_text("x")
    assert not (home.work / "one").exists()


def test_what_is_started_runs_on_the_cores_given_and_the_starter_goes_back():
    usual = os.sched_getaffinity(0)
    core = min(usual)
    with on_cores((core,)):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == usual
    with on_cores(()):
        assert os.sched_getaffinity(0) == usual
