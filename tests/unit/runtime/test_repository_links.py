import asyncio
from pathlib import Path

import pytest

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.links import refuse_links_out
from tests.fakes.opened_store import opened_store
from tests.fakes.repositories import write_simulated


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A repository with one model, and a folder beside it with a file and a folder."""
    repository, outside = tmp_path / "models", tmp_path / "models-store"
    write_simulated(repository, "m")
    (outside / "deep").mkdir(parents=True)
    (outside / "weights").write_text("w")
    return repository, outside


INSIDE = {
    "a file of another version": ("m/2", "../m/1"),
    "a volume of Kubernetes": ("m/..data", "1"),
    "what a hidden link leads to": ("m/labels.txt", "..data/labels.txt"),
    "a folder above, in a circle": ("m/1/again", "../.."),
    "nothing yet": ("m/1/later.onnx", "../../store/later.onnx"),
}

OUTSIDE = {
    "a file": ("m/1/model.onnx", "../../../models-store/weights"),
    "a folder": ("m/2", "../../models-store/deep"),
    "nothing yet": ("m/1/x", "../../../models-store/later"),
    "a folder whose name begins as the repository's": ("m/labels", "../../models-store"),
    "the file system's top": ("m/top", "/"),
}


@pytest.mark.parametrize("case", INSIDE.values(), ids=INSIDE)
def test_links_that_stay_in_the_repository_are_followed(places, case):
    link, target = case
    (places[0] / link).symlink_to(target)
    refuse_links_out(places[0], "m", places[:1])


@pytest.mark.parametrize("case", OUTSIDE.values(), ids=OUTSIDE)
def test_links_that_leave_the_repository_are_refused(places, case):
    link, target = case
    (places[0] / link).symlink_to(target)
    with pytest.raises(
        ModelError, match=f"the link '{link}' leads out of the model repository; allow .*--allow-links-to"
    ):
        refuse_links_out(places[0], "m", places[:1])


def test_links_may_lead_where_that_is_allowed_and_no_further(places):
    repository, outside = places
    (repository / "m" / "2").symlink_to(outside / "deep")
    refuse_links_out(repository, "m", places)
    (outside / "deep" / "secret").symlink_to("/etc/hostname")
    with pytest.raises(ModelError, match="'m/2/secret'"):
        refuse_links_out(repository, "m", places)
    refuse_links_out(repository, "m", (repository, Path("/")))


def test_a_repository_that_is_itself_reached_by_a_link_is_no_escape(places, tmp_path: Path):
    (tmp_path / "current").symlink_to("models")
    (places[0] / "m" / "2").symlink_to("1")
    refuse_links_out(tmp_path / "current", "m", (tmp_path / "current",))


@pytest.mark.parametrize("allowed", [False, True])
def test_a_model_that_is_a_link_is_served_where_allowed_and_says_why_it_is_not(tmp_path: Path, allowed: bool):
    write_simulated(tmp_path / "store", "linked")
    write_simulated(tmp_path / "models", "m")
    (tmp_path / "models" / "linked").symlink_to(tmp_path / "store" / "linked")

    async def run() -> dict[str, str]:
        targets = (tmp_path / "store",) if allowed else ()
        async with opened_store(tmp_path / "models", link_targets=targets) as store:
            return {entry.name: entry.reason for entry in store.index()}

    reason = "the link 'linked' leads out of the model repository; allow where to with --allow-links-to"
    assert asyncio.run(run()) == {"m": "", "linked": "" if allowed else reason}
