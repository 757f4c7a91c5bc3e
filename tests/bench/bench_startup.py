"""How long the command takes to say its version: target 0.15 s."""

from __future__ import annotations

import sys
from pathlib import Path

import measure

if __name__ == "__main__":
    bare = measure.process([sys.executable, "-c", "pass"])
    nixbridge = str(Path(sys.executable).with_name("nixbridge"))
    measure.row("nixbridge --version", measure.process([nixbridge, "--version"]), "python -c pass", bare)
    measure.row("nixbridge --help", measure.process([nixbridge, "--help"]), "python -c pass", bare)
