"""Render a report with the built wheel alone, away from the checkout: ``report_from_wheel.py WHEEL RUN``.

Proves that templates and console scripts are in the wheel. Libraries come from the environment this runs in.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def main(wheel: Path, run: Path) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        site, copy = Path(scratch, "site"), Path(scratch, "run")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", str(site)]
        subprocess.run([*pip, str(wheel)], check=True)
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("report.*"))
        environment = os.environ | {"PYTHONPATH": str(site)}
        script = "import analyzer.cli as cli, sys; assert sys.argv.pop(1) in cli.__file__; cli.main()"
        command = [sys.executable, "-P", "-c", script, str(site), "report", str(copy)]
        subprocess.run(command, check=True, cwd=scratch, env=environment)
        made = sorted(path.name for path in copy.glob("report.*"))
    print(f"the wheel rendered {', '.join(made)}")
    return 0 if {"report.html", "report.pdf"} <= set(made) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()))
