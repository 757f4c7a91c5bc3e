"""The table of docs/compared.md: 1,000 trivial stages, by each tool that is on PATH, in one folder of this machine.

    python tests/bench/compare_peers.py [COUNT] [FOLDER]

Seconds of the clock and of the processors (user and system, with all children), of whole processes: the first run is
measured once, the second one, with nothing to do, is the median of three. Put FOLDER on a disk in memory (/dev/shm) and
leave the machine alone: what is measured is the tools. No part of `make bench`, since it takes minutes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import measure

NIXBRIDGE = """
from bridge import out, source, stage
start = source("start.txt", keep=None)

@stage
def step(data=start, n=0, result=out("result.txt")):
    result.write_text(str(n))

for number in range({count}):
    step = step(data=step / "result.txt" if number else start, n=number)
"""

NIX = """
let step = n: builtins.derivation {{
  name = "step-${{toString n}}"; system = builtins.currentSystem; builder = "/bin/sh";
  args = [ "-c" "echo ${{toString n}} > $out" ]; before = if n == 0 then "" else step (n - 1);
}}; in step {last}
"""

SNAKEMAKE = """
rule all:
    input: expand("o{{n}}.txt", n=range({count}))
rule step:
    input: "start.txt"
    output: "o{{n}}.txt"
    shell: "echo {{wildcards.n}} > {{output}}"
"""

REDUN = """
from redun import task
redun_namespace = "compared"

@task()
def step(n):
    return str(n)

@task()
def main():
    return [step(n) for n in range({count})]
"""


SANDBOX = "sandbox = true\nsandbox-paths = /bin/sh=/bin/busybox"


def makefile(count: int) -> str:
    rules = [f"o{n}.txt: {f'o{n - 1}.txt' if n else 'start.txt'}\n\techo {n} > $@\n" for n in range(count)]
    return f"all: o{count - 1}.txt\n" + "".join(rules)


@dataclass(frozen=True)
class Tool:
    """A way to run it: the file with the stages, and the command; `shape` is what the stages look like."""

    name: str
    file: str
    text: str
    command: list[str]
    shape: str = "chain"
    environment: Mapping[str, str] = field(default_factory=dict)


def tools(count: int, folder: Path) -> list[Tool]:
    jobs = str(os.cpu_count() or 1)
    nix = measure.nix_environment(folder)
    return [
        Tool("make", "Makefile", makefile(count), ["make", "-s"]),
        Tool(
            "nix-build",
            "default.nix",
            NIX.format(last=count - 1),
            ["nix-build", "--no-out-link"],
            "chain, sandbox",
            {**nix, "NIX_CONFIG": nix["NIX_CONFIG"].replace("sandbox = false", SANDBOX)},
        ),
        Tool("snakemake", "Snakefile", SNAKEMAKE.format(count=count), ["snakemake", "-q", "-c", jobs], "wide"),
        Tool("redun", "flow.py", REDUN.format(count=count), ["redun", "run", "flow.py", "main"], "wide"),
        Tool(
            "nixbridge",
            "stages.py",
            NIXBRIDGE.format(count=count),
            [str(Path(sys.executable).with_name("nixbridge")), "realize", "stages.py:step"],
            "chain",
            {"NIXBRIDGE_STORE": str(folder / "store"), "PATH": "/nonexistent"},
        ),
    ]


def measured(tool: Tool, folder: Path) -> tuple[float, float]:
    """Seconds of the clock and of the processors."""
    before, begun = os.times(), time.perf_counter()
    environment = {**os.environ, **tool.environment}
    command = [shutil.which(tool.command[0]) or tool.command[0], *tool.command[1:]]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    took, after = time.perf_counter() - begun, os.times()
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[-500:])
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return took, used


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print(f"| {count} stages: seconds of the clock / of the processors | first run | nothing to do |")
    print("| --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as made:
        for number in range(len(tools(count, Path(made)))):
            folder = Path(made, str(number))
            folder.mkdir()
            tool = tools(count, folder)[number]
            if shutil.which(tool.command[0]) is None:
                print(f"| {tool.name} | not installed | |", flush=True)
                continue
            (folder / "start.txt").write_text("0\n")
            (folder / tool.file).write_text(tool.text)
            try:
                first = measured(tool, folder)
                again = [measured(tool, folder) for _ in range(3)]
            except RuntimeError as error:
                print(f"| {tool.name}, {tool.shape} | failed: {error} | |", flush=True)
                continue
            no_op = [statistics.median(each) for each in zip(*again, strict=True)]
            print(f"| {tool.name}, {tool.shape} | {first[0]:.2f} / {first[1]:.2f} | {no_op[0]:.2f} / {no_op[1]:.2f} |")
            sys.stdout.flush()
            subprocess.run(["chmod", "-R", "u+w", folder], check=True)


if __name__ == "__main__":
    main()
