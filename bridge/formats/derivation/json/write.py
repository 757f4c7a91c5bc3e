"""From derivations to JSON, in any shape that can hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bridge.formats.derivation.aterm import method_algorithm
from bridge.formats.derivation.types import (
    Deferred,
    Derivation,
    Fixed,
    Floating,
    Impure,
    InputAddressed,
    InputOutputs,
    Output,
)
from bridge.formats.errors import DerivationJSONError, FormatError
from bridge.formats.nix_json import dumps
from bridge.formats.store_path import base_name

from .versions import LATEST, JsonFormat

__all__ = ["MAX_DYNAMIC", "STRUCTURED", "document", "integer", "to_json"]

STRUCTURED = "__json"
"""The variable of the ATerm that holds structured attributes."""

MAX_DYNAMIC = 100
"""Outputs of outputs of outputs … go no deeper: far more than anything has, far less than recursion allows."""


def document(derivations: Mapping[str, Derivation], shape: JsonFormat = LATEST) -> dict[str, Any]:
    """What `nix derivation show` prints: derivations by their store path."""
    found = {_path(path, shape): to_json(drv, shape) for path, drv in derivations.items()}
    return {"derivations": found, "version": shape.version} if shape.has_envelope else found


def to_json(drv: Derivation, shape: JsonFormat = LATEST) -> dict[str, Any]:
    """One derivation as a value for `json.dump`.

    Raises
    ------
    DerivationJSONError
        For what the shape can not hold: bytes that are not UTF-8, dynamic outputs, structured attributes
        that would come back as another text.
    """
    _check_utf8(drv)
    env = dict(drv.env)
    value: dict[str, Any] = {"args": list(drv.args), "builder": drv.builder, "env": env}
    drvs = {_path(path, shape): _inputs(drv, path, used, shape) for path, used in drv.input_drvs.items()}
    srcs = sorted(_path(path, shape) for path in drv.input_srcs)
    if shape.inputs == "nested":
        value["inputs"] = {"drvs": drvs, "srcs": srcs}
    else:
        value |= {"inputDrvs": drvs, "inputSrcs": srcs}
    if shape.has_name:
        value["name"] = drv.name
    value["outputs"] = {name: _output(drv, name, output, shape) for name, output in drv.outputs.items()}
    if shape.lifted and STRUCTURED in env:
        value["structuredAttrs"] = _lift(drv, env.pop(STRUCTURED), shape)
    value["system"] = drv.system
    if shape.version is not None:
        value["version"] = shape.version
    return value


def _path(path: str, shape: JsonFormat) -> str:
    return base_name(path) if shape.base_names else path


def _inputs(drv: Derivation, path: str, used: InputOutputs, shape: JsonFormat, depth: int = 0) -> Any:
    for name in (*used.outputs, *used.dynamic):
        _check_text(drv, "inputDrvs", name)
    if shape.inputs == "list":
        if used.dynamic:
            raise DerivationJSONError(
                f"{drv.name} uses dynamic outputs of {path}, which the JSON of Nix {shape.name} can not hold",
                key="inputDrvs",
                hint="use the format 2.18 or a newer one",
            )
        return list(used.outputs)
    if depth > MAX_DYNAMIC:
        raise DerivationJSONError(f"{drv.name} nests dynamic outputs of {path} more than {MAX_DYNAMIC} deep")
    return {
        "dynamicOutputs": {name: _inputs(drv, path, inner, shape, depth + 1) for name, inner in used.dynamic.items()},
        "outputs": list(used.outputs),
    }


def _output(drv: Derivation, name: str, output: Output, shape: JsonFormat) -> dict[str, Any]:
    match output:
        case InputAddressed(path):
            return {"path": _path(path, shape)}
        case Deferred():
            return {}
        case Fixed(path, method, hash):
            if path != Fixed.of(drv.name, name, method, hash).path:
                raise DerivationJSONError(
                    f"is {path}, which is not the path that the hash gives", key=f"outputs.{name}.path"
                )
            if shape.outputs == "sri":
                return {"hash": hash.sri, "method": method}
            if shape.outputs == "prefixed":
                return {"hash": hash.hex, "hashAlgo": method_algorithm(method, hash.algorithm), "path": path}
            fixed = {"hash": hash.hex, "hashAlgo": hash.algorithm, "method": method}
            return fixed if shape.outputs == "bare" else {**fixed, "path": path}
        case Floating(method, algorithm) | Impure(method, algorithm):
            impure = {"impure": True} if isinstance(output, Impure) else {}
            if shape.outputs == "prefixed":
                return {"hashAlgo": method_algorithm(method, algorithm), **impure}
            return {"hashAlgo": algorithm, **impure, "method": method}


def _lift(drv: Derivation, text: str, shape: JsonFormat) -> Any:
    try:
        lifted = json.loads(text, parse_int=integer)
        if isinstance(lifted, dict):
            if dumps(lifted) == text:
                return lifted
            if dumps(lifted, legacy=True) == text:
                reason = "are printed as Nix 2.11 and earlier print them"
            else:
                reason = "are not printed as Nix 2.12 and later print them"
        else:
            reason = "are no JSON object"
    except OverflowError as error:
        reason = f"hold {error}"
    except (ValueError, RecursionError, FormatError):
        reason = "are no JSON"
    raise DerivationJSONError(
        f"the structured attributes of {drv.name} {reason}, so that the format {shape.name} could not give them back "
        "unchanged",
        key=f"env.{STRUCTURED}",
        hint="use a format that keeps their text (--json-format 2.23 or an older one), or the ATerm (--aterm)",
    )


def integer(digits: str) -> int:
    """An integer in JSON that Nix reads as one.

    Raises
    ------
    OverflowError
        For one that Nix reads as a float, and so prints differently.
    """
    value = int(digits)
    if not -(1 << 63) <= value < 1 << 64:
        raise OverflowError(f"{digits[:40]}, which has more than 64 bits")
    return value


def _check_utf8(drv: Derivation) -> None:
    texts = [("builder", drv.builder), ("system", drv.system), *(("args", arg) for arg in drv.args)]
    for key, value in drv.env.items():
        texts += [("env", key), (f"env.{key}", value)]
    for key, text in texts:
        _check_text(drv, key, text)


def _check_text(drv: Derivation, key: str, text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DerivationJSONError(
                f"{drv.name} holds a byte that is not UTF-8, which JSON can not hold",
                key=key.encode("utf-8", "backslashreplace").decode(),
                hint="use the ATerm form (--aterm)",
            ) from error
