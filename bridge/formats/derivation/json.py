"""Derivations as JSON, version 4: what `nix derivation show` prints from Nix 2.33 on.

    document    {"derivations": {"<base name>.drv": derivation, …}, "version": 4}
    derivation  {"version": 4, "name", "outputs", "inputs": {"srcs": […], "drvs": {…}}, "system",
                 "builder", "args", "env", "structuredAttrs"?}
    output      {"path"} | {"method", "hash": SRI} | {"method", "hashAlgo"} | … "impure": true | {}
    paths       base names, except in builder, args and env, which are never rewritten

Source: Nix manual, `protocols/json/schema/derivation-v4.yaml`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, get_args

from bridge.formats.errors import DerivationJSONError, FormatError, StorePathError
from bridge.formats.hashes import ALGORITHMS, Hash
from bridge.formats.nix_json import dumps
from bridge.formats.store_path import STORE_DIR, Method, base_name, check_name, parse

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

__all__ = ["STRUCTURED", "VERSION", "document", "from_json", "read_document", "to_json"]

T = TypeVar("T")

VERSION = 4
STRUCTURED = "__json"
"""The variable of the ATerm that holds structured attributes."""


def to_json(drv: Derivation) -> dict[str, Any]:
    """The derivation as a value for `json.dump`.

    Raises
    ------
    DerivationJSONError
        For bytes that are not UTF-8, which JSON can not hold.
    """
    _check_utf8(drv)
    env = dict(drv.env)
    structured = env.pop(STRUCTURED, None)
    value: dict[str, Any] = {
        "args": list(drv.args),
        "builder": drv.builder,
        "env": env,
        "inputs": {
            "drvs": {base_name(path): _inputs_to_json(used) for path, used in drv.input_drvs.items()},
            "srcs": sorted(map(base_name, drv.input_srcs)),
        },
        "name": drv.name,
        "outputs": {name: _output_to_json(output) for name, output in drv.outputs.items()},
        "system": drv.system,
        "version": VERSION,
    }
    if structured is not None:
        try:
            lifted = json.loads(structured)
            same = isinstance(lifted, dict) and dumps(lifted) == structured
        except (ValueError, RecursionError, FormatError) as error:
            raise DerivationJSONError(f"{drv.name} has no JSON there: {error}", key=f"env.{STRUCTURED}") from error
        if not same:
            raise DerivationJSONError(
                f"the structured attributes of {drv.name} are not printed as Nix prints them, so that JSON "
                "version 4 can not give them back unchanged",
                key=f"env.{STRUCTURED}",
            )
        value["structuredAttrs"] = lifted
    return value


def document(derivations: Mapping[str, Derivation]) -> dict[str, Any]:
    """The document that `nix derivation show` prints: derivations by their store path."""
    return {
        "derivations": {base_name(path): to_json(drv) for path, drv in derivations.items()},
        "version": VERSION,
    }


def _inputs_to_json(used: InputOutputs) -> dict[str, Any]:
    return {
        "dynamicOutputs": {name: _inputs_to_json(inner) for name, inner in used.dynamic.items()},
        "outputs": list(used.outputs),
    }


def _output_to_json(output: Output) -> dict[str, Any]:
    match output:
        case InputAddressed(path):
            return {"path": base_name(path)}
        case Fixed(_, method, hash):
            return {"hash": hash.sri, "method": method}
        case Floating(method, algorithm):
            return {"hashAlgo": algorithm, "method": method}
        case Impure(method, algorithm):
            return {"hashAlgo": algorithm, "impure": True, "method": method}
        case Deferred():
            return {}


def _check_utf8(drv: Derivation) -> None:
    texts = [("system", drv.system), ("builder", drv.builder), *(("args", arg) for arg in drv.args)]
    for key, text in [*texts, *(("env", name) for name in drv.env), *drv.env.items()]:
        if not _is_unicode(text):
            raise DerivationJSONError(
                f"{drv.name} holds a byte that is not UTF-8 in {key}, which JSON can not hold",
                key=key,
                hint="use the ATerm form (--aterm)",
            )


def _is_unicode(text: str) -> bool:
    """Whether there is no surrogate in `text`, neither an escaped byte nor half of a pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# ----------------------------------------------------------------------------------------- reading


def read_document(value: object) -> dict[str, Derivation]:
    """The derivations of a document, or of a single derivation object, by base name.

    The base name of a single derivation, which it does not tell, is its name and `.drv`.
    """
    top = _object(value, "")
    if "derivations" not in top:
        drv = from_json(top)
        return {f"{drv.name}.drv": drv}
    _version(top, "version")
    found = _object(top["derivations"], "derivations")
    return {name: from_json(entry, key=f"derivations.{name}") for name, entry in found.items()}


def from_json(value: object, key: str = "") -> Derivation:
    """Read one derivation.

    Parameters
    ----------
    key
        Where the value stands in its document, for messages.

    Raises
    ------
    DerivationJSONError
        With the path of keys to what is wrong.
    """
    top = _object(value, key)
    _version(top, _join(key, "version"))
    name = _get(top, "name", _name, key)
    inputs = _get(top, "inputs", _object, key)
    at = _join(key, "inputs")
    env = {
        _text(k, _join(key, "env")): _text(v, _join(key, f"env.{k}")) for k, v in _get(top, "env", _object, key).items()
    }
    if STRUCTURED in env:
        raise DerivationJSONError("is reserved; use structuredAttrs", key=_join(key, f"env.{STRUCTURED}"))
    if "structuredAttrs" in top:
        env[STRUCTURED] = _get(top, "structuredAttrs", _structured, key)
    outputs = _get(top, "outputs", _object, key)
    drvs = _get(inputs, "drvs", _object, at)
    return Derivation(
        name=name,
        outputs={
            _name(o, _join(key, "outputs")): _output(v, name, o, _join(key, f"outputs.{o}")) for o, v in outputs.items()
        },
        input_drvs={_path(p, _join(at, "drvs")): _inputs(v, _join(at, f"drvs.{p}")) for p, v in drvs.items()},
        input_srcs=tuple(_path(p, _join(at, "srcs")) for p in _get(inputs, "srcs", _texts, at)),
        system=_get(top, "system", _text, key),
        builder=_get(top, "builder", _text, key),
        args=tuple(_get(top, "args", _texts, key)),
        env=env,
    )


def _join(key: str, more: str) -> str:
    return f"{key}.{more}" if key else more


def _get(value: Mapping[str, object], name: str, read: Callable[[object, str], T], key: str) -> T:
    if name not in value:
        raise DerivationJSONError("is missing", key=_join(key, name))
    return read(value[name], _join(key, name))


def _version(value: Mapping[str, object], key: str) -> None:
    found = value.get("version")
    if found != VERSION:
        raise DerivationJSONError(f"is {found!r}; this reads version {VERSION}", key=key)


def _object(value: object, key: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise DerivationJSONError(f"must be an object, not {type(value).__name__}", key=key)
    return value


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise DerivationJSONError(f"must be a string, not {type(value).__name__}", key=key)
    if not _is_unicode(value):
        raise DerivationJSONError("holds half of a surrogate pair, which is no text", key=key)
    return value


def _name(value: object, key: str) -> str:
    try:
        return check_name(_text(value, key))
    except StorePathError as error:
        raise DerivationJSONError(error.message, key=key, hint=error.hint) from error


def _texts(value: object, key: str) -> list[str]:
    if not isinstance(value, list):
        raise DerivationJSONError(f"must be a list of strings, not {type(value).__name__}", key=key)
    return [_text(item, f"{key}[{number}]") for number, item in enumerate(value)]


def _structured(value: object, key: str) -> str:
    try:
        return dumps(cast(Any, _object(value, key)))
    except DerivationJSONError:
        raise
    except FormatError as error:
        raise DerivationJSONError(error.message, key=key) from error


def _path(name: str, key: str) -> str:
    path = f"{STORE_DIR}/{name}"
    try:
        parse(path)
    except FormatError as error:
        raise DerivationJSONError(f"{name!r} is no base name of a store path: {error.message}", key=key) from error
    return path


def _inputs(value: object, key: str) -> InputOutputs:
    entry = _object(value, key)
    dynamic = _get(entry, "dynamicOutputs", _object, key)
    return InputOutputs(
        tuple(_get(entry, "outputs", _texts, key)),
        {name: _inputs(inner, _join(key, f"dynamicOutputs.{name}")) for name, inner in dynamic.items()},
    )


def _output(value: object, name: str, output: str, key: str) -> Output:
    entry = _object(value, key)
    read = _OUTPUTS.get(frozenset(entry))
    if read is None:
        raise DerivationJSONError(f"the keys {sorted(entry)} are those of no kind of output", key=key)
    return read(entry, name, output, key)


def _method(value: object, key: str) -> Method:
    if value not in get_args(Method):
        raise DerivationJSONError(f"{value!r} is none of {', '.join(get_args(Method))}", key=key)
    return cast(Method, value)


def _algorithm(value: object, key: str) -> str:
    name = _text(value, key)
    if name not in ALGORITHMS:
        raise DerivationJSONError(f"{name!r} is none of {', '.join(ALGORITHMS)}", key=key)
    return name


def _input_addressed(entry: dict[str, object], name: str, output: str, key: str) -> Output:
    return InputAddressed(_path(_get(entry, "path", _text, key), _join(key, "path")))


def _fixed(entry: dict[str, object], name: str, output: str, key: str) -> Output:
    try:
        content = Hash.parse(_get(entry, "hash", _text, key))
        return Fixed.of(name, output, _get(entry, "method", _method, key), content)
    except DerivationJSONError:
        raise
    except FormatError as error:
        raise DerivationJSONError(error.message, key=key, hint=error.hint) from error


def _floating(entry: dict[str, object], name: str, output: str, key: str) -> Output:
    return Floating(_get(entry, "method", _method, key), _get(entry, "hashAlgo", _algorithm, key))


def _impure(entry: dict[str, object], name: str, output: str, key: str) -> Output:
    if entry["impure"] is not True:
        raise DerivationJSONError("must be true", key=_join(key, "impure"))
    return Impure(_get(entry, "method", _method, key), _get(entry, "hashAlgo", _algorithm, key))


# The exact set of keys decides the kind, as in Nix.
_OUTPUTS: dict[frozenset[str], Callable[[dict[str, object], str, str, str], Output]] = {
    frozenset({"path"}): _input_addressed,
    frozenset({"method", "hash"}): _fixed,
    frozenset({"method", "hashAlgo"}): _floating,
    frozenset({"method", "hashAlgo", "impure"}): _impure,
    frozenset(): lambda entry, name, output, key: Deferred(),
}
