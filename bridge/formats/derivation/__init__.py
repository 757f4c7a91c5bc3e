"""Store derivations: the value, its two notations, and what is computed from it."""

from bridge.formats.derivation.json import (
    FORMATS,
    LATEST,
    JsonFormat,
    document,
    format_named,
    format_of_nix,
    from_json,
    read_document,
    to_json,
)

from .aterm import DRV_SUFFIX, parse_aterm, unparse
from .closure import Closure, Edge, closure_of, graph, graph_dot, read_closure, why
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
    "LATEST",
    "Closure",
    "Deferred",
    "Derivation",
    "Edge",
    "Fixed",
    "Floating",
    "Impure",
    "InputAddressed",
    "InputOutputs",
    "Instantiated",
    "JsonFormat",
    "Modulo",
    "Output",
    "closure_of",
    "complete",
    "complete_closure",
    "computed_output",
    "derivation_path",
    "derivation_references",
    "document",
    "fill_outputs",
    "format_named",
    "format_of_nix",
    "from_json",
    "graph",
    "graph_dot",
    "instantiate",
    "modulo",
    "own_output",
    "parse_aterm",
    "read_closure",
    "read_document",
    "replace_strings",
    "resolve",
    "to_json",
    "unparse",
    "upstream_output",
    "why",
]
