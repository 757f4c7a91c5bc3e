"""The shapes of derivation JSON, one row each: what differs from release to release.

Source: NixOS/nix release notes 2.15, 2.18, 2.23, 2.30, 2.32, 2.33; `schema/derivation-v4.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bridge.formats.errors import DerivationJSONError

__all__ = ["FORMATS", "LATEST", "JsonFormat", "format_named", "format_of_nix"]


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """One shape.

    Parameters
    ----------
    name
        As users name it: the first release of an unversioned shape, or the version.
    since
        The first release of Nix that prints it.
    version
        The value of the key `version`, if there is one.
    has_name
        Whether a derivation tells its name; else only its path does.
    inputs
        How inputs are written: `list` (`inputDrvs`: path → output names), `object` (with dynamic outputs),
        `nested` (`inputs.drvs` and `inputs.srcs`).
    outputs
        `prefixed` (hashAlgo `r:sha256`, hex hash), `method` (apart from hashAlgo), `bare` (as method, fixed ones
        without path), `sri` (fixed ones with method and SRI hash).
    base_names
        Whether paths are base names, outside of env, args and builder.
    lifted
        Whether structured attributes stand in `structuredAttrs`, not as text in `env.__json`.
    """

    name: str
    since: tuple[int, int]
    version: int | None
    has_name: bool
    inputs: Literal["list", "object", "nested"]
    outputs: Literal["prefixed", "method", "bare", "sri"]
    base_names: bool
    lifted: bool

    @property
    def has_envelope(self) -> bool:
        """Whether a document is `{"derivations": …, "version": …}`, not the map alone."""
        return self.inputs == "nested"


_ROWS = (
    JsonFormat("2.8", (2, 0), None, False, "list", "prefixed", False, False),
    JsonFormat("2.15", (2, 15), None, True, "list", "prefixed", False, False),
    JsonFormat("2.18", (2, 18), None, True, "object", "prefixed", False, False),
    JsonFormat("2.23", (2, 23), None, True, "object", "method", False, False),
    JsonFormat("2.30", (2, 30), None, True, "object", "method", False, True),
    JsonFormat("3", (2, 32), 3, True, "object", "bare", True, True),
    JsonFormat("4", (2, 33), 4, True, "nested", "sri", True, True),
)

FORMATS = {row.name: row for row in _ROWS}
"""Every shape by its name, oldest first."""

LATEST = _ROWS[-1]


def format_named(name: str) -> JsonFormat:
    """The shape of that name.

    Raises
    ------
    DerivationJSONError
        If there is none.
    """
    if name not in FORMATS:
        raise DerivationJSONError(f"there is no JSON format {name!r}", hint=f"one of {', '.join(FORMATS)}")
    return FORMATS[name]


def format_of_nix(version: tuple[int, ...]) -> JsonFormat:
    """The shape that a release of Nix prints."""
    return next((row for row in reversed(_ROWS) if version[:2] >= row.since), _ROWS[0])
