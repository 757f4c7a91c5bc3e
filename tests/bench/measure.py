"""Wall times of whole processes and of functions: medians of several runs."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["function", "nix_environment", "process", "row"]


def process(command: Sequence[str], env: Mapping[str, str] | None = None, runs: int = 5) -> float:
    """Median seconds of a command."""
    return function(
        lambda: subprocess.run(
            command, env={**os.environ, **(env or {})}, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ),
        runs,
    )


def function(call: Callable[[], object], runs: int = 5, prepare: Callable[[], object] = lambda: None) -> float:
    """Median seconds of a call."""
    times = []
    for _ in range(runs):
        prepare()
        # What others have written is on the disk before: whoever syncs would wait for it.
        os.sync()
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def row(what: str, seconds: float, peer: str = "", peer_seconds: float | None = None) -> None:
    """Print one line of a result."""
    against = f"   {peer} {peer_seconds:.3f} s   ratio {seconds / peer_seconds:.2f}" if peer_seconds else ""
    print(f"{what:<52} {seconds:.3f} s{against}", flush=True)


def nix_environment(folder: Path) -> dict[str, str]:
    """A Nix store of its own below `folder`."""
    return {
        "NIX_REMOTE": f"local?root={folder}/root",
        "NIX_CONFIG": "build-users-group =\nsubstituters =\nsandbox = false\n",
        "NIX_PATH": "",
    }
