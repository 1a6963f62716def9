"""``ocr``: the three trained PP-OCR models that the wheel of rapidocr carries, as separate models.

``ocr_det`` marks where text is in a page, ``ocr_cls`` tells whether a line stands upside down, ``ocr_rec`` reads it.
"""

from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import InputError
from analyzer.zoo.input_data import Request
from analyzer.zoo.model_config import ONNX, ModelConfig, TensorConfig
from analyzer.zoo.model_folder import Build, start_model_folder
from analyzer.zoo.ocr_images import LINE_HEIGHT, direction_line, page, recognition_line
from analyzer.zoo.onnx_graph import require_onnx
from analyzer.zoo.wheel import WheelPin, read_member

PIN = WheelPin("rapidocr", "3.10.0", "Apache-2.0")
CHARACTERS_FILE = "characters.txt"
DIRECTIONS_FILE = "labels.txt"
DIRECTIONS = ("0", "180")
LINES = ("Serving 1024 requests", "p99 within 20 ms", "Batch size 8")
CLASS_COUNT = 18_710
"""Of the recognition: the blank of CTC, the characters listed in the model's metadata, and the space."""


@dataclass(frozen=True)
class Part:
    """One of the three models: the file in the wheel, its configuration, and requests for it."""

    member: str
    config: ModelConfig
    requests: tuple[Request, ...]


def build(build: Build) -> None:
    require_onnx()
    wheel = build.wheels.fetch(PIN)
    for part in _parts():
        version = start_model_folder(build.staging, part.config, part.requests)
        (version / "model.onnx").write_bytes(read_member(wheel, f"rapidocr/models/{part.member}"))
    (build.staging / "ocr_cls" / DIRECTIONS_FILE).write_text("\n".join(DIRECTIONS) + "\n")
    recognition = build.staging / "ocr_rec"
    characters = "\n".join(_characters(recognition / "1" / "model.onnx")) + "\n"
    (recognition / CHARACTERS_FILE).write_text(characters, encoding="utf-8")


def _parts() -> tuple[Part, ...]:
    return (
        Part(
            "PP-OCRv6_det_small.onnx",
            _config("ocr_det", 4, (3, -1, -1), TensorConfig("fetch_name_0", "FP32", (1, -1, -1)), DETECTION),
            ({"x": page(LINES)}, {"x": page(LINES[::-1])}),
        ),
        Part(
            "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
            _config(
                "ocr_cls",
                16,
                (3, LINE_HEIGHT, -1),
                TensorConfig("save_infer_model/scale_0.tmp_1", "FP32", (len(DIRECTIONS),), DIRECTIONS_FILE),
                DIRECTION,
            ),
            tuple({"x": direction_line(text, turned)} for text in LINES for turned in (False, True)),
        ),
        Part(
            "PP-OCRv6_rec_small.onnx",
            _config(
                "ocr_rec",
                16,
                (3, LINE_HEIGHT, -1),
                TensorConfig("fetch_name_0", "FP32", (-1, CLASS_COUNT)),
                RECOGNITION,
            ),
            tuple({"x": recognition_line(text)} for text in LINES),
        ),
    )


DETECTION = "Text detection: an image with sides that are multiples of 32 in, the probability of text per pixel out."
DIRECTION = "Text direction: an image of one line in, the probabilities of upright and upside down out."
RECOGNITION = f"Text recognition: an image of one line in, per step the probabilities of {CHARACTERS_FILE} (CTC) out."


def _config(name: str, max_batch_size: int, dims: tuple[int, ...], output: TensorConfig, comment: str) -> ModelConfig:
    comment = f"{comment}\nWeights: the wheel of {PIN}, {PIN.licence}."
    return ModelConfig(name, ONNX, max_batch_size, (TensorConfig("x", "FP32", dims),), (output,), comment)


def _characters(model: Path) -> list[str]:
    """One entry a class. The blank of CTC, which stands for no character, is written as an empty line."""
    metadata = {entry.key: entry.value for entry in require_onnx().load(str(model)).metadata_props}
    characters = ["", *metadata.get("character", "").split("\n"), " "]
    if len(characters) != CLASS_COUNT:
        raise InputError(f"the text recognition model of {PIN} lists {len(characters)} characters, not {CLASS_COUNT}")
    return characters
