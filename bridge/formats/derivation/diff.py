"""What differs between two derivations, and why: down to the first causes.

    pair        two derivations that are held against each other; each pair is gone into once
    matched     inputs at different paths, by name, the outputs used and the variables that hold them; then by
                name and outputs; by name; by name without its version
    rewritten   output paths and placeholders of matched inputs and of the derivation itself, and matched
                sources, left to right: what is only a consequence is then equal
    difference  what is not: name, system, builder, args, outputs, environment, sources, inputs without a match

A pair with differences of its own is a cause; one without any differs only by its inputs.

Source: the idea is nix-diff's (github.com/Gabriella439/nix-diff); the algorithm is our own. Versions in names:
Nix manual, `builtins.parseDrvName`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from typing import Any, Literal

from bridge.formats import nix32
from bridge.formats.errors import ClosureError, FormatError
from bridge.formats.hashes import Hash
from bridge.formats.nix_json import dumps
from bridge.formats.store_path import DIGEST_LENGTH, STORE_DIR, base_name, hash_part, name_part

from .aterm import method_algorithm
from .closure import KINDS, name_of, outputs_used
from .placeholders import upstream_output
from .types import Derivation, Fixed, Floating, Impure, InputAddressed, Output

__all__ = ["Change", "Difference", "Pair", "What", "causes", "change_json", "diff", "to_json", "unified"]

Pair = tuple[str, str]
"""The paths of two derivations, left and right."""

What = Literal["name", "system", "builder", "args", "outputs", "env", "structured", "sources", "inputs"]

_STRUCTURED = "__json"
_PLACEHOLDER_LENGTH = 52
_MAX_COMPARED = 4_000_000
"""Lines on the left times lines on the right: above this, no text is aligned, which takes that many steps."""
_MANY_WORDS = 8
"""From so many words on, a line is compared word by word."""
# A digest or a placeholder, with nothing around it that could belong to it.
_DIGESTS = re.compile(
    rf"(?<![{nix32.ALPHABET}])[{nix32.ALPHABET}]{{{DIGEST_LENGTH}}}(?:[{nix32.ALPHABET}]{{20}})?(?![{nix32.ALPHABET}])"
)
_VERSION = re.compile(r"-[^A-Za-z].*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference of a pair's own.

    Parameters
    ----------
    what
        The part of the derivation.
    key
        Which one of that part: a variable, the keys down to a structured attribute, the number of an argument.
    before, after
        The values, `before` with the left side's paths rewritten; None where there is none.
    text
        For long values, the lines of a unified diff (without its header): of lines or, in one line, of words.
    """

    what: What
    key: tuple[str, ...]
    before: str | None
    after: str | None
    text: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between the derivations of a pair.

    Parameters
    ----------
    same_outputs
        Whether the outputs have the same paths all the same, as those of two ways to fetch one thing have.
    changes
        Differences of its own; none where it differs only by its inputs.
    inputs
        Pairs of matched inputs that differ.
    """

    left: str
    right: str
    same_outputs: bool
    changes: tuple[Change, ...]
    inputs: tuple[Pair, ...]

    @property
    def pair(self) -> Pair:
        return self.left, self.right


def diff(
    left: Mapping[str, Derivation], before: str, right: Mapping[str, Derivation], after: str
) -> dict[Pair, Difference]:
    """The differences of `before` in the closure `left` and `after` in the closure `right`, by pair.

    The pair that is asked for comes first, then those of its inputs, each once; nothing comes if both are
    the same derivation.

    Raises
    ------
    ClosureError
        For a derivation that is not in its closure.
    """
    found: dict[Pair, Difference] = {}
    gone_into: set[str] = set()
    pending = [(before, after)]
    while pending:
        pair = pending.pop()
        if pair in found or pair[0] == pair[1]:
            continue
        found[pair] = _difference(left, right, pair)
        # Whoever is held against one counterpart after the other is gone into no further: pairs stay as few as edges.
        if pair[0] not in gone_into or pair[1] not in gone_into:
            gone_into.update(pair)
            pending += reversed(found[pair].inputs)
    return {
        pair: replace(one, inputs=tuple(used for used in one.inputs if used in found)) for pair, one in found.items()
    }


def causes(found: Mapping[Pair, Difference]) -> list[Difference]:
    """The pairs with differences of their own, the first causes first: inputs before what uses them."""
    order = TopologicalSorter({pair: one.inputs for pair, one in found.items()}).static_order()
    return [found[pair] for pair in order if found[pair].changes]


def to_json(found: Mapping[Pair, Difference]) -> dict[str, Any]:
    """The differences as a value for `json.dump`; bytes that are not UTF-8 become `\\xff`."""
    return {
        "differences": [
            {
                "left": one.left,
                "right": one.right,
                "sameOutputs": one.same_outputs,
                "changes": [change_json(change) for change in one.changes],
                "inputs": [{"left": before, "right": after} for before, after in one.inputs],
            }
            for one in found.values()
        ],
        "causes": [{"left": one.left, "right": one.right} for one in causes(found)],
    }


def change_json(change: Change) -> dict[str, Any]:
    """A change as a value for `json.dump`; bytes that are not UTF-8 become `\\xff`."""
    value: dict[str, Any] = {
        "what": change.what,
        "key": [_clean(key) for key in change.key],
        "before": None if change.before is None else _clean(change.before),
        "after": None if change.after is None else _clean(change.after),
    }
    return value | ({"text": [_clean(line) for line in change.text]} if change.text else {})


def _clean(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# ---------------------------------------------------------------------------------------- one pair


def _get(closure: Mapping[str, Derivation], path: str, user: str | None = None) -> Derivation:
    try:
        return closure[path]
    except KeyError:
        whose = "" if user is None else f", an input of {user},"
        raise ClosureError(f"{path}{whose} is not in the closure", path=path, user=user) from None


def _difference(left: Mapping[str, Derivation], right: Mapping[str, Derivation], pair: Pair) -> Difference:
    before, after = _get(left, pair[0]), _get(right, pair[1])
    inputs, changes = _match_inputs(left, right, pair)
    sources, source_changes = _match_sources(before, after)
    rewrites = _Rewrites()
    rewrites.add_outputs(pair, before, after)
    for one in inputs:
        rewrites.add_outputs(one, left[one[0]], right[one[1]])
    for source in sources:
        rewrites.add(*source)
    changes = [*_own_changes(before, after, rewrites), *source_changes, *changes]
    if not changes and not inputs:
        # Nothing but paths: of a derivation that was not made as Nix makes them.
        changes = [*_own_changes(before, after, _Rewrites()), *_path_changes(before, after)]
    return Difference(*pair, _same_outputs(before, after), tuple(changes), tuple(inputs))


def _same_outputs(before: Derivation, after: Derivation) -> bool:
    paths = [before.output_path(name) for name in before.outputs]
    return (
        None not in paths
        and list(before.outputs) == list(after.outputs)
        and paths == [after.output_path(name) for name in after.outputs]
    )


class _Rewrites:
    """Paths and placeholders of the left side, to those of the right that stand for the same."""

    def __init__(self) -> None:
        self._by_digest: dict[str, Pair] = {}

    def add(self, old: str, new: str) -> None:
        """Rewrite one store path or placeholder."""
        if old != new:
            self._by_digest[hash_part(old) if old.startswith(f"{STORE_DIR}/") else old[1:]] = (old, new)

    def add_outputs(self, pair: Pair, before: Derivation, after: Derivation) -> None:
        """Rewrite the paths of a pair of derivations, and those of the outputs that both have."""
        self.add(*pair)
        for name, output in before.outputs.items():
            if name in after.outputs:
                self.add(_shown_path(pair[0], name, output), _shown_path(pair[1], name, after.outputs[name]))

    def __call__(self, text: str) -> str:
        if not self._by_digest or len(text) < DIGEST_LENGTH:
            return text
        parts, done = [], 0
        for match in _DIGESTS.finditer(text):
            entry = self._by_digest.get(match[0])
            if entry is None or match.start() < done:
                continue
            old, new = entry
            start, end = match.start(), match.end()
            # As much of the path as stands there: with the name behind it, and the folder or the slash before it.
            behind = old.rpartition(match[0])[2]
            before = old[: len(old) - len(behind) - len(match[0])]
            whole = text.startswith(before, start - len(before)) and start - len(before) >= done
            if whole and text.startswith(behind, end):
                start, end = start - len(before), end + len(behind)
            elif not new.startswith(f"{STORE_DIR}/") or len(match[0]) != DIGEST_LENGTH:
                continue
            elif behind and text.startswith(behind, end):
                end, new = end + len(behind), base_name(new)
            else:
                new = hash_part(new)
            parts += [text[done:start], new]
            done = end
        return "".join([*parts, text[done:]]) if parts else text


def _shown_path(path: str, name: str, output: Output) -> str:
    """What stands for an output in the texts of those who use it."""
    return output.path if isinstance(output, InputAddressed | Fixed) else upstream_output(path, name)


# ------------------------------------------------------------------------------------------ inputs


def _match_inputs(
    left: Mapping[str, Derivation], right: Mapping[str, Derivation], pair: Pair
) -> tuple[list[Pair], list[Change]]:
    before, after = left[pair[0]], right[pair[1]]
    changes = []
    for path, used in before.input_drvs.items():
        if path in after.input_drvs and set(outputs_used(used)) != set(outputs_used(after.input_drvs[path])):
            changes.append(_input_change(before, after, path, path))
    olds = [path for path in before.input_drvs if path not in after.input_drvs]
    news = [path for path in after.input_drvs if path not in before.input_drvs]
    pairs: list[Pair] = []
    if olds and news:
        roles = _roles(left, pair[0], olds), _roles(right, pair[1], news)
        used_of = [
            {path: frozenset(outputs_used(drv.input_drvs[path])) for path in paths}
            for drv, paths in ((before, olds), (after, news))
        ]
        rules: list[Callable[[int, str], Hashable]] = [
            lambda side, path: (name_of(path), used_of[side][path], roles[side][path].keys),
            lambda side, path: (name_of(path), used_of[side][path]),
            lambda side, path: name_of(path),
            lambda side, path: _VERSION.sub("", name_of(path)),
        ]
        for rule in rules:
            groups: dict[Hashable, list[str]] = {}
            for path in sorted(news, key=lambda path: (roles[1][path].first, path), reverse=True):
                groups.setdefault(rule(1, path), []).append(path)
            for path in sorted(olds, key=lambda path: (roles[0][path].first, path)):
                if group := groups.get(rule(0, path)):
                    pairs.append((path, group.pop()))
            matched = {path for one in pairs for path in one}
            olds = [path for path in olds if path not in matched]
            news = [path for path in news if path not in matched]
    for old, new in pairs:
        if set(outputs_used(before.input_drvs[old])) != set(outputs_used(after.input_drvs[new])):
            changes.append(_input_change(before, after, old, new))
    changes += [_input_change(before, after, old, None) for old in olds]
    changes += [_input_change(before, after, None, new) for new in news]
    return sorted(pairs), changes


def _input_change(before: Derivation, after: Derivation, old: str | None, new: str | None) -> Change:
    return Change("inputs", (name_of(old or new or ""),), _shown_input(before, old), _shown_input(after, new))


def _shown_input(drv: Derivation, path: str | None) -> str | None:
    """An input as Nix writes one: `<path>^<outputs>`."""
    return None if path is None else f"{path}^{','.join(outputs_used(drv.input_drvs[path]))}"


@dataclass(frozen=True, slots=True)
class _Role:
    """Where a derivation's texts hold an input's outputs: in which variables, and where first."""

    keys: frozenset[str]
    first: tuple[int, int]


def _roles(closure: Mapping[str, Derivation], user: str, paths: Sequence[str]) -> dict[str, _Role]:
    digests: dict[str, str] = {}
    for path in paths:
        drv = _get(closure, path, user)
        for name, output in drv.outputs.items():
            shown = _shown_path(path, name, output)
            digests[hash_part(shown) if shown.startswith(f"{STORE_DIR}/") else shown[1:]] = path
    keys: dict[str, set[str]] = {path: set() for path in paths}
    first: dict[str, tuple[int, int]] = {}
    drv = closure[user]
    texts = [("builder", drv.builder), *(("args", arg) for arg in drv.args)]
    texts += [(f"env {key}", drv.env[key]) for key in sorted(drv.env)]
    for number, (key, text) in enumerate(texts):
        for match in _DIGESTS.finditer(text):
            if (path := digests.get(match[0], "")) and path in keys:
                keys[path].add(key)
                first.setdefault(path, (number, match.start()))
    nowhere = (len(texts), 0)
    return {path: _Role(frozenset(keys[path]), first.get(path, nowhere)) for path in paths}


def _match_sources(before: Derivation, after: Derivation) -> tuple[list[Pair], list[Change]]:
    olds = sorted(set(before.input_srcs) - set(after.input_srcs))
    groups: dict[str, list[str]] = {}
    for new in sorted(set(after.input_srcs) - set(before.input_srcs), reverse=True):
        groups.setdefault(name_part(new), []).append(new)
    pairs, changes = [], []
    for old in olds:
        group = groups.get(name_part(old))
        matched = group.pop() if group else None
        if matched is not None:
            pairs.append((old, matched))
        changes.append(Change("sources", (name_part(old),), old, matched))
    added = sorted(new for group in groups.values() for new in group)
    return pairs, [*changes, *(Change("sources", (name_part(new),), None, new) for new in added)]


# ----------------------------------------------------------------------------------- what it holds


def _own_changes(before: Derivation, after: Derivation, rewrite: Callable[[str], str]) -> Iterator[Change]:
    fields: tuple[What, ...] = ("name", "system", "builder")
    told = []
    for what in fields:
        old, new = getattr(before, what), getattr(after, what)
        if rewrite(old) != new:
            yield _change(what, (), rewrite(old), new)
            if before.env.get(what) == old and after.env.get(what) == new:
                # The environment says it again.
                told.append(what)
    yield from _arguments([rewrite(arg) for arg in before.args], list(after.args))
    shown = [{name: _kind(output) for name, output in drv.outputs.items()} for drv in (before, after)]
    for name, old, new in _unequal(*shown):
        yield Change("outputs", (name,), old, new)
    env = {rewrite(key): rewrite(value) for key, value in before.env.items()}
    for key, old, new in _unequal(env, after.env):
        if key in told:
            continue
        if key == _STRUCTURED and old is not None and new is not None:
            yield from _structured(old, new)
        else:
            yield _change("env", (key,), old, new)


def _path_changes(before: Derivation, after: Derivation) -> Iterator[Change]:
    paths = [
        {name: output.path for name, output in drv.outputs.items() if isinstance(output, InputAddressed | Fixed)}
        for drv in (before, after)
    ]
    for name, old, new in _unequal(*paths):
        yield Change("outputs", (name,), old, new)


def _kind(output: Output) -> str:
    """What an output is; not its path, which follows from all the rest."""
    kind = KINDS[type(output)]
    match output:
        case Fixed(_, method, Hash() as content):
            return f"{kind} {method_algorithm(method, content.algorithm)} {content.sri}"
        case Floating(method, algorithm) | Impure(method, algorithm):
            return f"{kind} {method_algorithm(method, algorithm)}"
    return "input-addressed"


def _unequal(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[tuple[str, str | None, str | None]]:
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old != new:
            yield key, old, new


def _arguments(before: list[str], after: list[str]) -> Iterator[Change]:
    if len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            if old != new:
                yield _change("args", (str(number),), old, new)
    else:
        text = unified([_quoted(arg) for arg in before], [_quoted(arg) for arg in after])
        yield Change("args", (), " ".join(before), " ".join(after), text)


def _quoted(text: str) -> str:
    """A text in one line, in quotes."""
    return json.dumps(text, ensure_ascii=False)


def _structured(before: str, after: str) -> Iterator[Change]:
    """Structured attributes, key by key as deep as there are objects on both sides."""
    try:
        pending: list[tuple[tuple[str, ...], Any, Any]] = [((), json.loads(before), json.loads(after))]
        changes = []
        while pending:
            keys, old, new = pending.pop()
            if isinstance(old, dict) and isinstance(new, dict):
                for key in sorted({*old, *new}, reverse=True):
                    pending.append(((*keys, key), old.get(key, _MISSING), new.get(key, _MISSING)))
                continue
            texts = [None if value is _MISSING else dumps(value) for value in (old, new)]
            if texts[0] != texts[1]:
                if isinstance(old, str) and isinstance(new, str):
                    texts = [old, new]
                changes.append(_change("structured", keys, texts[0], texts[1]))
    except (ValueError, RecursionError, FormatError):
        changes = []
    # Texts that differ and values that do not: blanks, or no JSON at all.
    yield from changes or [_change("env", (_STRUCTURED,), before, after)]


_MISSING = object()


def _change(what: What, key: tuple[str, ...], before: str | None, after: str | None) -> Change:
    """With a diff of the texts if they are long."""
    text: tuple[str, ...] = ()
    if before is not None and after is not None:
        if "\n" in before or "\n" in after:
            text = unified(before.split("\n"), after.split("\n"))
        elif max(before.count(" "), after.count(" ")) >= _MANY_WORDS:
            text = unified(before.split(" "), after.split(" "))
    return Change(what, key, before, after, text)


def unified(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """The lines of a unified diff without its header; of texts that are too long to align, one hunk."""
    if len(before) * len(after) > _MAX_COMPARED:
        return _whole(before, after)
    return tuple(difflib.unified_diff(before, after, lineterm=""))[2:]


def _whole(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """What lies between the equal lines at both ends, as one hunk: for texts that are too long to align."""
    shorter = min(len(before), len(after))
    head = next((place for place in range(shorter) if before[place] != after[place]), shorter)
    tail = next((place for place in range(shorter - head) if before[-1 - place] != after[-1 - place]), shorter - head)
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    return (
        f"@@ -{head + 1},{len(old)} +{head + 1},{len(new)} @@",
        *(f"-{line}" for line in old),
        *(f"+{line}" for line in new),
    )
