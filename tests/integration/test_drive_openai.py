"""Completions of a service like OpenAI's: tokens as they stream in, against the log of the server that wrote them."""

import json
from pathlib import Path

import numpy as np
import pytest
import uvloop

from perf_client.drive import Run, drive
from perf_client.errors import LoadError
from perf_client.profile import Concurrency, LoadProfile, RequestRate
from perf_client.summarize import summarize
from perf_client.target import Target
from tests.fakes.driven import failures
from tests.fakes.event_server import SSE, EventServer, Pieces, chunk, event, event_server, token

DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


def profile(**changes) -> LoadProfile:
    settings = {
        "model": "llm",
        "service": "openai",
        "endpoint": "v1/chat/completions",
        "streaming": True,
        "load": Concurrency(in_flight=2),
        "request_count": 12,
        "warmup_s": 0.0,
        "timeout_s": 10.0,
    }
    return LoadProfile(**(settings | changes))


def run_against(script, **changes) -> tuple[Run, EventServer]:
    async def main() -> tuple[Run, EventServer]:
        async with event_server(script) as server:
            return await drive(profile(**changes), Target("127.0.0.1", server.port, "http")), server

    return uvloop.run(main())


def three_tokens(number: int) -> Pieces:
    role = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
    pieces: list[bytes | float] = [SSE + chunk(role)]
    for text in ("One", " two", " three"):
        pieces += [0.003, chunk(token(text))]
    return [*pieces, chunk(DONE) + END]


def test_the_first_token_and_the_gaps_between_tokens_are_timed():
    run, server = run_against(three_tokens)
    assert failures(run) == {"": 12}
    answers = run.columns.answers
    assert answers is not None
    assert answers.count.tolist() == [3] * 12
    assert answers.tokens.tolist() == [3] * 12
    # The head and the empty role come at once, tokens later: none of them came before the server wrote it.
    assert (run.columns.first_byte_ns < answers.first_ns()).all()
    wrote_ns = np.array([log[1] for log in server.wrote_ns])
    assert (np.sort(answers.first_ns()) + run.facts.start_ns > np.sort(wrote_ns)).all()
    result = summarize(profile(), run.columns, run.facts)
    assert result.answers is not None
    assert result.answers.output_token_count == 3 * result.request_count
    assert result.answers.between_answers.count == 2 * result.request_count
    assert result.server == ()
    assert "no statistics" in result.server_unmeasured


def test_what_is_asked_is_the_model_with_a_prompt():
    _, server = run_against(three_tokens, load=Concurrency(in_flight=1), headers=(("Authorization", "Bearer x"),))
    heads = {head.split("\r\n")[0] for head, _ in server.requests}
    assert heads == {"POST /v1/chat/completions HTTP/1.1"}
    assert "authorization: bearer x" in server.requests[0][0].lower()
    for _, body in server.requests:
        assert (body["model"], body["stream"]) == ("llm", True)
        assert len(body["messages"][0]["content"]) == 128
    assert len({json.dumps(body) for _, body in server.requests}) == 12


def test_the_users_payloads_are_sent_as_they_are(tmp_path: Path):
    payload = {"model": "other", "messages": [], "max_tokens": 5}
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data": [{"payload": [payload]}, {"payload": {"prompt": "x"}}]}))
    _, server = run_against(three_tokens, load=Concurrency(in_flight=1), request_count=2, input_data=str(path))
    assert [body for _, body in server.requests] == [
        payload | {"stream": True},
        {"model": "llm", "prompt": "x", "stream": True},
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        ("{}", "a list under 'data'"),
        ('{"data": [{"prompt": 1}]}', r"data\[0\] has no object under 'payload'"),
    ],
)
def test_data_that_is_no_payload_is_a_sentence(content: str, sentence: str, tmp_path: Path):
    path = tmp_path / "data.json"
    path.write_text(content)
    with pytest.raises(LoadError, match=sentence) as caught:
        run_against(three_tokens, input_data=str(path))
    assert caught.value.exit_code == 3


def test_the_services_own_count_of_tokens_is_believed():
    def script(number: int) -> Pieces:
        usage = event({"choices": [], "usage": {"completion_tokens": 9}})
        return [SSE + chunk(token("several tokens in one event")), chunk(usage + DONE) + END]

    run, _ = run_against(script)
    assert run.columns.answers is not None
    assert run.columns.answers.tokens.tolist() == [9] * 12
    assert run.columns.answers.count.tolist() == [1] * 12


def test_events_may_be_cut_anywhere_and_written_in_other_ways():
    whole = SSE + chunk(token("a") + b": a comment\r\n\r\n" + token("b")[:20]) + chunk(token("b")[20:] + DONE) + END

    def script(number: int) -> Pieces:
        cut = 1 + number * 37 % (len(whole) - 1)
        return [whole[:cut], 0.002, whole[cut:]]

    run, _ = run_against(script, request_count=30)
    assert failures(run) == {"": 30}
    assert run.columns.answers is not None
    assert run.columns.answers.count.tolist() == [2] * 30


def test_an_answer_that_is_no_stream_is_one_document():
    def script(number: int) -> Pieces:
        body = json.dumps({"choices": [{"text": "x"}], "usage": {"completion_tokens": 4}}).encode()
        return [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body]

    run, server = run_against(script, streaming=False, endpoint="/v1/completions", load=RequestRate(per_second=200.0))
    assert failures(run) == {"": 12}
    assert "prompt" in server.requests[0][1]
    assert "stream" not in server.requests[0][1]
    answers = run.columns.answers
    assert answers is not None
    assert (answers.tokens.tolist(), answers.count.tolist()) == ([4] * 12, [1] * 12)
    assert (answers.at_ns == run.columns.last_byte_ns).all()


def test_failures_have_classes_and_the_services_words():
    def script(number: int) -> Pieces:
        match number % 4:
            case 0:
                return [b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 9\r\n\r\nslow down"]
            case 1:
                return [SSE + chunk(token("a")), chunk(event({"error": {"message": "overloaded"}})) + END]
            case 2:
                return [SSE + chunk(b"data: {nonsense\n\n") + END]
            case _:
                return [SSE + END]

    run, _ = run_against(script)
    assert failures(run) == {"http 429": 3, "service error": 3, "bad answer": 6}
    assert run.facts.failure_examples["http 429"] == "slow down"
    assert "overloaded" in run.facts.failure_examples["service error"]
    assert summarize(profile(), run.columns, run.facts).answers.answer_count == 0


def test_a_stream_that_stops_is_a_timeout():
    def script(number: int) -> Pieces:
        return three_tokens(number) if number else [SSE + chunk(token("a")), 30.0]

    run, _ = run_against(script, timeout_s=0.3)
    assert failures(run) == {"": 11, "timeout": 1}


def test_a_service_that_is_not_there_is_a_sentence():
    with pytest.raises(LoadError, match="the server can't be reached"):
        uvloop.run(drive(profile(), Target("127.0.0.1", 1, "http")))
