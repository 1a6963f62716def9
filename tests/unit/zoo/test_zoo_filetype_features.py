import io
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import InputError, UsageError
from analyzer.zoo.filetype import MAX_REQUESTS, features_of_files, wheel_model
from analyzer.zoo.filetype_features import FeatureConfig, extract_features, parse_feature_config, read_ends
from analyzer.zoo.wheel import WheelPin, WheelSource

PAD = 256
CONFIG = FeatureConfig(
    beg_size=6,
    mid_size=0,
    end_size=4,
    use_inputs_at_offsets=False,
    min_file_size_for_dl=3,
    padding_token=PAD,
    block_size=12,
    target_labels_space=("a", "b"),
)


def features(content: bytes) -> list[int] | None:
    found = extract_features(read_ends(io.BytesIO(content), len(content), CONFIG.block_size), CONFIG)
    return None if found is None else found.tolist()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"abcdefgh", [*b"abcdef", *b"efgh"]),
        (b"abc", [*b"abc", PAD, PAD, PAD, PAD, *b"abc"]),
        (b"  \n abc", [*b"abc", PAD, PAD, PAD, *b" abc"]),
        (b"abcd \t\n", [*b"abcd \t", *b"abcd"]),
        (b"abcdefghijklmnopqrstuvwxyz", [*b"abcdef", *b"wxyz"]),
        (b"            abcdefghijklmnop", None),
        (b"ab", None),
        (b"", None),
        (b" \n\t \n\t ", None),
    ],
    ids=["fits", "padded", "leading blanks", "trailing blanks", "long", "blank first block", "short", "empty", "blank"],
)
def test_start_and_end_are_stripped_cut_and_padded(content, expected):
    assert features(content) == expected


@given(st.binary(max_size=64))
def test_features_have_the_model_s_length_and_range(content):
    found = features(content)
    assert found is None or (len(found) == 10 and all(0 <= value <= PAD for value in found))


def test_config_of_a_release_with_other_features_is_refused():
    text = msgspec.json.encode(msgspec.structs.replace(CONFIG, mid_size=512))
    with pytest.raises(InputError, match="install magika"):
        parse_feature_config(text)


@pytest.mark.parametrize("text", [b"{", b'{"beg_size": 3}'])
def test_unreadable_config_is_one_sentence(text):
    with pytest.raises(InputError, match="reinstall the package"):
        parse_feature_config(text)


def test_folders_are_searched_and_unusable_files_left_out(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "one.txt").write_bytes(b"first file")
    (tmp_path / "blank").write_bytes(b"      ")
    (tmp_path / "two.txt").write_bytes(b"second file")
    found = features_of_files([tmp_path, tmp_path / "two.txt"], CONFIG)
    assert [bytes(values[:6].astype(np.uint8)) for values in found] == [b"first ", b"second"]


def test_many_files_are_thinned_evenly(tmp_path):
    for number in range(2 * MAX_REQUESTS):
        (tmp_path / f"{number:04}").write_bytes(b"%06d" % number)
    found = features_of_files([tmp_path], CONFIG)
    assert [int(bytes(values[:6].astype(np.uint8))) for values in found] == list(range(0, 2 * MAX_REQUESTS, 2))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("missing", "no file or folder"), ("empty", "hold no files"), ("blank.txt", "no file given with --files can be")],
)
def test_files_that_give_no_input_are_refused(tmp_path, name, sentence):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_bytes(b" ")
    with pytest.raises((InputError, UsageError), match=sentence):
        features_of_files([tmp_path / name], CONFIG)


def test_model_of_a_wheel_comes_with_its_configuration(tmp_path):
    def download(pin: WheelPin, folder: Path) -> None:
        with zipfile.ZipFile(folder / f"magika-{pin.version}-py3-none-any.whl", "w") as archive:
            archive.writestr("magika/models/standard_v3_3/model.onnx", "weights")
            archive.writestr("magika/models/standard_v3_3/config.min.json", msgspec.json.encode(CONFIG))

    trained = wheel_model(WheelSource(tmp_path, download))
    assert trained.onnx == b"weights"
    assert parse_feature_config(trained.config) == CONFIG
