r"""Derivations as ATerm: the contents of `.drv` files.

    drv      Derive([output,…],[inputDrv,…],["src",…],"system","builder",["arg",…],[("key","value"),…])
    output   ("name","path","[r:|text:|git:]algo","hex hash")   floating: no path, no hash; deferred: all
             empty; impure: the hash is the word impure
    inputDrv ("/nix/store/….drv",["output",…])
    text     \\ \" \n \r \t are escaped, every other byte stands for itself; lists are sorted bytewise

Source: Nix manual, "Derivation ATerm format" (`protocols/derivation-aterm.md`).

The parser is our own: `pynixutil.drvparse` goes through Python's `ast`, does less than half as many
derivations a second (`tests/bench/bench_aterm.py`), takes UTF-8 only and does not tell a malformed
file from a good one. It is the second opinion in `bridge.store.verify`, where its speed is enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from bridge.formats.errors import ATermError, DerivationError, FormatError
from bridge.formats.hashes import ALGORITHMS, Hash
from bridge.formats.store_path import STORE_PATH, Method, check_name, parse

from .types import (
    Deferred,
    Derivation,
    Fixed,
    Floating,
    Impure,
    InputAddressed,
    InputOutputs,
    Output,
    bytewise,
    to_bytes,
)

__all__ = [
    "DRV_SUFFIX",
    "method_algorithm",
    "parse_aterm",
    "split_method_algorithm",
    "unparse",
    "unparse_parts",
]

DRV_SUFFIX = ".drv"

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
# What is left of a derivation once its strings are taken out, a mark where each was.
_SHAPE = re.compile(
    r'Derive\(\[(?P<outputs>(?:\(",",","\)(?:,(?!\])|(?=\])))*)\]'
    r',\[(?P<inputs>(?:\(",\[(?:"(?:,(?!\])|(?=\])))*\]\)(?:,(?!\])|(?=\])))*)\]'
    r',\[(?P<sources>(?:"(?:,(?!\])|(?=\])))*)\],","'
    r',\[(?P<args>(?:"(?:,(?!\])|(?=\])))*)\]'
    r',\[(?P<env>(?:\(","\)(?:,(?!\])|(?=\])))*)\]\)'
)
_PATHS = re.compile(rf"(?:{STORE_PATH.pattern}\n)*+")
# These stand for escapes while a text is taken apart; no bytes decode to them with surrogateescape.
_BACKSLASH, _QUOTE, _OTHER = "\ud800", "\ud801", "\ud802"
_METHOD_PREFIX: dict[Method, str] = {"flat": "", "nar": "r:", "text": "text:", "git": "git:"}
_IMPURE = "impure"


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


# ---------------------------------------------------------------------------------------- printing


def _quote(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    if "\n" in text or "\r" in text or "\t" in text:
        text = text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return f'"{text}"'


def _output(name: str, output: Output) -> str:
    match output:
        case InputAddressed(path):
            return f'("{name}","{path}","","")'
        case Deferred():
            return f'("{name}","","","")'
        case Fixed(path, method, hash):
            return f'("{name}","{path}","{method_algorithm(method, hash.algorithm)}","{hash.hex}")'
        case Floating(method, algorithm):
            return f'("{name}","","{method_algorithm(method, algorithm)}","")'
        case Impure(method, algorithm):
            return f'("{name}","","{method_algorithm(method, algorithm)}","{_IMPURE}")'


def _inputs(inputs: Mapping[str, Iterable[str]]) -> str:
    entries = []
    for path in bytewise(inputs):
        names = '","'.join(bytewise(inputs[path]))
        entries.append(f'("{path}",["{names}"])' if names else f'("{path}",[])')
    return ",".join(entries)


def unparse_parts(
    outputs: Mapping[str, Output],
    inputs: Mapping[str, Iterable[str]],
    sources: Iterable[str],
    system: str,
    builder: str,
    args: Iterable[str],
    env: Mapping[str, str],
) -> str:
    """The ATerm of these parts; `hashDerivationModulo` prints inputs that are no paths."""
    shown_outputs = ",".join(_output(name, outputs[name]) for name in bytewise(outputs))
    shown_sources = ",".join(f'"{path}"' for path in bytewise(sources))
    shown_args = ",".join(map(_quote, args))
    shown_env = ",".join(f"({_quote(key)},{_quote(env[key])})" for key in bytewise(env))
    return (
        f"Derive([{shown_outputs}],[{_inputs(inputs)}],[{shown_sources}],"
        f'"{system}",{_quote(builder)},[{shown_args}],[{shown_env}])'
    )


def unparse(drv: Derivation) -> bytes:
    """The bytes of the derivation's `.drv` file.

    Raises
    ------
    DerivationError
        For dynamic outputs, which the plain form does not hold, and for a quotation mark or a backslash
        where the form has no escapes.
    """
    bare = [drv.system, *drv.outputs, *drv.input_drvs, *drv.input_srcs]
    for path, used in drv.input_drvs.items():
        if used.dynamic:
            raise DerivationError(f"{drv.name} uses dynamic outputs of {path}; the plain ATerm can not hold them")
        bare += used.outputs
    if not _is_bare("".join(bare)):
        bad = next(text for text in bare if not _is_bare(text))
        raise DerivationError(f"{drv.name}: the ATerm can not hold {bad!r}, which would need escapes where it has none")
    text = unparse_parts(
        drv.outputs,
        {path: used.outputs for path, used in drv.input_drvs.items()},
        drv.input_srcs,
        drv.system,
        drv.builder,
        drv.args,
        drv.env,
    )
    return to_bytes(text)


def _is_bare(text: str) -> bool:
    """Whether this may stand where Nix prints without escapes: in names, paths and the system."""
    return '"' not in text and "\\" not in text


# ----------------------------------------------------------------------------------------- parsing


def parse_aterm(data: bytes, name: str) -> Derivation:
    """Read a `.drv` file.

    Parameters
    ----------
    data
        The whole file.
    name
        The derivation's name, which only the file's name tells.

    Raises
    ------
    ATermError
        With the position of the first byte that is not as the grammar says.
    """
    text = data.decode("utf-8", "surrogateescape")
    strings, shown = _take_apart(text)
    shape = _SHAPE.fullmatch(shown)
    if shape is None:
        raise _explain(text)

    at = shape["outputs"].count("(") * 4
    outputs: dict[str, Output] = {}
    for start in range(0, at, 4):
        output = strings[start]
        try:
            check_name(output)
            outputs[output] = _read_output(*strings[start + 1 : start + 4])
        except FormatError as error:
            raise _at_string(error.message, text, start) from error
    if len(outputs) * 4 != at:
        raise _repeated("output", strings[:at:4], text, range(0, at, 4))
    input_drvs: dict[str, InputOutputs] = {}
    indices = []
    for entry in shape["inputs"].split("(")[1:]:
        count = entry.count('"')
        indices.append(at)
        input_drvs[strings[at]] = InputOutputs(tuple(strings[at + 1 : at + count]))
        at += count
    if len(input_drvs) != len(indices):
        raise _repeated("input derivation", [strings[index] for index in indices], text, indices)
    count = shape["sources"].count('"')
    sources = tuple(strings[at : at + count])
    _check_paths(strings, [*indices, *range(at, at + count)], text)
    if len(set(sources)) != count:
        raise _repeated("source", sources, text, range(at, at + count))
    at += count
    system, builder = strings[at : at + 2]
    if not _is_bare("".join(strings[: at + 1])):
        index = next(index for index in range(at + 1) if not _is_bare(strings[index]))
        raise _at_string(f"{strings[index]!r} holds what Nix does not escape here", text, index)
    at += 2
    count = shape["args"].count('"')
    args = tuple(strings[at : at + count])
    at += count
    keys = strings[at::2]
    env = dict(zip(keys, strings[at + 1 :: 2], strict=True))
    if len(env) != len(keys):
        raise _repeated("variable", keys, text, range(at, len(strings), 2))
    return Derivation(name, outputs, input_drvs, sources, system, builder, args, env)


def _take_apart(text: str) -> tuple[list[str], str]:
    """The strings of a derivation, unescaped, and what is left with a mark for each.

    With every escape replaced, each quotation mark left begins or ends a string, so that `str.split`
    finds them: passes over the text in C, none in Python. An escape outside of a string leaves what no
    derivation has there, and so does an odd number of quotation marks.
    """
    escaped = "\\" in text
    if escaped:
        text = text.replace("\\\\", _BACKSLASH).replace('\\"', _QUOTE)
        text = text.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")
        # Nix writes no other escapes, but reads one as the character behind it.
        text = text.replace("\\", _OTHER).replace(_BACKSLASH, "\\")
    parts = text.split('"')
    strings, between = parts[1::2], parts[::2]
    if len(strings) == len(between):
        return strings, ""
    if escaped:
        for mark, char in (_QUOTE, '"'), (_OTHER, ""):
            if mark in text:
                strings = [string.replace(mark, char) for string in strings]
    return strings, '"'.join(between)


def _check_paths(strings: list[str], indices: list[int], text: str) -> None:
    shown = "".join([strings[index] + "\n" for index in indices])
    if shown.count("\n") == len(indices) and _PATHS.fullmatch(shown):
        return
    for index in indices:
        try:
            parse(strings[index])
        except FormatError as error:
            raise _at_string(error.message, text, index) from error


def _read_output(path: str, algorithm: str, digest: str) -> Output:
    if not algorithm:
        if digest:
            raise FormatError(f"an output with the hash {digest!r} has no hash algorithm")
        if not path:
            return Deferred()
        parse(path)
        return InputAddressed(path)
    method, name = split_method_algorithm(algorithm)
    if digest == _IMPURE:
        if path:
            raise FormatError(f"an impure output has the path {path!r}")
        return Impure(method, name)
    if not digest:
        if path:
            raise FormatError(f"a floating output has the path {path!r}")
        return Floating(method, name)
    parse(path)
    return Fixed(path, method, Hash.parse(digest, name))


def _repeated(what: str, found: Sequence[str], text: str, indices: Sequence[int]) -> ATermError:
    """The second of two equal ones; `indices` are their places among all strings."""
    place = next(place for place, one in enumerate(found) if one in found[:place])
    return _at_string(f"the {what} {found[place]!r} stands there twice", text, indices[place])


def _at_string(message: str, text: str, index: int) -> ATermError:
    found = next((match for number, match in enumerate(_STRING.finditer(text)) if number == index), None)
    return ATermError(message, position=_bytes_before(text, found.start() if found else 0))


def _bytes_before(text: str, position: int) -> int:
    return len(text[:position].encode("utf-8", "surrogateescape"))


def _explain(text: str) -> ATermError:
    """What is wrong with a text that does not have the shape of a derivation, and where."""
    position = 0

    def fail(expected: str) -> ATermError:
        found = "the end" if position >= len(text) else repr(text[position])
        return ATermError(f"expected {expected}, found {found}", position=_bytes_before(text, position))

    def literal(word: str) -> None:
        nonlocal position
        for char in word:
            if not text.startswith(char, position):
                raise fail(repr(char))
            position += 1

    def string() -> None:
        nonlocal position
        if not text.startswith('"', position):
            raise fail("a string")
        found = _STRING.match(text, position)
        if found is None:
            raise ATermError("a string without an end", position=_bytes_before(text, position))
        position = found.end()

    def many(item: object) -> None:
        nonlocal position
        literal("[")
        if text.startswith("]", position):
            position += 1
            return
        while True:
            one(item)
            if text.startswith("]", position):
                position += 1
                return
            literal(",")

    def one(item: object) -> None:
        if item is str:
            string()
        elif isinstance(item, list):
            many(item[0])
        elif isinstance(item, tuple):
            literal("(")
            for number, part in enumerate(item):
                if number:
                    literal(",")
                one(part)
            literal(")")

    try:
        literal("Derive")
        one(([(str, str, str, str)], [(str, [str])], [str], str, str, [str], [(str, str)]))
    except ATermError as error:
        return error
    if position < len(text):
        return fail("the end of the derivation")
    return ATermError("this is no derivation", position=0)
