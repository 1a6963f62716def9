"""Models of the zoo served by the runtime, against the bare library that their weights come from."""

import asyncio
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from analyzer.errors import ChildError
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import InferError, InferRequest, InferResponse, Parameters, Tensors
from analyzer.zoo import ocr, vad
from analyzer.zoo.catalogue import add
from analyzer.zoo.ocr_images import page_pixels
from analyzer.zoo.wheel import WheelPin, WheelSource, default_cache, read_member
from tests.fakes.model_folder import read_requests

ort = pytest.importorskip("onnxruntime")

# What rapidocr imports, as far as this project doesn't need it itself.
LIBRARIES = (
    WheelPin("opencv-python-headless", "5.0.0.93", "Apache-2.0"),
    WheelPin("pyclipper", "1.4.0", "MIT"),
    WheelPin("shapely", "2.2.0", "BSD-3-Clause"),
    WheelPin("omegaconf", "2.4.0", "BSD-3-Clause"),
    WheelPin("tqdm", "4.70.1", "MPL-2.0"),
    WheelPin("colorlog", "6.12.0", "MIT"),
    WheelPin("six", "1.17.0", "MIT"),
)

NO_DOWNLOADS = "class Response: ...\n\n\nRequestException = Exception\n"
"""Stands for the package requests, which rapidocr imports and has no need of here."""

READ_WITH_THE_LIBRARY = """\
import json, sys
import numpy as np
from rapidocr import RapidOCR

read = RapidOCR(params={"Global.log_level": "error"})
found = []
for page in np.load(sys.argv[1]):
    answer = read(page)
    found.append({"text": list(answer.txts or ()), "score": list(answer.scores or ()),
                  "box": [] if answer.boxes is None else np.asarray(answer.boxes).tolist()})
print("\\nANSWERS " + json.dumps(found))
"""


def fetched(*pins: WheelPin) -> WheelSource:
    """The user's cache, with the wheels in it: pinned, so they are the same whether fetched now or before."""
    wheels = WheelSource(default_cache())
    try:
        for pin in pins:
            wheels.fetch(pin)
    except ChildError as error:
        pytest.skip(str(error))
    return wheels


def serve(repository: Path, model: str, requests: list[tuple[Tensors, Parameters]]) -> list[InferResponse | InferError]:
    """One after the other, as a stream comes."""

    async def run() -> list[InferResponse | InferError]:
        loop = asyncio.get_running_loop()
        store = ModelStore(repository, loop=loop)
        await store.open([model])
        answers = []
        try:
            for inputs, parameters in requests:
                answer = loop.create_future()
                request = InferRequest(model, dict(inputs), time.monotonic_ns(), parameters=parameters)
                store.submit(request, answer.set_result)
                answers.append(await answer)
        finally:
            await store.close(5.0)
        return answers

    return asyncio.run(run())


@pytest.fixture(scope="module")
def ocr_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("ocr")
    add("ocr", folder, wheels=fetched(ocr.PIN))
    return folder


PAGES = np.stack([page_pixels(ocr.LINES), page_pixels(ocr.LINES[::-1]), page_pixels(("Total: 42.00", "Line two"))])


def test_the_ocr_ensemble_reads_as_the_bare_library_does(ocr_repository: Path, tmp_path: Path):
    expected = read_with_the_library(tmp_path)
    answers = serve(ocr_repository, "ocr", [({"image": page}, {}) for page in PAGES])
    for answer, wanted in zip(answers, expected, strict=True):
        assert isinstance(answer, InferResponse), answer
        assert [text.decode() for text in answer.outputs["text"]] == wanted["text"]
        # The library tilts a rectangle by up to a degree where the marked area is ragged, ours stand straight.
        np.testing.assert_allclose(answer.outputs["score"], wanted["score"], atol=0.05)
        corners = np.array(wanted["box"])
        bounds = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
        np.testing.assert_allclose(answer.outputs["box"], bounds, atol=3)


def read_with_the_library(folder: Path) -> list[dict[str, list]]:
    """rapidocr in a process of its own, unpacked from wheels and not installed."""
    wheels = fetched(ocr.PIN, *LIBRARIES)
    for pin in (ocr.PIN, *LIBRARIES):
        with zipfile.ZipFile(wheels.fetch(pin)) as archive:
            archive.extractall(folder / "library")
    (folder / "library" / "requests.py").write_text(NO_DOWNLOADS)
    np.save(folder / "pages.npy", PAGES)
    command = [sys.executable, "-c", READ_WITH_THE_LIBRARY, str(folder / "pages.npy")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(folder / "library")}
    )
    assert "ANSWERS " in done.stdout, done.stderr
    return json.loads(done.stdout.rpartition("ANSWERS ")[2])


def test_the_ocr_ensemble_reads_its_own_input_data_and_an_empty_page(ocr_repository: Path):
    empty = np.full((100, 200, 3), 255, np.uint8)
    sent = [({"image": request["image"]}, {}) for request in read_requests(ocr_repository / "ocr")]
    texts = [answer.outputs["text"] for answer in serve(ocr_repository, "ocr", [*sent, ({"image": empty}, {})])]
    assert [text.decode() for text in texts[0]] == list(ocr.LINES)
    assert [text.decode() for text in texts[1]] == list(ocr.LINES[::-1])
    assert texts[2].tolist() == []


def test_a_page_that_is_too_large_is_refused_with_the_limit(ocr_repository: Path):
    (answer,) = serve(ocr_repository, "ocr", [({"image": np.zeros((40, 2001, 3), np.uint8)}, {})])
    assert isinstance(answer, InferError)
    assert "a side may have 32 to 2000" in answer.message


def stream(chunks: list[Tensors], identity: int) -> list[tuple[Tensors, Parameters]]:
    last = len(chunks) - 1
    return [
        (chunk, {"sequence_id": identity, "sequence_start": number == 0, "sequence_end": number == last})
        for number, chunk in enumerate(chunks)
    ]


def test_vad_keeps_the_state_of_each_stream_as_the_bare_session_does(tmp_path: Path):
    folder = add("vad", tmp_path, wheels=fetched(vad.PIN))[0]
    chunks = read_requests(folder)
    session = ort.InferenceSession(str(folder / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    expected = {}
    for name, sound in (("forwards", chunks), ("backwards", chunks[::-1])):
        state, expected[name] = np.zeros(vad.STATE_SHAPE, np.float32), []
        for chunk in sound:
            inputs = {"input": chunk["input"], "state": state, "sr": chunk["sr"].reshape(())}
            probability, state = session.run(["output", "stateN"], inputs)
            expected[name].append(probability[0, 0])
    # Two streams at the same time, in turns, on one instance.
    pairs = zip(stream(chunks, 1), stream(chunks[::-1], 2), strict=True)
    answers = serve(tmp_path, "vad", [request for pair in pairs for request in pair])
    for answer in answers:
        assert isinstance(answer, InferResponse), answer
        assert answer.outputs.keys() == {"output"}
    got = [float(answer.outputs["output"][0, 0]) for answer in answers]
    np.testing.assert_allclose(got[::2], expected["forwards"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got[1::2], expected["backwards"], rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # the bare module's own load
def test_vad_torch_answers_as_the_bare_module_does(tmp_path: Path):
    torch = pytest.importorskip("torch")
    wheels = fetched(vad.PIN)
    folder = add("vad", tmp_path, wheels=wheels)[1]
    (tmp_path / "bare.pt").write_bytes(read_member(wheels.fetch(vad.PIN), "silero_vad/data/silero_vad.jit"))
    module = torch.jit.load(str(tmp_path / "bare.pt"))
    chunks = read_requests(folder)
    with torch.inference_mode():
        expected = [module(torch.from_numpy(chunk["x"].copy()), vad.SAMPLE_RATE).item() for chunk in chunks]
    # The second stream finds nothing of the first on the instance that they share.
    answers = serve(tmp_path, "vad_torch", stream(chunks, 7) + stream(chunks, 8))
    assert [answer for answer in answers if isinstance(answer, InferError)] == []
    got = [float(answer.outputs["OUTPUT__0"][0, 0]) for answer in answers]
    np.testing.assert_allclose(got, expected * 2, rtol=1e-4, atol=1e-6)
    assert max(got) > 0.5
