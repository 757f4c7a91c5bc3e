"""What the reader and the writer of ATerms share."""

from __future__ import annotations

from bridge.formats.errors import FormatError
from bridge.formats.hashes import ALGORITHMS
from bridge.formats.store_path import Method

__all__ = ["DRV_SUFFIX", "IMPURE", "VERSION", "is_bare", "method_algorithm", "split_method_algorithm"]

DRV_SUFFIX = ".drv"
IMPURE = "impure"
"""What stands in the place of an impure output's hash."""
VERSION = "xp-dyn-drv"
"""The one version that the versioned form has."""

_METHOD_PREFIX: dict[Method, str] = {"flat": "", "nar": "r:", "text": "text:", "git": "git:"}


def method_algorithm(method: Method, algorithm: str) -> str:
    """The third field of an output, such as `r:sha256`."""
    return _METHOD_PREFIX[method] + algorithm


def split_method_algorithm(text: str) -> tuple[Method, str]:
    """The inverse of `method_algorithm`.

    Raises
    ------
    FormatError
        For an algorithm that Nix does not know.
    """
    for method, prefix in _METHOD_PREFIX.items():
        if prefix and text.startswith(prefix):
            found, algorithm = method, text[len(prefix) :]
            break
    else:
        found, algorithm = "flat", text
    if algorithm not in ALGORITHMS:
        raise FormatError(f"{text!r} is no hash algorithm that Nix knows ({', '.join(ALGORITHMS)})")
    return found, algorithm


def is_bare(text: str) -> bool:
    """Whether this may stand where Nix prints without escapes: in names, paths and the system."""
    return '"' not in text and "\\" not in text
