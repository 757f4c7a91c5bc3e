"""Choosing for one stage: which realizations are candidates, how many are missing, what is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.formats.derivation import Instantiated
from bridge.stages.plan import Node
from bridge.store.trace import realizations

from .errors import MatchError
from .matchers import Best, Candidate, Matcher, apply, latest, needed, only
from .places import Places

__all__ = ["Choice", "candidates_of", "matcher_of", "missing_of"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What a stage stands for: a source object, or the chosen realizations.

    Parameters
    ----------
    resolved
        The resolved derivation; None for a source.
    many
        Whether it goes on as a list.
    """

    node: Node
    resolved: Instantiated | None
    candidates: tuple[Candidate, ...]
    chosen: tuple[Candidate, ...]
    many: bool

    def paths(self, output: str) -> str | list[str]:
        """The store path of an output, or the paths where several were chosen."""
        if self.resolved is None:
            return self.node.path
        found = [one.realization.outputs[output] for one in self.chosen]
        return found if self.many else found[0]


def matcher_of(node: Node) -> Matcher:
    """The stage's matcher, or what suits it without one."""
    policy = node.stage.policy
    return policy.match or (only() if policy.deterministic else latest())


def candidates_of(places: Places, drv: str, *, by_nix: bool) -> list[Candidate]:
    """The realizations of a resolved derivation that may be chosen: their bytes are there.

    Parameters
    ----------
    by_nix
        Whether Nix builds it; then a result of the local builder is none, also under the same path.
    """
    found = []
    find = places.find_in_nix if by_nix else places.find
    for one in realizations(places.store, drv):
        if by_nix and one.runner == "local":
            continue
        paths = {name: real for name, path in one.outputs.items() if (real := find(path)) is not None}
        if len(paths) == len(one.outputs):
            found.append(Candidate(one, paths))
    return found


def missing_of(node: Node, candidates: Sequence[Candidate], *, tried: bool) -> int:
    """How many realizations must be made before the matcher can choose; 0 if it can.

    Parameters
    ----------
    tried
        Whether what was missing has been made.

    Raises
    ------
    MatchError
        If the matcher takes none even then, saying what there was.
    """
    policy = node.stage.policy
    matcher = matcher_of(node)
    missing = max(policy.realizations, needed(matcher)) - len(candidates)
    if missing > 0 and not tried:
        return missing
    if apply(matcher, candidates) is not None:
        return 0
    if not tried:
        return 1
    if isinstance(matcher, Best) and not any(matcher.metric in one.metrics for one in candidates):
        have = ", ".join(sorted({name for one in candidates for name in one.metrics})) or "none"
        raise MatchError(
            f"no realization of the stage {node.name} has the metric {matcher.metric!r}",
            hint=f"they have {have}; run.log({matcher.metric}=…) records one",
            file=node.stage.place.file,
            line=node.stage.place.line,
        )
    listed = ", ".join(f"{one.id} {dict(one.metrics)}" for one in candidates) or "none"
    raise MatchError(
        f"the matcher {matcher!r} of the stage {node.name} takes none of the candidates: {listed}",
        hint="more realizations=, or another matcher",
        file=node.stage.place.file,
        line=node.stage.place.line,
    )
