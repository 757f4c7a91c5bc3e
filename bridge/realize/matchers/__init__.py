"""Matchers: from the candidates of one resolved derivation to the chosen ones.

A matcher is a function of candidates, which come oldest first. It gives those it chooses, in its order, or
None for "not enough"; none at all is the same as None. Those here are values with a readable repr:

    filter      where("accuracy", above=0.9)   those for which it holds, in the order given
    order       by("loss", lowest=True)        all that have the key, in its order; of equals the first stays first
    take        top(3), some(3), latest(3), every(), only(), exact("014ycz")
    then        a >> b                         b gets what a gives; it needs as many candidates as the one of the
                                               two that needs more: behind a filter that is a lower bound
    fall back   a | b                          b gets the same candidates where a gives none or refuses them; it
                                               needs as many as a

What failed or was interrupted is shown to none but those that ask for it: `where(result="failed") >> latest()`.

`>>` binds tighter than `|`, as it reads: `where("loss", below=1) >> top() | latest()`. Any function takes part in
both. What is chosen goes on as a list if the last step that takes says so (`top(n)` for n > 1, `some`, `every`,
`exact` of several, or no such step at all), not because several happened to be chosen; behind `|` if one of the
two says so. Only where a plain function takes, several chosen are a list and one is none.
"""

from __future__ import annotations

from .ask import contradicted, metrics_named, needed, refusals, takes_many
from .candidate import Candidate, Pool, candidates_in
from .step import Matcher, Refused, apply, lacking, shown, visible
from .take import best, by, every, exact, latest, only, some, top
from .where import where
from .words import cut

__all__ = [
    "Candidate",
    "Matcher",
    "Pool",
    "Refused",
    "apply",
    "best",
    "by",
    "candidates_in",
    "contradicted",
    "cut",
    "every",
    "exact",
    "lacking",
    "latest",
    "metrics_named",
    "needed",
    "only",
    "refusals",
    "shown",
    "some",
    "takes_many",
    "top",
    "visible",
    "where",
]
