"""Choosing for one stage: which realizations are candidates, how many are missing, what is chosen."""

from __future__ import annotations

import difflib
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bridge.formats.derivation import Instantiated
from bridge.stages.plan import Node
from bridge.stages.resolve import resolve
from bridge.store.layout import Store
from bridge.store.records import read_records
from bridge.store.trace import Realization

from .errors import MatchError, RealizeError
from .matchers import (
    Candidate,
    Matcher,
    Pool,
    apply,
    candidates_in,
    contradicted,
    cut,
    lacking,
    latest,
    metrics_named,
    needed,
    only,
    refusals,
    shown,
    takes_many,
    visible,
)
from .places import Places

__all__ = [
    "Choice",
    "Expected",
    "Pinned",
    "candidates_of",
    "expected_of",
    "matcher_of",
    "missing_of",
    "previous_of",
    "resolved_of",
    "seed_of",
    "unused_indices",
]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a stage stands for: a source object, or the chosen realizations.

    Parameters
    ----------
    resolved
        The resolved derivations: one, or of a mapped stage as many as it is mapped over; none for a source.
    many
        Whether it goes on as a list.
    """

    node: Node
    resolved: tuple[Instantiated, ...]
    candidates: tuple[Candidate, ...]
    chosen: tuple[Candidate, ...]
    many: bool

    def paths(self, output: str) -> str | list[str]:
        """The store path of an output, or the paths where several were chosen.

        Raises
        ------
        RealizeError
            For an output that a stage written in Nix turned out not to have.
        """
        if not self.resolved:
            return self.node.path
        lacks = next((one for one in self.chosen if output not in one.outputs), None)
        if lacks is not None:
            place = self.node.stage.place
            raise RealizeError(
                f"the stage {self.node.name} has no output {output!r}",
                hint=f"it has {', '.join(lacks.outputs)}",
                file=place.file,
                line=place.line,
            )
        found = [one.outputs[output] for one in self.chosen]
        return found if self.many else found[0]

    @property
    def results(self) -> Sequence[Mapping[str, str]]:
        """The outputs of each that is chosen."""
        return [one.outputs for one in self.chosen]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a stage that has still to be built will give, as its resolved derivations say: `results` by output."""

    results: tuple[Mapping[str, str], ...]
    many: bool

    def paths(self, output: str) -> str | list[str]:
        """As of a choice."""
        found = [one[output] for one in self.results]
        return found if self.many else found[0]


def expected_of(node: Node, resolved: Sequence[Instantiated]) -> Expected | None:
    """What building a stage will give; None where only its contents will tell."""
    found = []
    for one in resolved:
        outputs = {name: one.derivation.output_path(name) for name in one.derivation.outputs}
        known = {name: path for name, path in outputs.items() if path is not None}
        if len(known) < len(outputs):
            return None
        found.append(known)
    return Expected(tuple(found), many=node.mapped is not None or takes_many(matcher_of(node), ()))


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a lock file says of a stage: the ids of what is chosen, and whether it goes on as a list."""

    ids: tuple[str, ...]
    many: bool


def resolved_of(node: Node, choices: Mapping[Node, Choice | Expected]) -> list[Instantiated]:
    """The resolved derivations of a node whose inputs are chosen: one, or of a mapped stage as many as those differ."""
    if not node.waits:
        assert node.instantiated is not None
        return [node.instantiated]
    if node.mapped is None:
        return [resolve(node, lambda used, output: choices[used].paths(output))]
    mapped = node.mapped

    def path(one: Mapping[str, str], used: Node, output: str) -> str | list[str]:
        return one[output] if used is mapped else choices[used].paths(output)

    resolved = [resolve(node, partial(path, one)) for one in choices[mapped].results]
    # Equal results above are one object, and so one derivation here.
    return list({one.path: one for one in resolved}.values())


def previous_of(node: Node, candidates: Sequence[Candidate]) -> Realization | None:
    """What new realizations of a stage go on from, where its policy says so and there is one."""
    matcher = node.stage.policy.previous
    if matcher is None or not candidates:
        return None
    chosen = apply(matcher, candidates)
    return chosen[0].realization if chosen else None


def seed_of(drv: str, index: int) -> int:
    """The same for the same realization of the same resolved derivation, anywhere."""
    return int.from_bytes(hashlib.sha256(f"{drv}:{index}".encode()).digest()[:8], "big") >> 1


_ONLY, _LATEST = only(), latest()


def matcher_of(node: Node) -> Matcher:
    """The stage's matcher, or what suits it without one."""
    policy = node.stage.policy
    return policy.match or (_ONLY if policy.deterministic else _LATEST)


def candidates_of(places: Places, node: Node, drv: str, *, by_nix: bool) -> list[Candidate]:
    """The realizations of a stage's resolved derivation that may be chosen: their bytes are there.

    Parameters
    ----------
    by_nix
        Whether Nix builds it; then a result of the local builder is none, also under the same path.
    """
    records = read_records(places.store, drv)
    find = places.find_in_nix if by_nix else places.find

    def lies(path: str) -> Path:
        # Where one has gone since we looked, reading it says so.
        return find(path) or places.store.place_of(path)

    pool = Pool(records, lies, node.stage.config)
    outputs = records.column("outputs")
    there = places.there((path for one in outputs for path in one.values()), by_nix=by_nix)
    found = [one for one, has in zip(candidates_in(pool), outputs, strict=True) if there.issuperset(has.values())]
    found = list(visible(matcher_of(node), found))
    return [one for one in found if one.field("runner") != "local"] if by_nix else found


def unused_indices(store: Store, drv: str, count: int) -> list[int]:
    """The first numbers that no realization of a resolved derivation has, also no failed one.

    One that was interrupted has its number still: it is made again, from its checkpoint if it has one.
    """
    records = read_records(store, drv)
    results, indices = records.column("result"), records.column("index")
    used = {index for result, index in zip(results, indices, strict=True) if result != "partial"}
    return list(itertools.islice((index for index in itertools.count() if index not in used), max(0, count)))


def missing_of(node: Node, candidates: Sequence[Candidate], *, tried: bool) -> int:
    """How many realizations must be made before the matcher can choose; 0 if it can.

    Parameters
    ----------
    tried
        Whether what was missing has been made.

    Raises
    ------
    MatchError
        If the matcher takes none even then, saying why it refused each; at once, where runs would change nothing.
    """
    matcher = matcher_of(node)
    if contradicted(matcher, node.stage.config):
        have = ", ".join(f"{name}={value!r}" for name, value in sorted(node.stage.config.items()))
        place = node.stage.place
        raise MatchError(
            f"the matcher {shown(matcher)} of the stage {node.name} wants other arguments than the stage has",
            hint=f"it has {have or 'none'}",
            file=place.file,
            line=place.line,
        )
    missing = max(node.stage.policy.realizations, needed(matcher)) - len(candidates)
    if missing > 0 and not tried:
        return missing
    try:
        if apply(matcher, candidates) is not None:
            return 0
        if not tried:
            _check_spelling(node, matcher, candidates)
            return lacking(matcher, candidates)
        raise _unsatisfied(node, matcher, candidates)
    except MatchError as error:
        if error.file is None:
            error.file, error.line = node.stage.place.file, node.stage.place.line
        raise


def _check_spelling(node: Node, matcher: Matcher, candidates: Sequence[Candidate]) -> None:
    """Raise where more runs would not help: nobody should wait hours to be told of a misspelt metric."""
    have = sorted({name for one in candidates for name in one.metrics})
    for metric in metrics_named(matcher):
        near = difflib.get_close_matches(metric, have, 1)
        if metric not in have and near:
            raise MatchError(
                f"no realization of the stage {node.name} has the metric {metric!r}",
                hint=f"is it {near[0]}? they have {cut(have)}; nixbridge realize --more {node.name}=1 makes another",
            )


def _unsatisfied(node: Node, matcher: Matcher, candidates: Sequence[Candidate]) -> MatchError:
    """The error of a matcher that takes none, though nothing is missing."""
    have = {name for one in candidates for name in one.metrics}
    for metric in metrics_named(matcher):
        if candidates and metric not in have:
            return MatchError(
                f"no realization of the stage {node.name} has the metric {metric!r}",
                hint=f"they have {cut(sorted(have))}; run.log({metric}=…) records one",
            )
    listed = cut((f"{one.id}: {reason}" for one, reason in refusals(matcher, candidates)), "\n  ")
    return MatchError(
        f"the matcher {shown(matcher)} of the stage {node.name} takes none of the candidates:\n  {listed}",
        hint="more realizations=, or another matcher",
    )
