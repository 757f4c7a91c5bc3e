r"""The text of `nix derivation show --recursive`, right from the bytes of `.drv` files.

ATerm and JSON escape alike: `\\ \" \n \r \t` mean the same in both, and neither escapes anything else that is
printable. So the strings of a usual derivation go over as they stand, without becoming `Derivation`s, which takes
a third of the time. What is not usual (control characters, bytes that are not UTF-8, escapes that Nix does not
write, outputs that are not input-addressed or fixed by a sha256, structured attributes where the shape lifts
them, anything malformed) is parsed and printed as everywhere else, so that there is one place for each message.

Source: `aterm` and `json` beside this module; RFC 8259, "Strings".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bridge.formats.hashes import Hash
from bridge.formats.store_path import STORE_DIR, STORE_PATH, Method

from .aterm import DRV_SUFFIX
from .closure import contents, cycle, derivation_name, parsed
from .json import STRUCTURED, JsonFormat, to_json
from .modulo import Modulo, modulo
from .modulo_text import ModuloText
from .types import Derivation, Fixed

try:
    from bridge.formats import _native
except ImportError:  # there was no compiler: the same in Python
    _native = None  # type: ignore[assignment]

__all__ = ["show_closure"]


def show_closure(
    roots: Iterable[str],
    read: Callable[[str], bytes],
    shape: JsonFormat,
    known: Mapping[str, Derivation] = {},
    modulos: dict[str, Modulo] | None = None,
) -> Iterator[bytes]:
    """What `json.dumps(document(closure, shape), indent=2)` gives for a closure, sorted by path as Nix does.

    It comes in parts, once all is read.

    Parameters
    ----------
    read, known
        As for `read_closure`.
    modulos
        Is filled with the `hashDerivationModulo` of each, if it is given.

    Raises
    ------
    ClosureError
        For a derivation that is not there, naming one that uses it, or a path that is not one of a `.drv`; where
        modulos are asked for, also for derivations that need each other.
    ATermError
        For a file that is no derivation; its `file` says which.
    DerivationJSONError
        For what the shape can not hold.
    """
    layout = _Layout.of(shape)
    found: dict[bytes, bytes] = {}
    hashes: dict[bytes, Modulo] = {}
    # What is to be hashed, once all that it uses was.
    begun: dict[bytes, tuple[Collection[bytes], Derivation | ModuloText]] = {}
    user: dict[bytes, str | None] = {path.encode(): None for path in roots}
    pending = list(user)
    while pending:
        key = pending[-1]
        if key in found:
            pending.pop()
            if key in begun:
                hashes[key] = _hash(key, begun, hashes)
                del begun[key]
            continue
        path = key.decode()
        if path in known:
            uses, found[key], hashable = _any(known[path], layout)
        else:
            if user[key] is None or not path.endswith(DRV_SUFFIX):
                # An input's path is well-formed, or its user would be none of the usual.
                derivation_name(path)
            data = contents(path, read, user[key])
            usual = _usual(path, data, layout, hashed=modulos is not None)
            uses, found[key], hashable = usual or _any(parsed(path, data), layout)
        if modulos is not None:
            begun[key] = uses, hashable
        for used in uses:
            if used not in found:
                user[used] = path
                pending.append(used)
    if modulos is not None:
        modulos.update({key.decode(): hashed for key, hashed in hashes.items()})
    return layout.document(found)


_Shown = tuple[Collection[bytes], bytes, Derivation | ModuloText]
"""The inputs of a derivation, its text, and what its modulo comes from."""


def _hash(
    key: bytes, begun: Mapping[bytes, tuple[Collection[bytes], Derivation | ModuloText]], hashes: Mapping[bytes, Modulo]
) -> Modulo:
    """The modulo of a derivation. What it uses was hashed before, if that does not use it."""
    hashable = begun[key][1]
    try:
        if isinstance(hashable, ModuloText):
            return hashable.hash(hashes)
        return modulo(hashable, lambda path: hashes[path.encode()])
    except KeyError:
        uses = {path.decode(): [used.decode() for used in begun[path][0]] for path in begun}
        raise cycle(key.decode(), uses) from None


# A whole .drv without its strings, a quotation mark for each: as in `aterm`, on bytes.
_MANY = rb"(?:%b(?:,(?!\])|(?=\])))*"
_SHAPE = re.compile(
    rb'Derive\(\[(%b)\],\[(%b)\],\[(%b)\],",",\[(%b)\],\[(?:%b)\]\)'
    % (
        _MANY % rb'\(",",","\)',
        _MANY % (rb'\(",\[%b\]\)' % (_MANY % b'"')),
        _MANY % b'"',
        _MANY % b'"',
        _MANY % rb'\(","\)',
    )
)
_ONE_OUTPUT = b'(",["]),'
_PATH = re.compile(STORE_PATH.pattern.encode())
_PATHS = re.compile(rb"(?:%b\n)*+" % _PATH.pattern)
_OUTPUT = re.compile(rb"[0-9a-zA-Z+\-_?=]+")
_SYSTEM = re.compile(rb"[0-9a-zA-Z_\-]*")
_METHODS: dict[bytes, Method] = {b"sha256": "flat", b"r:sha256": "nar"}
_SHA256 = re.compile(rb"[0-9a-f]{64}")
_CONTROL = bytes(range(32))
_NOT_HASHED = ModuloText(b"")
# Escapes while a text is taken apart: as long as before, which is replaced faster; control characters are not usual.
_BACKSLASH, _QUOTE = b"\0", b"\1"
_OTHER_ESCAPE = re.compile(rb"\\[^nrt\x01]")


@dataclass(frozen=True, slots=True)
class _Layout:
    """A shape of documents, and how it is laid out.

    Parameters
    ----------
    breaks
        The line breaks by depth: that before the end of a derivation first.
    used
        What follows an input of which these outputs are used: nearly always the same few.
    """

    shape: JsonFormat
    breaks: tuple[bytes, ...]
    used: dict[tuple[bytes, ...], bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, shape: JsonFormat) -> _Layout:
        first = 2 if shape.has_envelope else 1
        return cls(shape, tuple(b"\n" + b"  " * depth for depth in range(first, first + 6)))

    def document(self, entries: Mapping[bytes, bytes]) -> Iterator[bytes]:
        """The whole document of derivations by path."""
        envelope = self.shape.has_envelope
        separator = (b'{\n  "derivations": {' if envelope else b"{") + self.breaks[0]
        for path in sorted(entries):
            yield b'%b"%b": ' % (separator, self.path(path))
            yield entries[path]
            separator = b"," + self.breaks[0]
        yield b'\n  },\n  "version": %d\n}' % (self.shape.version or 0) if envelope else b"\n}"

    def path(self, path: bytes) -> bytes:
        """A store path, or its base name."""
        return path[len(STORE_DIR) + 1 :] if self.shape.base_names else path

    def texts(self, texts: Sequence[bytes], depth: int) -> bytes:
        """A list of strings that ends at a depth."""
        if not texts:
            return b"[]"
        within = self.breaks[depth + 1]
        return b'[%b"%b"%b]' % (within, (b'",%b"' % within).join(texts), self.breaks[depth])

    def members(self, members: Sequence[bytes], depth: int) -> bytes:
        """An object that ends at a depth."""
        if not members:
            return b"{}"
        within = self.breaks[depth + 1]
        return b"{%b%b%b}" % (within, (b"," + within).join(members), self.breaks[depth])

    def env(self, strings: Sequence[bytes]) -> bytes:
        """The environment of keys and values by turns: one join, since most of a document is this."""
        if not strings:
            return b"{}"
        parts = [b'",%b"' % self.breaks[2]] * (2 * len(strings) - 1)
        parts[::2] = strings
        parts[1::4] = [b'": "'] * (len(strings) // 2)
        return b'{%b"%b"%b}' % (self.breaks[2], b"".join(parts), self.breaks[1])

    def after_input(self, outputs: tuple[bytes, ...]) -> bytes:
        """What stands between the path of an input derivation, of which these outputs are used, and the next."""
        depth = 3 if self.shape.inputs == "nested" else 2
        if self.shape.inputs == "list":
            shown = self.texts(outputs, depth)
        else:
            shown = self.members([b'"dynamicOutputs": {}', b'"outputs": ' + self.texts(outputs, depth + 1)], depth)
        return b'": %b,%b"' % (shown, self.breaks[depth])


def _any(drv: Derivation, layout: _Layout) -> _Shown:
    text = json.dumps(to_json(drv, layout.shape), indent=2, ensure_ascii=False).encode()
    return [path.encode() for path in drv.input_drvs], text.replace(b"\n", layout.breaks[0]), drv


def _usual(path: str, data: bytes, layout: _Layout, *, hashed: bool) -> _Shown | None:
    """The same for the bytes of a usual derivation, or None; what comes last is empty if nothing is to be hashed."""
    apart = take_apart(data) if data.isascii() or _is_text(data) else None
    shape = _SHAPE.fullmatch(apart[1]) if apart is not None else None
    if apart is None or shape is None:
        return None
    strings = apart[0]
    output_marks, input_marks, source_marks, arg_marks = shape.groups()
    at = 4 * output_marks.count(b"(")
    output_strings = strings[:at]
    outputs = _outputs(path, output_strings, layout)
    inputs: list[bytes]
    used: list[tuple[bytes, ...]]
    count = input_marks.count(b"(")
    if input_marks == (_ONE_OUTPUT * count)[:-1]:
        # As nearly everywhere.
        end = at + 2 * count
        inputs = strings[at:end:2]
        used = list(zip(strings[at + 1 : end : 2], strict=True))
        at = end
    else:
        inputs, used = [], []
        for entry in input_marks.split(b"(")[1:]:
            end = at + entry.count(b'"')
            inputs.append(strings[at])
            used.append(tuple(strings[at + 1 : end]))
            at = end
    for names in set(used) - layout.used.keys():
        if not all(map(_OUTPUT.fullmatch, names)):
            return None
        layout.used[names] = layout.after_input(names)
    shown = [b""] * (2 * count)
    shown[::2] = inputs
    shown[1::2] = map(layout.used.__getitem__, used)
    end = at + source_marks.count(b'"')
    sources = strings[at:end]
    system, builder = strings[end : end + 2]
    at = end + 2 + arg_marks.count(b'"')
    args, env = strings[end + 2 : at], strings[at:]
    paths = inputs + sources
    keys = set(env[::2])
    if (
        outputs is None
        or not _SYSTEM.fullmatch(system)
        or (paths and not _PATHS.fullmatch(b"\n".join(paths) + b"\n"))
        or len(set(paths)) != len(paths)
        or len(keys) * 2 != len(env)
        or (layout.shape.lifted and STRUCTURED.encode() in keys)
    ):
        return None
    hashable = ModuloText.of(data, output_strings, inputs, used, sources, env) if hashed else _NOT_HASHED
    if hashable is None:
        return None
    return inputs, _text(path, outputs, shown, sources, system, builder, args, env, layout), hashable


def _take_apart(data: bytes) -> tuple[list[bytes], bytes] | None:
    """The strings with their escapes, and what is left with a mark for each; None for what is not usual."""
    if len(data.translate(None, _CONTROL)) != len(data):
        return None
    if b"\\" in data:
        data = data.replace(b"\\\\", _BACKSLASH * 2).replace(b'\\"', b"\\" + _QUOTE)
        if _OTHER_ESCAPE.search(data):
            return None
    parts = data.split(b'"')
    strings = parts[1::2]
    if len(parts) % 2 == 0:
        return None
    if b"\\" in data or _BACKSLASH in data:
        strings = [one.replace(_QUOTE, b'"').replace(_BACKSLASH, b"\\") for one in strings]
    return strings, b'"'.join(parts[::2])


take_apart = _take_apart if _native is None else _native.take_apart_escaped


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _outputs(path: str, strings: Sequence[bytes], layout: _Layout) -> bytes | None:
    """The outputs if all are input-addressed or, in the shapes that print it as it stands, fixed by a sha256."""
    members = []
    names = strings[::4]
    for name, output, algorithm, digest in zip(names, strings[1::4], strings[2::4], strings[3::4], strict=True):
        if not _OUTPUT.fullmatch(name) or not _PATH.fullmatch(output):
            return None
        shown = [b'"path": "%b"' % layout.path(output)]
        if algorithm or digest:
            method = _METHODS.get(algorithm)
            if layout.shape.outputs != "prefixed" or method is None or not _SHA256.fullmatch(digest):
                return None
            content = Hash("sha256", bytes.fromhex(digest.decode()))
            if Fixed.of(derivation_name(path), name.decode(), method, content).path != output.decode():
                return None
            shown = [b'"hash": "%b"' % digest, b'"hashAlgo": "%b"' % algorithm, *shown]
        members.append(b'"%b": %b' % (name, layout.members(shown, 2)))
    return layout.members(members, 1) if len(set(names)) == len(names) else None


def _text(
    path: str,
    outputs: bytes,
    inputs: Sequence[bytes],
    sources: Sequence[bytes],
    system: bytes,
    builder: bytes,
    args: Sequence[bytes],
    env: Sequence[bytes],
    layout: _Layout,
) -> bytes:
    shape = layout.shape
    depth = 3 if shape.inputs == "nested" else 2
    drvs = b"{}"
    if inputs:
        if shape.base_names:
            inputs = [layout.path(part) if place % 2 == 0 else part for place, part in enumerate(inputs)]
        # The last one has no comma behind it, no break and no quotation mark.
        body = b"".join(inputs)[: -len(layout.breaks[depth]) - 2]
        drvs = b'{%b"%b%b}' % (layout.breaks[depth], body, layout.breaks[depth - 1])
    sources = sorted(map(layout.path, sources))
    members = [b'"args": ' + layout.texts(args, 1), b'"builder": "%b"' % builder, b'"env": ' + layout.env(env)]
    if shape.inputs == "nested":
        both = [b'"drvs": ' + drvs, b'"srcs": ' + layout.texts(sources, 2)]
        members.append(b'"inputs": ' + layout.members(both, 1))
    else:
        members += [b'"inputDrvs": ' + drvs, b'"inputSrcs": ' + layout.texts(sources, 1)]
    if shape.has_name:
        members.append(b'"name": "%b"' % derivation_name(path).encode())
    members += [b'"outputs": ' + outputs, b'"system": "%b"' % system]
    if shape.version is not None:
        members.append(b'"version": %d' % shape.version)
    return layout.members(members, 0)
