"""Placeholders: what stands for a store path that is not known yet.

    own output        / nix32(sha256("nix-output:<output>"))
    input's output    / nix32(sha256("nix-upstream-output:<digest of the .drv>:<output path name>"))
    output's output   / nix32(sha256("nix-computed-output:<nix32(fold20(outer))>:<output>"))

Source: NixOS/nix `src/libstore/downstream-placeholder.cc`; manual, `builtins.placeholder`.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from bridge.formats import nix32
from bridge.formats.hashes import fold
from bridge.formats.store_path import hash_part, name_part, output_path_name

from .aterm import DRV_SUFFIX

__all__ = ["computed_output", "own_output", "upstream_output"]


def _render(clear: str) -> str:
    return "/" + nix32.encode(hashlib.sha256(clear.encode("utf-8", "surrogateescape")).digest())


@lru_cache(maxsize=256)
def own_output(output: str) -> str:
    """What stands for the derivation's own output in its builder, arguments and environment."""
    return _render(f"nix-output:{output}")


@lru_cache(maxsize=65536)
def upstream_output(drv_path: str, output: str) -> str:
    """What stands for the content-addressed `output` of the derivation at `drv_path`."""
    name = name_part(drv_path).removesuffix(DRV_SUFFIX)
    return _render(f"nix-upstream-output:{hash_part(drv_path)}:{output_path_name(name, output)}")


def computed_output(outer: str, output: str) -> str:
    """What stands for `output` of the derivation that the placeholder `outer` stands for."""
    digest = nix32.encode(fold(nix32.decode(outer[1:]), 20))
    return _render(f"nix-computed-output:{digest}:{output}")
