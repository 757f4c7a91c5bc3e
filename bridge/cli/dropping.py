"""`gc`, `rm`: what goes, and how much room that gives."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, cast

import typer

from .completing import stages, tags
from .keeping import named_objects
from .options import JsonOption, StoreOption
from .render import counted, print_json, size
from .setting import open_located

if TYPE_CHECKING:
    from bridge.store.gc import Collected

__all__ = ["gc_command", "rm_command"]


def gc_command(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and how large it is.")] = False,
    keep_last: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Drop all but the newest N realizations of each stage.")
    ] = None,
    keep_best: Annotated[
        list[str] | None,
        typer.Option(metavar="N:METRIC[:lowest]", help="Drop all but the best N of each stage; repeatable."),
    ] = None,
    older_than: Annotated[str | None, typer.Option(metavar="AGE", help="Drop what is older, such as 30d.")] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Drop the oldest until the rest is no larger, such as 10G.")
    ] = None,
    unrooted: Annotated[bool, typer.Option("--unrooted", help="Drop what no link, tag or kept plan needs.")] = False,
    stage: Annotated[
        str | None, typer.Option(metavar="NAME", help="Drop realizations of this stage only.", autocompletion=stages)
    ] = None,
    by: Annotated[
        str, typer.Option(metavar="derivation|name", help="What is one stage: one code and config, or one name.")
    ] = "derivation",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before realizations are dropped.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Remove what nothing needs; realizations only where an option says which.

    nixbridge gc --keep-best 5:accuracy --older-than 30d --dry-run
    """
    from bridge.store.catalogue import no_cycle_search
    from bridge.store.gc import collect
    from bridge.store.policy import By, Policy, parse_best, parse_size, parse_time

    policy = Policy(
        keep_last=keep_last,
        keep_best=tuple(map(parse_best, keep_best or ())),
        older_than=parse_time(older_than) if older_than is not None else None,
        max_size=parse_size(max_size) if max_size is not None else None,
        unrooted=unrooted,
        stage=stage,
        by=cast(By, by),
    )
    opened = open_located(store, create=False)
    if policy.asks and not dry_run and not yes and not json and sys.stdin is not None and sys.stdin.isatty():
        found = collect(opened, policy, dry_run=True)
        count = sum(one.kind == "realization" for one in found.items)
        if count:
            _print(found, would=True)
            typer.confirm(f"drop {counted(count, 'realization')}?", abort=True)
    with no_cycle_search():
        found = collect(opened, policy, dry_run=dry_run)
        if not json:
            _print(found, would=dry_run)
            return
    print_json(
        {
            "dryRun": dry_run,
            "freed": found.freed,
            "live": found.live,
            "items": [{"kind": o.kind, "name": o.name, "size": o.size, "stage": o.stage} for o in found.items],
        }
    )


_NOUNS = {
    "realization": "realization",
    "object": "object",
    "unregistered": "unregistered object",
    "temporary": "temporary folder",
    "checkpoint": "checkpoint",
    "failed": "kept failure",
    "log": "log",
    "root": "stale root",
    "cache": "stale cache",
}


def _print(found: Collected, *, would: bool) -> None:
    # Many are of one size.
    shown: dict[int | None, str] = {
        count: f" ({size(count)})" for count in {one.size for one in found.items} if count is not None
    }
    sys.stdout.writelines(
        f"{kind} {name}{'' if stage is None else f' of {stage}'}{shown.get(count, '')}\n"
        for kind, name, count, stage in found.items
    )
    counts = Counter(one.kind for one in found.items)
    listed = (
        ", ".join(f"{count} {_NOUNS[kind]}{'s' if count > 1 else ''}" for kind, count in counts.items()) or "nothing"
    )
    print(f"{'would remove' if would else 'removed'} {listed}: {size(found.freed)}")


def rm_command(
    references: Annotated[
        list[str], typer.Argument(metavar="ID|TAG|PATH…", help="Realizations, or objects.", autocompletion=tags)
    ],
    force: Annotated[bool, typer.Option("--force", "-f", help="Even if others were made from it.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Drop realizations; refuses where others were made from them, and says which.

    nixbridge rm 014yczrj
    """
    from bridge.store.drop import drop

    opened = open_located(store, create=False)
    named, objects = named_objects(opened, references)
    found = drop(opened, named, objects, force=force)
    if json:
        print_json(
            {
                "dependents": list(found.dependents),
                "realizations": [one.id for one in found.realizations],
                "kept": list(found.kept),
                "freed": found.freed,
                "done": force or not found.dependents,
            }
        )
    else:
        for line in found.dependents:
            print(line)
    if found.dependents and not force:
        if not json:
            print("nothing was dropped; --force drops it all the same", file=sys.stderr)
        raise typer.Exit(1)
    if not json:
        for path in found.kept:
            print(f"its bytes stay, since others need them: {path}")
        print(f"dropped {counted(len(found.realizations), 'realization')}: {size(found.freed)}")
