"""`link`, `tag`, `keep`: GC roots; `du`: what takes room."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.stages.errors import TargetError
from bridge.store import roots
from bridge.store.layout import Store

from .completing import references, tags, targets
from .options import REFERENCE, BuilderOption, JsonOption, Reference, SetOption, StoreOption
from .referring import TargetName, ground_of, one_entry, open_to_ask, refuse_unrealized, target_named
from .render import counted, paint, print_json, size, table
from .setting import open_located

if TYPE_CHECKING:
    from bridge.look.ground import Ground

__all__ = ["du_command", "keep_command", "link_command", "make_links", "tag_command"]

Force = Annotated[bool, typer.Option("--force", help="Even if something else has that name.")]


def link_command(
    reference: Reference,
    name: Annotated[Path, typer.Argument(metavar="NAME", help="The link; of several results NAME, NAME-1, …")],
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Make a link to a result that keeps it from gc until the link is removed.

    nixbridge link stages.py:train best-model
    """
    opened = open_to_ask(store, reference)
    links = make_links(opened, name, _places(ground_of(opened), reference, settings or [], builder, store))
    if json:
        print_json([str(link) for link in links])
        return
    for link in links:
        print(link)


def make_links(store: Store, name: Path, places: list[Path]) -> list[Path]:
    """Links to results, which are GC roots, named as nix-build names them."""
    made = []
    for number, place in enumerate(places):
        link = name if not number else name.with_name(f"{name.name}-{number}")
        roots.add_link(store, link, place)
        made.append(link)
    return made


def _places(ground: Ground, reference: str, settings: list[str], builder: str, option: str | None) -> list[Path]:
    """Where the results lie that are referred to."""
    from bridge.look.references import named, newest

    target = target_named(ground, reference)
    if _is_one_place(ground, reference, target):
        from .files import spot_named

        return [Path(spot_named(ground, reference, settings, option, builder).real)]
    if target is not None:
        from .looking import look
        from .realizing import target_paths

        plan, _, outcome, places = look(target.target, settings, option, builder)
        refuse_unrealized(plan.targets, outcome, target.target)
        return [Path(one) for node in plan.targets for one in target_paths(outcome.choices[node], places)]
    lying = [(one, ground.find(one)) for one in newest(named(ground, reference)).outputs.values()]
    missing = [one for one, place in lying if place is None]
    if missing:
        raise TargetError(f"{missing[0]} is not there", hint="nixbridge realize makes it again")
    return [place for _, place in lying if place is not None]


def _is_one_place(ground: Ground, reference: str, target: TargetName | None) -> bool:
    """Whether an object, an output or a path below one is referred to, and not all outputs of realizations."""
    from bridge.look.references import named

    if target is not None:
        return bool(target.output or target.below)
    return "/" in reference or "^" in reference or named(ground, reference).object is not None


def tag_command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The tag.", autocompletion=tags)] = None,
    reference: Annotated[str | None, typer.Argument(metavar="REF", help=REFERENCE, autocompletion=references)] = None,
    list_: Annotated[bool, typer.Option("--list", "-l", help="List the tags.")] = False,
    delete: Annotated[bool, typer.Option("--delete", "-d", help="Remove the tag.")] = False,
    force: Force = False,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Name a realization; the name keeps it from gc, and serves wherever an id does.

    nixbridge tag paper-v1 stages.py:train
    """
    opened = open_to_ask(store, reference)
    if delete:
        if name is None or reference is not None:
            raise TargetError("this names no tag", hint="nixbridge tag --delete NAME")
        roots.delete_root(opened, "tag", name)
        if json:
            print_json({"deleted": name})
        return
    if name is None or list_:
        _list_tags(opened, json)
        return
    ground = ground_of(opened)
    if reference is None:
        one = one_entry(ground, name, store, settings, builder)
    else:
        one = one_entry(ground, reference, store, settings, builder)
        roots.tag(opened, name, (one.drv, one.id), force=force)
        _warn_if_called_so(ground, name)
    if json:
        print_json({"tag": name, "id": one.id, "drv": one.drv, "stage": one.stage})
        return
    print(one.id)


def _warn_if_called_so(ground: Ground, name: str) -> None:
    """Say that a new tag is no longer enough to be understood by."""
    from bridge.look.references import meanings

    others = [one for one in meanings(ground, name) if one.written != f"@{name}"]
    if others:
        print(f"{paint('warning:', 'yellow')} {name} is also {others[0].what}: write @{name}", file=sys.stderr)


def _list_tags(store: Store, json: bool) -> None:
    from bridge.store.trace import realizations

    rows = []
    # By name: also those of the stores below, and whatever else may be damaged.
    for name in roots.tags(store):
        tagged = roots.tagged(store, name)
        if tagged is not None:
            drv, identity = tagged
            found = next((one for one in realizations(store, drv) if one.id == identity), None)
            rows.append((name, identity, found.stage if found is not None else None, drv))
    if json:
        print_json([{"tag": name, "id": one, "stage": stage, "drv": drv} for name, one, stage, drv in rows])
    elif rows:
        print(table([[name, one, stage or "gone"] for name, one, stage, _ in rows], ["tag", "id", "stage"]))


def keep_command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A name for it.")] = None,
    target: Annotated[
        str | None, typer.Argument(metavar="TARGET", help="Stages, all of them realized.", autocompletion=targets)
    ] = None,
    list_: Annotated[bool, typer.Option("--list", "-l", help="List what is kept.")] = False,
    delete: Annotated[bool, typer.Option("--delete", "-d", help="Keep it no longer.")] = False,
    force: Force = False,
    settings: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Keep what was chosen for a plan, and all that it was made from, under a name.

    nixbridge keep submission stages.py
    """
    opened = open_to_ask(store, target)
    if delete:
        if name is None or target is not None:
            raise TargetError("this names nothing that is kept", hint="nixbridge keep --delete NAME")
        roots.delete_root(opened, "plan", name)
        if json:
            print_json({"deleted": name})
        return
    if name is None or list_:
        found = [root for root in roots.roots(opened) if root.kind == "plan"]
        if json:
            print_json([{"name": one.name, "realizations": [id for _, id in one.realizations]} for one in found])
        elif found:
            print(table([[one.name, str(len(one.realizations))] for one in found], ["name", "realizations"]))
        return
    if target is None:
        raise TargetError(f"what is to be kept as {name}?", hint="nixbridge keep NAME TARGET")
    from .looking import look

    plan, _, outcome, _ = look(target, settings or [], store, builder)
    refuse_unrealized(plan.nodes, outcome, target)
    chosen = {(one.realization.drv, one.id) for node in plan.nodes for one in outcome.choices[node].chosen}
    sources = [node.path for node in plan.nodes if node.source is not None]
    roots.keep_plan(opened, name, target, chosen, sources, force=force)
    if json:
        print_json({"name": name, "realizations": sorted(identity for _, identity in chosen)})
        return
    print(f"{name}: {counted(len(chosen), 'realization')}")


def du_command(
    each: Annotated[bool, typer.Option("--each", help="Of each realization, not of each stage.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Say how much room results take, what they share, and what gc would give back.

    nixbridge du --each
    """
    from bridge.store.usage import measure

    found = measure(open_located(store, create=False), each=each)
    if json:
        shares = [
            {"name": one.name, "stage": one.stage, "realizations": one.count, "alone": one.alone, "shared": one.shared}
            for one in found.shares
        ]
        print_json({"shares": shares, "total": found.total, "rest": found.rest, "garbage": found.garbage})
        return
    rows = [
        [one.name, *([one.stage] if each else [str(one.count)]), size(one.alone + one.shared), size(one.alone)]
        for one in found.shares
    ]
    header = ["id", "stage"] if each else ["stage", "realizations"]
    if rows:
        print(table(rows, [*header, "size", "only here"]))
    print(f"sources, code and derivations: {size(found.rest)}")
    print(f"all together: {size(found.total)}; nixbridge gc would give back {size(found.garbage)}")


def named_objects(store: Store, references: list[str]) -> tuple[set[roots.Named], list[str]]:
    """The realizations and the objects without one that ids, tags and paths name, for who drops them.

    Raises
    ------
    TargetError
        For what names nothing, a stage, or a file in a result.
    """
    from bridge.look.references import named, refuse_several

    ground = ground_of(store)
    found_named: set[roots.Named] = set()
    objects = []
    for reference in references:
        if target_named(ground, reference) is not None:
            hint = f"nixbridge history {reference} lists their ids"
            raise TargetError(f"{reference} is a target, and no realization, tag or path", hint=hint)
        found = named(ground, reference)
        refuse_several(found, reference)
        if found.path:
            hint = f"nixbridge rm {found.object} drops the result as a whole"
            raise TargetError(f"{reference} is a part of a result", hint=hint)
        found_named.update((one.drv, one.id) for one in found.entries)
        if not found.entries and found.object is not None:
            if not store.is_valid(found.object):
                raise TargetError(f"{found.object} is not in the store {store.root}")
            objects.append(found.object)
    return found_named, objects
