"""Store derivations: the value, its two notations, and what is computed from it."""

from bridge.formats.derivation.json import (
    FORMATS,
    JsonFormat,
    document,
    format_of_nix,
    from_json,
    read_document,
    to_json,
)

from .aterm import DRV_SUFFIX, parse_aterm, unparse
from .complete import complete, complete_closure
from .modulo import (
    Instantiated,
    Modulo,
    derivation_path,
    derivation_references,
    fill_outputs,
    instantiate,
    modulo,
)
from .placeholders import computed_output, own_output, upstream_output
from .resolve import replace_strings, resolve
from .types import (
    Deferred,
    Derivation,
    Fixed,
    Floating,
    Impure,
    InputAddressed,
    InputOutputs,
    Output,
)

__all__ = [
    "DRV_SUFFIX",
    "FORMATS",
    "Deferred",
    "Derivation",
    "Fixed",
    "Floating",
    "Impure",
    "InputAddressed",
    "InputOutputs",
    "Instantiated",
    "JsonFormat",
    "Modulo",
    "Output",
    "complete",
    "complete_closure",
    "computed_output",
    "derivation_path",
    "derivation_references",
    "document",
    "fill_outputs",
    "format_of_nix",
    "from_json",
    "instantiate",
    "modulo",
    "own_output",
    "parse_aterm",
    "read_document",
    "replace_strings",
    "resolve",
    "to_json",
    "unparse",
    "upstream_output",
]
