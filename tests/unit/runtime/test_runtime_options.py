import argparse

import pytest

from analyzer.runtime.options import ServerOptions, add_options, parse_options


def flags() -> dict[str, argparse.Action]:
    """By the option that they set."""
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser)
    return {action.dest: action for action in parser._actions}


def test_every_option_has_one_flag_that_says_what_it_does():
    assert set(flags()) == set(ServerOptions.__struct_fields__)
    assert all(action.help and action.option_strings for action in flags().values())


def test_the_help_is_in_groups_and_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        parse_options(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    assert max(map(len, lines)) <= 80
    titles = ["models:", "addresses:", "limits:", "figures and logs:"]
    assert [line for line in lines if line in titles] == titles
    assert "Exit codes:" in lines[-2]


def test_defaults_of_the_flags_are_those_of_the_record():
    given, wanted = parse_options(["--model-repository", "m"]), ServerOptions(model_repository="m")
    assert given == wanted
