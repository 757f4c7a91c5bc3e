"""Derivations as JSON: what `nix derivation show` prints and `nix derivation add` reads, in every release.

    document    {"derivations": {"<base name>.drv": derivation, …}, "version": 4}   before: the map alone
    derivation  {"version": 4, "name", "outputs", "inputs": {"srcs": […], "drvs": {…}}, "system",
                 "builder", "args", "env", "structuredAttrs"?}                      before: see versions.py
    output      {"path"} | {"method", "hash": SRI} | {"method", "hashAlgo"} | … "impure": true | {}
    paths       base names, except in builder, args and env, which are never rewritten

Source: Nix manual, `protocols/json/schema/derivation-v4.yaml`; release notes of 2.15, 2.18, 2.23, 2.30, 2.32, 2.33.
"""

from .read import from_json, read_document
from .versions import FORMATS, LATEST, JsonFormat, format_named, format_of_nix
from .write import STRUCTURED, document, to_json

__all__ = [
    "FORMATS",
    "LATEST",
    "STRUCTURED",
    "JsonFormat",
    "document",
    "format_named",
    "format_of_nix",
    "from_json",
    "read_document",
    "to_json",
]
