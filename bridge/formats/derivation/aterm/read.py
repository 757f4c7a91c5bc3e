"""From ATerm to derivations.

The parser is our own: `pynixutil.drvparse` goes through Python's `ast`, does a fraction as many derivations
a second (`tests/bench/bench_aterm.py`), takes UTF-8 only, does not know the versioned form and does not tell
a malformed file from a good one. It is the second opinion in `bridge.store.verify`, where its speed is enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

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
from bridge.formats.errors import ATermError, FormatError
from bridge.formats.hashes import Hash
from bridge.formats.store_path import STORE_PATH, check_name, parse

from .notation import IMPURE, VERSION, is_bare, split_method_algorithm

try:
    from bridge.formats import _native
except ImportError:  # there was no compiler: the same in Python
    _native = None  # type: ignore[assignment]

__all__ = ["parse_aterm"]

_MAX_DYNAMIC = 100
"""Outputs of outputs of outputs … go no deeper: far more than anything has, far less than recursion allows."""

# What is left of a derivation once its strings are taken out, a mark where each was.
_STRINGS = r'(?:"(?:,(?!\])|(?=\])))*'
_OUTPUTS = r'\[(?P<outputs>(?:\(",",","\)(?:,(?!\])|(?=\])))*)\],'
_INPUTS = rf'\[(?P<inputs>(?:\(",\[{_STRINGS}\]\)(?:,(?!\])|(?=\])))*)\]'
_REST = (
    rf',\[(?P<sources>{_STRINGS})\],","'
    rf",\[(?P<args>{_STRINGS})\]"
    r',\[(?P<env>(?:\(","\)(?:,(?!\])|(?=\])))*)\]\)'
)
_PLAIN = re.compile(rf"Derive\({_OUTPUTS}{_INPUTS}{_REST}")
_VERSIONED = 'DrvWithVersion(",'
_VERSIONED_OUTPUTS, _VERSIONED_REST = re.compile(_OUTPUTS), re.compile(_REST)

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_PATHS = re.compile(rf"(?:{STORE_PATH.pattern}\n)*+")
# Each stands for an escape while a text is taken apart. Control characters keep an ASCII text at a byte a
# character; where a text holds them itself, what no bytes decode to.
_MARKS = ("\x01", "\x02", "\x03", "\x04")
_OTHER_MARKS = ("\ud800", "\ud801", "\ud802", "\ud803")


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
    strings, shown = take_apart(data)
    if shown.startswith(_VERSIONED):
        return _parse_versioned(data, strings, shown, name)
    shape = _PLAIN.fullmatch(shown)
    if shape is None:
        raise _explain(data)
    outputs_end = at = shape["outputs"].count("(") * 4
    input_drvs: dict[str, InputOutputs] = {}
    indices = []
    for entry in shape["inputs"].split("(")[1:]:
        count = entry.count('"')
        indices.append(at)
        input_drvs[strings[at]] = _plain_outputs(tuple(strings[at + 1 : at + count]))
        at += count
    outputs = _read_outputs(data, name, strings, 0, outputs_end)
    return _assemble(name, data, strings, outputs, input_drvs, indices, shape, at)


@lru_cache(maxsize=4096)
def _plain_outputs(names: tuple[str, ...]) -> InputOutputs:
    """Shared, since almost all inputs use the same few outputs."""
    return InputOutputs(names)


def _parse_versioned(data: bytes, strings: list[str], shown: str, name: str) -> Derivation:
    if strings[0] != VERSION:
        raise _at_string(f"the version {strings[0]!r} is none that this reads; there is {VERSION}", data, 0)
    shape = _VERSIONED_OUTPUTS.match(shown, len(_VERSIONED))
    if shape is None:
        raise _explain(data)
    outputs_end = 1 + shape["outputs"].count("(") * 4
    outputs = _read_outputs(data, name, strings, 1, outputs_end)
    cursor = _Cursor(data, strings, shown, shape.end(), outputs_end)
    input_drvs: dict[str, InputOutputs] = {}
    indices = []
    for _ in cursor.entries():
        indices.append(cursor.at)
        path = cursor.string()
        input_drvs[path] = cursor.used()
    rest = _VERSIONED_REST.fullmatch(shown, cursor.position)
    if rest is None:
        raise _explain(data)
    return _assemble(name, data, strings, outputs, input_drvs, indices, rest, cursor.at)


@dataclass(slots=True)
class _Cursor:
    """Reads the trees of inputs that the versioned form has.

    Parameters
    ----------
    position, at
        How far `shown` and `strings` were read.
    """

    data: bytes
    strings: list[str]
    shown: str
    position: int
    at: int

    def expect(self, literal: str) -> None:
        if not self.shown.startswith(literal, self.position):
            raise _explain(self.data)
        self.position += len(literal)

    def string(self) -> str:
        self.expect('"')
        self.at += 1
        return self.strings[self.at - 1]

    def items(self) -> Iterator[None]:
        """Once for each item of a list, which the caller reads."""
        self.expect("[")
        if not self.shown.startswith("]", self.position):
            yield
            while self.shown.startswith(",", self.position):
                self.position += 1
                yield
        self.expect("]")

    def entries(self) -> Iterator[None]:
        """Once for each pair of a name and what is used of it, which the caller reads."""
        for _ in self.items():
            self.expect("(")
            yield
            self.expect(")")

    def used(self, depth: int = 0) -> InputOutputs:
        """What follows the comma behind a name."""
        self.expect(",")
        nested = self.shown.startswith("(", self.position)
        if nested:
            if depth >= _MAX_DYNAMIC:
                raise _explain(self.data)
            self.expect("(")
        names = tuple([self.string() for _ in self.items()])
        dynamic: dict[str, InputOutputs] = {}
        if nested:
            self.expect(",")
            for _ in self.entries():
                at = self.at
                name = self.string()
                if name in dynamic:
                    raise _at_string(f"the output {name!r} stands there twice", self.data, at)
                dynamic[name] = self.used(depth + 1)
            self.expect(")")
        return InputOutputs(names, dynamic)


def _assemble(
    name: str,
    data: bytes,
    strings: list[str],
    outputs: dict[str, Output],
    input_drvs: dict[str, InputOutputs],
    indices: list[int],
    rest: re.Match[str],
    at: int,
) -> Derivation:
    """The derivation, its sources and what follows still to be read.

    Parameters
    ----------
    indices
        Which strings are the paths of input derivations.
    rest
        The shape of what follows.
    at
        The first of the strings that follow.
    """
    if len(input_drvs) != len(indices):
        raise _repeated("input derivation", [strings[index] for index in indices], data, indices)
    count = rest["sources"].count('"')
    sources = tuple(strings[at : at + count])
    _check_paths(strings, [*indices, *range(at, at + count)], data)
    if len(set(sources)) != count:
        raise _repeated("source", sources, data, range(at, at + count))
    at += count
    system, builder = strings[at : at + 2]
    if not is_bare("".join(strings[: at + 1])):
        index = next(index for index in range(at + 1) if not is_bare(strings[index]))
        raise _at_string(f"{strings[index]!r} holds what Nix does not escape here", data, index)
    at += 2
    count = rest["args"].count('"')
    args = tuple(strings[at : at + count])
    at += count
    keys = strings[at::2]
    env = dict(zip(keys, strings[at + 1 :: 2], strict=True))
    if len(env) != len(keys):
        raise _repeated("variable", keys, data, range(at, len(strings), 2))
    return Derivation(name, outputs, input_drvs, sources, system, builder, args, env)


def _take_apart(data: bytes) -> tuple[list[str], str]:
    """The strings of a derivation, unescaped, and what is left with a mark for each.

    With every escape replaced, each quotation mark left begins or ends a string, so that `str.split`
    finds them: passes over the text in C, none in Python. An escape outside of a string leaves what no
    derivation has there, and so does an odd number of quotation marks.
    """
    text = data.decode("utf-8", "surrogateescape")
    plain = "\x01" not in text and "\x02" not in text and "\x03" not in text and "\x04" not in text
    backslash, quote, other, end = _MARKS if plain else _OTHER_MARKS
    quoted = odd = False
    if "\\" in text:
        text = text.replace("\\\\", backslash)
        quoted = '\\"' in text
        text = text.replace('\\"', quote).replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")
        odd = "\\" in text
        # Nix writes no other escapes, but reads one as the character behind it.
        text = text.replace("\\", other).replace(backslash, "\\")
    parts = text.split('"')
    strings, between = parts[1::2], parts[::2]
    if len(strings) == len(between):
        return strings, ""
    if quoted or odd:
        strings = end.join(strings).replace(quote, '"').replace(other, "").split(end)
    if odd:
        # Bytes of one character that an escape stood between are together now.
        strings = [one.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") for one in strings]
    return strings, '"'.join(between)


take_apart = _take_apart if _native is None else _native.take_apart


def _read_outputs(data: bytes, name: str, strings: list[str], first: int, end: int) -> dict[str, Output]:
    """The outputs that the strings from `first` to `end` are: name, path, algorithm and digest of each."""
    outputs: dict[str, Output] = {}
    for start in range(first, end, 4):
        output = strings[start]
        try:
            _check_output(output)
            outputs[output] = _read_output(name, output, *strings[start + 1 : start + 4])
        except FormatError as error:
            raise _at_string(error.message, data, start) from error
    if len(outputs) * 4 != end - first:
        raise _repeated("output", strings[first:end:4], data, range(first, end, 4))
    return outputs


_check_output = lru_cache(maxsize=1024)(check_name)
"""Kept, since almost all derivations have the same few outputs."""


def _check_paths(strings: list[str], indices: list[int], data: bytes) -> None:
    shown = "".join([strings[index] + "\n" for index in indices])
    if shown.count("\n") == len(indices) and _PATHS.fullmatch(shown):
        return
    for index in indices:
        try:
            parse(strings[index])
        except FormatError as error:
            raise _at_string(error.message, data, index) from error


def _read_output(name: str, output: str, path: str, algorithm: str, digest: str) -> Output:
    if not algorithm:
        if digest:
            raise FormatError(f"an output with the hash {digest!r} has no hash algorithm")
        if not path:
            return Deferred()
        if not STORE_PATH.fullmatch(path):
            parse(path)
        return InputAddressed(path)
    method, algorithm = split_method_algorithm(algorithm)
    if digest == IMPURE:
        if path:
            raise FormatError(f"an impure output has the path {path!r}")
        return Impure(method, algorithm)
    if not digest:
        if path:
            raise FormatError(f"a floating output has the path {path!r}")
        return Floating(method, algorithm)
    found = Fixed.of(name, output, method, Hash.parse(digest, algorithm))
    if path != found.path:
        raise FormatError(f"the fixed output {output} is {path!r}, but its hash gives {found.path}")
    return found


def _repeated(what: str, found: Sequence[str], data: bytes, indices: Sequence[int]) -> ATermError:
    """The second of two equal ones; `indices` are their places among all strings."""
    first: dict[str, int] = {}  # a slice of those before for each would take hours of a large environment
    place = next(place for place, one in enumerate(found) if first.setdefault(one, place) != place)
    return _at_string(f"the {what} {found[place]!r} stands there twice", data, indices[place])


def _at_string(message: str, data: bytes, index: int) -> ATermError:
    text = data.decode("utf-8", "surrogateescape")
    found = next((match for number, match in enumerate(_STRING.finditer(text)) if number == index), None)
    return ATermError(message, position=_bytes_before(text, found.start() if found else 0))


def _bytes_before(text: str, position: int) -> int:
    return len(text[:position].encode("utf-8", "surrogateescape"))


# ------------------------------------------------------------------------------- saying what is wrong


class _Used:
    """Stands for the outputs that are used of an input, in the grammar of `_explain`."""


_GRAMMAR = ([(str, str, str, str)], [(str, _Used)], [str], str, str, [str], [(str, str)])


def _explain(data: bytes) -> ATermError:
    """What is wrong with a text that does not have the shape of a derivation, and where."""
    text = data.decode("utf-8", "surrogateescape")
    position = depth = 0
    versioned = text.startswith("Dr")

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

    def used() -> None:
        nonlocal depth
        if not (versioned and text.startswith("(", position)):
            many(str)
            return
        depth += 1
        if depth > _MAX_DYNAMIC:
            raise ATermError(
                f"outputs of outputs are nested more than {_MAX_DYNAMIC} deep", position=_bytes_before(text, position)
            )
        one(([str], [(str, _Used)]))
        depth -= 1

    def one(item: object) -> None:
        if item is str:
            string()
        elif item is _Used:
            used()
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
        literal("DrvWithVersion" if versioned else "Derive")
        one((str, *_GRAMMAR) if versioned else _GRAMMAR)
    except ATermError as error:
        return error
    if position < len(text):
        return fail("the end of the derivation")
    return ATermError("this is no derivation", position=0)
