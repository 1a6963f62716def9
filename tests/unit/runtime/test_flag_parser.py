import pytest

from analyzer.runtime.options import parse_options


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--htp-port", "1"], "unrecognized arguments: --htp-port 1; did you mean --http-port?; see --help"),
        (["--zzz"], "unrecognized arguments: --zzz; see --help"),
        (["--http-port", "x"], "argument --http-port: 'x' is not a port"),
    ],
)
def test_a_wrong_flag_is_one_sentence_with_the_nearest(capsys, flags, said):
    with pytest.raises(SystemExit) as ended:
        parse_options(["--model-repository", "models", *flags], program="serve")
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.startswith(f"serve: error: {said}")
    assert len(told.splitlines()) == 1
