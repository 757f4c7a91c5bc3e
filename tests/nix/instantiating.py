"""Nix code to store derivations, for tests that need some."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.nix.installation import Installation

__all__ = ["instantiate"]


def instantiate(
    nix: Installation, *, expr: str, attr: str | None = None, args: Mapping[str, str] | None = None
) -> list[str]:
    """The `.drv` paths that an expression instantiates to."""
    command = [nix.program("nix-instantiate"), "--expr", expr, *(["--attr", attr] if attr else [])]
    for name, value in (args or {}).items():
        command += ["--argstr", name, value]
    done = nix.run(command, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
