"""A finished chain of Python stages, realized again: target 0.5 s for 1,000."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import measure

STAGES = """
from bridge import out, source, stage
start = source("stages.py", keep=None)

@stage
def step(data=start, n=0, result=out("result.txt")):
    result.write_text(str(n))

for number in range({count}):
    step = step(data=step / "result.txt" if number else start, n=number)
"""


if __name__ == "__main__":
    bare = measure.process([sys.executable, "-c", "pass"])
    for count in map(int, sys.argv[1:] or (100, 1000)):
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as made:
            file = Path(made, "stages.py")
            file.write_text(STAGES.format(count=count))
            nixbridge = str(Path(sys.executable).with_name("nixbridge"))
            command = [nixbridge, "realize", f"{file}:step", "--builder", "local"]
            env = {"NIXBRIDGE_STORE": str(Path(made, "store"))}
            measure.row(f"chain of {count}, first run, as many jobs as cores", measure.process(command, env, 1))
            measure.row(f"chain of {count}, nothing to do", measure.process(command, env, 5), "python -c pass", bare)
            subprocess.run(["chmod", "-R", "u+w", made], check=True)
