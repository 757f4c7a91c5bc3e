"""How to realize, and what is asked of single stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.stages.plan import Node, Plan
from bridge.stages.policy import Builder
from bridge.store.trace import Realization

from .choosing import Pinned
from .errors import RealizeError
from .workers import default_jobs

__all__ = ["Asked", "Options", "asked_of"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to realize.

    Parameters
    ----------
    jobs
        How many runs and local builds at once.
    keep_going
        Whether to go on with what does not need a stage that failed.
    builder
        Where deterministic stages are built, unless they say so themselves.
    rebuild
        Names of stages that get new realizations, whatever is there.
    more
        Names of stages to how many realizations they get beyond those that there are.
    redo
        Realizations that are made once more, by the same seed.
    previous
        Names of stages to the realization that new ones go on from.
    resources
        What this machine has, where that is not what is found out: amounts by name.
    executor_cache
        Where large objects pass through to workers that see this folder but not the store.
    dry_run
        Whether to look only.
    pinned
        What is chosen of nodes of the plan, whatever the matchers say. A pinned
        stage that is deterministic is made again where its result is gone.
    keep_failed
        Whether what a failed build or run worked in is kept, to be entered by `nixbridge debug --failed`.
    debugger
        Where Python's debugger is to look at a run that fails: `terminal`, a device, and `term`, its kind.
    nix_options
        Settings of Nix by name, for its builds.
    """

    jobs: int = field(default_factory=default_jobs)
    keep_going: bool = False
    builder: Builder = "auto"
    rebuild: frozenset[str] = frozenset()
    more: Mapping[str, int] = field(default_factory=dict)
    redo: tuple[Realization, ...] = ()
    previous: Mapping[str, Realization] = field(default_factory=dict)
    resources: Mapping[str, int] = field(default_factory=dict)
    executor_cache: Path | None = None
    dry_run: bool = False
    pinned: Mapping[Node, Pinned] = field(default_factory=dict)
    keep_failed: bool = False
    debugger: Mapping[str, str] | None = None
    nix_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user asks of a stage beyond what its policy does.

    Parameters
    ----------
    count
        How many realizations are made.
    """

    count: int = 0
    redo: tuple[Realization, ...] = ()
    previous: Realization | None = None


def asked_of(plan: Plan, options: Options) -> dict[Node, Asked]:
    """What is asked of each stage.

    Raises
    ------
    TargetError
        For a name that no stage has.
    RealizeError
        For a realization that is of none of the plan's stages, or a stage that has one result only.
    """
    found: dict[Node, Asked] = {}
    for name in (*options.rebuild, *options.more, *options.previous, *(one.stage for one in options.redo)):
        for node in plan.named(name):
            redo = tuple(one for one in options.redo if one.stage_drv == node.path)
            count = options.more.get(name, node.stage.policy.realizations if name in options.rebuild else len(redo))
            if name in options.previous:
                count = max(count, 1)
            if count:
                found[node] = Asked(count, redo, options.previous.get(name))
    for one in options.redo:
        if not any(one in asked.redo for asked in found.values()):
            raise RealizeError(
                f"the realization {one.id} is of another derivation of the stage {one.stage}",
                hint="its code, its config or its inputs have changed since",
            )
    for node in found:
        if node.stage.policy.deterministic:
            raise RealizeError(
                f"the stage {node.name} is deterministic and has one result, so that it is not rebuilt",
                hint="this is for stages with many realizations; nixbridge check runs it again and compares",
            )
    return found
