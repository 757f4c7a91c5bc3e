"""From JSON to derivations: any shape, without being told which."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, get_args

from bridge.formats.derivation.aterm import DRV_SUFFIX, split_method_algorithm
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
from bridge.formats.errors import DerivationJSONError, FormatError, StorePathError
from bridge.formats.hashes import ALGORITHMS, Hash
from bridge.formats.nix_json import dumps
from bridge.formats.store_path import STORE_DIR, Method, check_name, name_part, parse

from .write import MAX_DYNAMIC, STRUCTURED, integer

__all__ = ["from_json", "read_document"]

T = TypeVar("T")
_VERSIONS = (3, 4)


def read_document(value: object) -> dict[str, Derivation]:
    """The derivations of a document, or of a single derivation object, by base name.

    The base name of a single derivation, which it does not tell, is its name and `.drv`.

    Raises
    ------
    DerivationJSONError
        With the path of keys to what is wrong.
    """
    top = _object(value, "")
    if "derivations" in top:
        if top.get("version") != 4:
            raise DerivationJSONError(f"is {top.get('version')!r}; this reads version 4", key="version")
        found = _object(top["derivations"], "derivations")
        return {name: from_json(entry, f"derivations.{name}", name) for name, entry in found.items()}
    if "outputs" in top:
        drv = from_json(top)
        return {f"{drv.name}{DRV_SUFFIX}": drv}
    if not top:
        raise DerivationJSONError("there is no derivation in this")
    derivations = {}
    for path, entry in top.items():
        base = path.rpartition("/")[2]
        if base in derivations:
            raise DerivationJSONError("stands twice, with and without its folder", key=path)
        derivations[base] = from_json(entry, path, base)
    return derivations


def from_json(value: object, key: str = "", base: str | None = None) -> Derivation:
    """Read one derivation.

    Parameters
    ----------
    key
        Where the value stands in its document, for messages.
    base
        The base name of its `.drv`, which tells the name where the shape does not (before Nix 2.15).

    Raises
    ------
    DerivationJSONError
        With the path of keys to what is wrong.
    """
    top = _object(value, key)
    version = top.get("version")
    if "version" in top and version not in _VERSIONS:
        raise DerivationJSONError(
            f"is {version!r}; this reads the versions 3 and 4, and what came before versions",
            key=_join(key, "version"),
        )
    name = _name(top, key, base)
    env = {
        _text(k, _join(key, "env")): _text(v, _join(key, f"env.{k}")) for k, v in _get(top, "env", _object, key).items()
    }
    if STRUCTURED in env and (version is not None or "structuredAttrs" in top):
        raise DerivationJSONError("is reserved; use structuredAttrs", key=_join(key, f"env.{STRUCTURED}"))
    if "structuredAttrs" in top:
        env[STRUCTURED] = _get(top, "structuredAttrs", _structured, key)
    if version == 4:
        inputs, at, drvs_key, srcs_key = _get(top, "inputs", _object, key), _join(key, "inputs"), "drvs", "srcs"
    else:
        inputs, at, drvs_key, srcs_key = top, key, "inputDrvs", "inputSrcs"
    drvs, srcs = _get(inputs, drvs_key, _object, at), _get(inputs, srcs_key, _texts, at)
    drvs_key, srcs_key = _join(at, drvs_key), _join(at, srcs_key)
    outputs = _get(top, "outputs", _object, key)
    based = version is not None
    return Derivation(
        name=name,
        outputs={
            _store_name(o, _join(key, "outputs")): _output(v, name, o, _join(key, f"outputs.{o}"), based)
            for o, v in outputs.items()
        },
        input_drvs={_path(p, drvs_key, based): _inputs(v, f"{drvs_key}.{p}") for p, v in drvs.items()},
        # A set, as Nix reads it.
        input_srcs=tuple(sorted({_path(p, f"{srcs_key}[{i}]", based) for i, p in enumerate(srcs)})),
        system=_get(top, "system", _text, key),
        builder=_get(top, "builder", _text, key),
        args=tuple(_get(top, "args", _texts, key)),
        env=env,
    )


def _name(top: Mapping[str, object], key: str, base: str | None) -> str:
    if "name" in top:
        return _store_name(top["name"], _join(key, "name"))
    if base is None or top.get("version") is not None:
        raise DerivationJSONError(
            "is missing", key=_join(key, "name"), hint="before Nix 2.15 only the path tells it: give the whole map"
        )
    return name_part(_path(base, key, True)).removesuffix(DRV_SUFFIX)


def _join(key: str, more: str) -> str:
    return f"{key}.{more}" if key else more


def _get(value: Mapping[str, object], name: str, read: Callable[[object, str], T], key: str) -> T:
    if name not in value:
        raise DerivationJSONError("is missing", key=_join(key, name))
    return read(value[name], _join(key, name))


def _object(value: object, key: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise DerivationJSONError(f"must be an object, not {type(value).__name__}", key=key)
    return value


def _text(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise DerivationJSONError(f"must be a string, not {type(value).__name__}", key=key)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        # JSON can write one ("\\ud800"), but no bytes of a derivation are it.
        raise DerivationJSONError("holds half of a surrogate pair, which is no text", key=key) from error
    return value


def _store_name(value: object, key: str) -> str:
    try:
        return check_name(_text(value, key))
    except StorePathError as error:
        raise DerivationJSONError(error.message, key=key, hint=error.hint) from error


def _structured(value: object, key: str) -> str:
    lifted = cast(Any, _object(value, key))
    try:
        text = dumps(lifted)
        json.loads(text, parse_int=integer)
    except FormatError as error:
        raise DerivationJSONError(error.message, key=key) from error
    except OverflowError as error:
        raise DerivationJSONError(f"holds {error}", key=key) from error
    return text


def _texts(value: object, key: str) -> list[str]:
    if not isinstance(value, list):
        raise DerivationJSONError(f"must be a list of strings, not {type(value).__name__}", key=key)
    return [_text(item, f"{key}[{number}]") for number, item in enumerate(value)]


def _path(name: str, key: str, based: bool) -> str:
    path = f"{STORE_DIR}/{name}" if based else name
    try:
        parse(path)
    except FormatError as error:
        what = "base name of a store path" if based else "store path"
        raise DerivationJSONError(f"{name!r} is no {what}: {error.message}", key=key) from error
    return path


def _inputs(value: object, key: str, depth: int = 0) -> InputOutputs:
    if depth > MAX_DYNAMIC:
        raise DerivationJSONError(f"has dynamic outputs nested more than {MAX_DYNAMIC} deep", key=key[:80])
    if isinstance(value, list):
        return InputOutputs(_output_names(value, key))
    entry = _object(value, key)
    dynamic = _get(entry, "dynamicOutputs", _object, key)
    inside = _join(key, "dynamicOutputs")
    return InputOutputs(
        _get(entry, "outputs", _output_names, key),
        {
            _store_name(name, inside): _inputs(inner, f"{inside}.{name}", depth + 1)
            for name, inner in sorted(dynamic.items())
        },
    )


def _output_names(value: object, key: str) -> tuple[str, ...]:
    """A set, as Nix reads it."""
    return tuple(sorted({_store_name(name, f"{key}[{i}]") for i, name in enumerate(_texts(value, key))}))


# ----------------------------------------------------------------------------------------- outputs


def _output(value: object, name: str, output: str, key: str, based: bool) -> Output:
    entry = _object(value, key)
    keys = frozenset(entry)
    if keys == {"path"}:
        return InputAddressed(_path(_get(entry, "path", _text, key), _join(key, "path"), based))
    read = _OUTPUTS.get(keys - {"path"})
    elsewhere = based and keys and ("path" in keys or "method" not in keys)  # shapes from before the versions
    if read is None or elsewhere or ("path" in keys and "hash" not in keys):
        raise DerivationJSONError(f"the keys {sorted(entry)} are those of no kind of output", key=key)
    try:
        found = read(entry, name, output, key)
    except DerivationJSONError:
        raise
    except FormatError as error:
        raise DerivationJSONError(error.message, key=key, hint=error.hint) from error
    if isinstance(found, Fixed) and "path" in entry and entry["path"] != found.path:
        raise DerivationJSONError(f"is {entry['path']!r}, but the hash gives {found.path}", key=_join(key, "path"))
    return found


def _method(value: object, key: str) -> Method:
    if value not in get_args(Method):
        raise DerivationJSONError(f"{value!r} is none of {', '.join(get_args(Method))}", key=key)
    return cast(Method, value)


def _algorithm(value: object, key: str) -> str:
    if not isinstance(value, str) or value not in ALGORITHMS:
        raise DerivationJSONError(f"{value!r} is none of {', '.join(ALGORITHMS)}", key=key)
    return value


def _method_and_algorithm(entry: dict[str, object], key: str) -> tuple[Method, str]:
    if "method" in entry:
        return _get(entry, "method", _method, key), _get(entry, "hashAlgo", _algorithm, key)
    return split_method_algorithm(_get(entry, "hashAlgo", _text, key))


def _fixed(entry: dict[str, object], name: str, output: str, key: str) -> Output:
    if "hashAlgo" not in entry:
        content = Hash.parse(_get(entry, "hash", _text, key))
        return Fixed.of(name, output, _get(entry, "method", _method, key), content)
    method, algorithm = _method_and_algorithm(entry, key)
    return Fixed.of(name, output, method, Hash.parse(_get(entry, "hash", _text, key), algorithm))


def _floating(entry: dict[str, object], name: str, output: str, key: str) -> Output:
    return Floating(*_method_and_algorithm(entry, key))


def _impure(entry: dict[str, object], name: str, output: str, key: str) -> Output:
    if entry["impure"] is not True:
        raise DerivationJSONError("must be true", key=_join(key, "impure"))
    return Impure(*_method_and_algorithm(entry, key))


# The exact set of keys, but for `path`, decides the kind, as in Nix.
_OUTPUTS: dict[frozenset[str], Callable[[dict[str, object], str, str, str], Output]] = {
    frozenset({"method", "hash"}): _fixed,
    frozenset({"method", "hash", "hashAlgo"}): _fixed,
    frozenset({"hash", "hashAlgo"}): _fixed,
    frozenset({"method", "hashAlgo"}): _floating,
    frozenset({"hashAlgo"}): _floating,
    frozenset({"method", "hashAlgo", "impure"}): _impure,
    frozenset({"hashAlgo", "impure"}): _impure,
    frozenset(): lambda entry, name, output, key: Deferred(),
}
