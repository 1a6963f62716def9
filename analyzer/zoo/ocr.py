"""``ocr``: the three trained PP-OCR models that the wheel of rapidocr carries, and the ensemble that reads a page.

``ocr_det`` marks where text is in a page, ``ocr_cls`` tells whether a line stands upside down, ``ocr_rec`` reads it.
The ensemble ``ocr`` goes from a page to its text over detection and recognition, with Python steps between them; it
takes pages that stand upright, so ``ocr_cls`` has no part in it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import InputError
from analyzer.zoo.input_data import Request
from analyzer.zoo.model_config import ENSEMBLE, ONNX, PYTHON, EnsembleStep, ModelConfig, TensorConfig
from analyzer.zoo.model_folder import Build, start_model_folder
from analyzer.zoo.ocr_images import LINE_HEIGHT, direction_line, page, page_pixels, recognition_line
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
    _build_ensemble(build.staging, characters)


def _build_ensemble(staging: Path, characters: str) -> None:
    for config in PYTHON_STEPS:
        version = start_model_folder(staging, config, ())
        shutil.copyfile(Path(__file__).with_name(f"{config.name}_model.py"), version / "model.py")
        if config is not TEXT_STEP:
            shutil.copyfile(Path(__file__).with_name("ocr_resize.py"), version / "ocr_resize.py")
    (staging / "ocr_text" / "1" / CHARACTERS_FILE).write_text(characters, encoding="utf-8")
    start_model_folder(staging, PAGE_TO_TEXT, [{"image": page_pixels(lines)} for lines in (LINES, LINES[::-1])])


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
                64,
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


IMAGE = TensorConfig("image", "UINT8", (-1, -1, 3))
BOX = TensorConfig("box", "INT32", (-1, 4))
FOUND = (TensorConfig("text", "STRING", (-1,)), TensorConfig("score", "FP32", (-1,)), BOX)

TEXT_STEP = ModelConfig(
    name="ocr_text",
    kind=PYTHON,
    max_batch_size=0,
    inputs=(TensorConfig("steps", "FP32", (-1, -1, CLASS_COUNT)), BOX),
    outputs=FOUND,
    comment="The text recognition of each line to text, its mean probability, and where it stands.",
)

PYTHON_STEPS = (
    ModelConfig(
        name="ocr_page",
        kind=PYTHON,
        max_batch_size=0,
        inputs=(IMAGE,),
        outputs=(TensorConfig("x", "FP32", (1, 3, -1, -1)),),
        comment="A page, blue first, to what the text detection takes.",
    ),
    ModelConfig(
        name="ocr_lines",
        kind=PYTHON,
        max_batch_size=0,
        inputs=(IMAGE, TensorConfig("probability", "FP32", (1, 1, -1, -1))),
        outputs=(TensorConfig("lines", "FP32", (-1, 3, LINE_HEIGHT, -1)), BOX),
        comment="A page and its text detection to images of its lines, for the text recognition.",
    ),
    TEXT_STEP,
)

PAGE_TO_TEXT = ModelConfig(
    name="ocr",
    kind=ENSEMBLE,
    max_batch_size=0,
    inputs=(IMAGE,),
    outputs=FOUND,
    comment=(
        "The text of an upright page in reading order, with the rectangle of each line (left, top, right, bottom).\n"
        "Sides of 32 to 2000 pixels, up to 64 lines."
    ),
    steps=(
        EnsembleStep("ocr_page", {"image": "image"}, {"x": "page"}),
        EnsembleStep("ocr_det", {"x": "page"}, {"fetch_name_0": "probability"}),
        EnsembleStep(
            "ocr_lines",
            {"image": "image", "probability": "probability"},
            {"lines": "lines", "box": "line_box"},
        ),
        EnsembleStep("ocr_rec", {"x": "lines"}, {"fetch_name_0": "steps"}),
        EnsembleStep(
            "ocr_text",
            {"steps": "steps", "box": "line_box"},
            {"text": "text", "score": "score", "box": "box"},
        ),
    ),
)


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
