"""`lock`, and what `realize --locked` does before and after."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from bridge.lock.choose import Change, bring, changes, kept, pin_all, pinned, refuse, remade
from bridge.lock.file import LOCK_NAME, LockFile, read_lock, update_section
from bridge.lock.objects import Objects
from bridge.lock.pins import Pin, pins_in
from bridge.realize.engine import Options, Outcome, realize
from bridge.realize.places import Places
from bridge.stages.errors import TargetError

from .options import JsonOption, SetOption, StoreOption
from .render import number, print_json, table
from .setting import find_nix, open_located, plan_of, target_folder

if TYPE_CHECKING:
    from bridge.realize.choosing import Pinned
    from bridge.stages.plan import Node, Plan
    from bridge.store.layout import Store

__all__ = ["Locked", "lock_command"]


def lock_command(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TARGET…]", help="What realize takes; each pins its stages and all that these use."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the plan is as it is pinned; exit with 1 if it is not.")
    ] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Only say what pinning now would change: metrics before and after.")
    ] = False,
    cache: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A binary cache that has the results, as push-cache writes it; repeatable."),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Name no cache, also not those of before.")] = False,
    update_input: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Lock a flake at its newest revision; repeatable.")
    ] = None,
    settings: SetOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Pin the realizations that are chosen now in bridge.lock, for others, for CI and for flakes.

    nixbridge lock stages.py
    """
    if not targets and not update_input:
        raise TargetError("lock needs a target", hint="nixbridge lock stages.py, or --update-input NAME")
    _refuse_contradictions(check=check, diff=diff, cache=cache, no_cache=no_cache)
    if update_input:
        _update_inputs(targets[0] if targets else None, update_input)
    found: list[dict[str, Any]] = []
    differs = False
    for target in targets or ():
        if check:
            changed = _check(target, settings or (), store)
            differs = differs or bool(changed)
            found += [{"target": target, "stage": one.label, "change": one.what} for one in changed]
        elif diff:
            found += _diff(target, settings or (), store)
        else:
            found += _pin(target, settings or (), store, [] if no_cache else cache)
    if json:
        print_json(found)
    elif diff:
        _print_diff(found)
    elif check:
        for one in found:
            print(f"{one['stage']}: {one['change']}")
        if not differs:
            print("the plan is as it is pinned", file=sys.stderr)
    else:
        for one in found:
            print(f"{one['stage']}: {one['matcher']} → {', '.join(one['realizations'])}")
    if differs:
        if not json:
            words = [*(targets or ()), *(word for one in settings or () for word in ("--set", one))]
            print(f"hint: nixbridge lock {shlex.join(words)}", file=sys.stderr)
        raise typer.Exit(1)


def _refuse_contradictions(*, check: bool, diff: bool, cache: Sequence[str] | None, no_cache: bool) -> None:
    if check and diff:
        raise TargetError("--check and --diff do not go together", hint="ask one after the other")
    if cache and (check or diff or no_cache):
        other = "--check" if check else "--diff" if diff else "--no-cache"
        raise TargetError(f"--cache and {other} do not go together", hint="--cache is for what is pinned now")
    for url in cache or ():
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "file") or (parts.scheme == "file" and parts.netloc):
            folder = Path(url.removeprefix("file://"))
            raise TargetError(
                f"{url} is no URL of a binary cache: http, https or file",
                hint=f"write {folder.resolve().as_uri()}" if folder.is_dir() else None,
            )


def lock_file(target: str | None) -> Path:
    """The lock file beside a target."""
    return target_folder(target) / LOCK_NAME


def _update_inputs(target: str | None, names: Sequence[str]) -> None:
    from bridge.lock.flakes import update_flakes
    from bridge.nix.installation import require

    update_flakes(require(), lock_file(target), names, lambda line: print(line, file=sys.stderr))


# ------------------------------------------------------------------------------------ lock TARGET


def _pin(target: str, settings: Sequence[str], store: str | None, caches: Sequence[str] | None) -> list[dict[str, Any]]:
    path = lock_file(target)
    lock = read_lock(path)
    plan, now = _pins_now(target, settings, store, lock, caches)
    update_section(path, "stages", lambda old: kept(old, now, _gone(target, lock, plan)))
    for label, pin in now.items():
        if not pin.is_for_nix:
            print(
                f"note: {label} was built by the local builder, so that Nix can not have it from {path.name}; "
                "realize it where Nix is, and lock again",
                file=sys.stderr,
            )
    return [
        {
            "stage": label,
            "matcher": pin.matcher,
            "realizations": [one.realization.id for one in pin.realizations],
            "outputs": [dict(one.realization.outputs) for one in pin.realizations],
            "nix": pin.is_for_nix,
        }
        for label, pin in now.items()
    ]


def _pins_now(
    target: str, settings: Sequence[str], store: str | None, lock: LockFile, caches: Sequence[str] | None
) -> tuple[Plan, dict[str, Pin]]:
    """The plan, and pins of what is chosen in the store now."""
    plan = plan_of(target, settings, store)
    opened = open_located(store, target)
    nix = find_nix()

    def caches_of(label: str) -> Sequence[str]:
        # Without a word about caches, those of before stay.
        known = lock.stages.get(label, {}).get("caches", [])
        return caches if caches is not None else [one for one in known if isinstance(one, str)]

    outcome = realize(plan, opened, nix=nix, options=Options(dry_run=True))
    with Objects(Places(opened, nix)) as objects:
        return plan, pin_all(plan, outcome, objects, lock.path.parent, caches_of)


def _gone(target: str, lock: LockFile, plan: Plan) -> Callable[[str], bool]:
    """Whether a label must be in the plan: it is of the file that is locked as a whole."""
    where, _, name = target.partition(":")
    file = Path(where)

    def gone(label: str) -> bool:
        entry = lock.stages.get(label, {})
        return not name and where.endswith(".py") and entry.get("file") == file.name

    return gone


def _check(target: str, settings: Sequence[str], store: str | None) -> list[Change]:
    lock = read_lock(lock_file(target))
    pins = pins_in(lock)
    plan = plan_of(target, settings, store, frozen=True)
    return changes(plan, pins, gone=_gone(target, lock, plan))


# ------------------------------------------------------------------------------------------ --diff


def _diff(target: str, settings: Sequence[str], store: str | None) -> list[dict[str, Any]]:
    lock = read_lock(lock_file(target))
    before = pins_in(lock)
    plan, after = _pins_now(target, settings, store, lock, [])
    gone = _gone(target, lock, plan)
    labels = [*(label for label in before if label not in after and gone(label)), *after]
    return [one for label in labels if (one := _difference(label, before.get(label), after.get(label))) is not None]


def _difference(label: str, before: Pin | None, after: Pin | None) -> dict[str, Any] | None:
    ids = [[one.realization.id for one in pin.realizations] if pin else [] for pin in (before, after)]
    if ids[0] == ids[1]:
        return None
    old, new = _metrics(before), _metrics(after)
    return {
        "stage": label,
        "derivationChanged": before is not None and after is not None and before.derivation != after.derivation,
        "before": ids[0],
        "after": ids[1],
        "metrics": {
            name: {"before": old.get(name, []), "after": new.get(name, [])} for name in dict.fromkeys([*old, *new])
        },
    }


def _metrics(pin: Pin | None) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for one in pin.realizations if pin is not None else ():
        for name, value in one.realization.metrics.items():
            found.setdefault(name, []).append(value)
    return found


def _print_diff(found: Sequence[Mapping[str, Any]]) -> None:
    if not found:
        print("nothing would change", file=sys.stderr)
        return
    rows: list[tuple[str, str, str, str, str]] = []
    for one in found:
        what = "new" if not one["before"] else "gone" if not one["after"] else ""
        what = what or ("another derivation" if one["derivationChanged"] else "another choice")
        rows.append((one["stage"], "", ", ".join(one["before"]), ", ".join(one["after"]), what))
        for name, values in one["metrics"].items():
            before, after = values["before"], values["after"]
            shown = [", ".join(map(number, side)) for side in (before, after)]
            rows.append(("", name, *shown, _change(before, after)))
    print(table(rows, ("stage", "metric", "before", "after", "change")))


def _change(before: Sequence[Any], after: Sequence[Any]) -> str:
    if len(before) != 1 or len(after) != 1:
        return ""
    one, other = before[0], after[0]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other)):
        return ""
    return f"{other - one:+.4g}"


# ---------------------------------------------------------------------------------- realize --locked


class Locked:
    """What a lock file says of a plan: to be brought before it is realized, and held against it afterwards.

    Raises
    ------
    LockFileError
        If the lock file can not be read.
    LockMismatchError
        If the plan is no longer as it is pinned, naming what changed.
    """

    def __init__(self, target: str, plan: Plan) -> None:
        self._lock = read_lock(lock_file(target))
        self._target = target
        self._plan = plan
        self._pins = pins_in(self._lock)
        refuse(changes(plan, self._pins, gone=_gone(target, self._lock, plan)), self._lock, target)

    def bring(self, store: Store, places: Places) -> dict[Node, Pinned]:
        """Bring what is pinned into the store; gives what the engine is to choose."""
        with Objects(places) as objects:
            bring(self._plan, self._pins, store, objects, lambda line: print(line, file=sys.stderr))
        return pinned(self._plan, self._pins)

    def compare(self, outcome: Outcome) -> None:
        """Refuse what was made again and is something else."""
        refuse(remade(self._plan, self._pins, outcome), self._lock, self._target)
