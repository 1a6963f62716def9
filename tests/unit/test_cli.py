import subprocess
import sys

import pytest

HEAVY = ("numpy", "matplotlib", "pandas", "grpc", "tritonclient", "onnxruntime", "torch", "rich", "jinja2", "uvloop")


def python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("command", ["", "profile", "report"])
def test_help_loads_no_heavy_library_and_fits_80_columns(command):
    script = (
        "import sys; from analyzer.cli import main\n"
        f"try: main([*{command.split()!r}, '--help'])\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = python("-c", script)
    assert done.stderr.strip() == "[]"
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", ["serve", "zoo", "zoo add"])
def test_every_command_has_help(command):
    done = python("-m", "analyzer", *command.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert command.split(maxsplit=1)[0] in done.stdout


def test_a_wrong_command_or_flag_is_named_with_code_2():
    assert python("-m", "analyzer", "repot").returncode == 2
    done = python("-m", "analyzer", "report", "x", "--fast")
    assert done.returncode == 2
    assert "--fast" in done.stderr


def test_the_version_is_told():
    done = python("-m", "analyzer", "--version")
    assert done.stdout.startswith("analyzer, version ")
