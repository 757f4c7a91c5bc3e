"""From a plan to pins and back: pin what is chosen, say what changed since, bring what is pinned."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.realize.choosing import Choice, Pinned, matcher_of
from bridge.realize.engine import Outcome
from bridge.realize.matchers import shown
from bridge.stages.plan import Node, Plan
from bridge.stages.resolve import resolve
from bridge.store.layout import Store
from bridge.store.trace import find_record, record

from .cache import COMPRESSIONS, fetch_archive, find_narinfo
from .errors import CacheError, LockMismatchError, NotPinnableError
from .file import LockFile
from .objects import Objects
from .pins import Pin, PinnedOutput, PinnedRealization

__all__ = ["Change", "bring", "changes", "kept", "labels_of", "pin_all", "pinned", "refuse", "remade"]


@dataclass(frozen=True, slots=True)
class Change:
    """Something in which a plan is no longer as it was pinned."""

    label: str
    what: str


def labels_of(plan: Plan) -> dict[Node, str]:
    """The nodes that are pinned, and their keys: labels, with the derivation's digits where two would be one."""
    nodes = [node for node in plan.nodes if node.instantiated is not None and not node.foreign]
    found: dict[str, Node] = {}
    for node in nodes:
        # Two policies of one stage have the digits in common as well.
        names = chain((node.label, f"{node.label} {os.path.basename(node.path)[:8]}"), _numbered(node))
        found[next(name for name in names if name not in found)] = node
    return {node: label for label, node in found.items()}


def _numbered(node: Node) -> Iterator[str]:
    return (f"{node.label} {os.path.basename(node.path)[:8]} {number}" for number in count(2))


# ----------------------------------------------------------------------------------------- pinning


def pin_all(
    plan: Plan,
    outcome: Outcome,
    objects: Objects,
    folder: Path,
    caches: Callable[[str], Sequence[str]],
) -> dict[str, Pin]:
    """Pins of all stages of a plan, by label.

    Parameters
    ----------
    outcome
        Of a dry run.
    folder
        Where the lock file lies.
    caches
        The binary caches, by label, that must have what is pinned under it.

    Raises
    ------
    NotPinnableError
        If a stage is not realized.
    CacheError
        If a cache lacks an object, or has another content of it.
    """
    labels = labels_of(plan)
    missing = [label for node, label in labels.items() if node not in outcome.choices]
    if missing:
        raise NotPinnableError(
            f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''} can not be pinned: not realized yet",
            hint="nixbridge realize first",
        )
    return {label: _pin(label, outcome.choices[node], objects, folder, caches(label)) for node, label in labels.items()}


def _pin(label: str, choice: Choice, objects: Objects, folder: Path, caches: Sequence[str]) -> Pin:
    node = choice.node
    made = []
    for one in choice.chosen:
        realization = one.realization
        outputs = {}
        for name, path in realization.outputs.items():
            info = objects.info(path)
            urls = tuple(_url(cache, PinnedOutput(info)) for cache in caches)
            outputs[name] = PinnedOutput(info, urls)
        made.append(PinnedRealization(realization, outputs))
    return Pin(
        label=label,
        stage=node.name,
        derivation=node.path,
        file=os.path.relpath(os.path.abspath(node.stage.place.file), folder.absolute()),
        matcher=shown(matcher_of(node)),
        many=choice.many,
        output=node.default_output,
        realizations=tuple(made),
        caches=tuple(caches),
        tool=f"nixbridge {__version__}",
        evaluated_late=node.evaluated_late,
    )


def _url(cache: str, output: PinnedOutput) -> str:
    path = output.info.path
    found = find_narinfo(cache, path)
    if found is None:
        raise CacheError(f"the cache {cache} does not have {path}", hint="nixbridge push-cache brings it there")
    if found.nar_hash != output.info.nar_hash:
        raise CacheError(
            f"the cache {cache} has another content of {path}: {found.nar_hash.sri}, "
            f"here it is {output.info.nar_hash.sri}"
        )
    if found.compression not in COMPRESSIONS:
        raise CacheError(
            f"the cache {cache} has {path} compressed with {found.compression}, which Nix's own fetcher can not read",
            hint="write it with nixbridge push-cache, or nix copy --to '…?compression=xz'",
        )
    return f"{cache.rstrip('/')}/{found.url}"


def kept(old: Mapping[str, Any], new: Mapping[str, Pin], gone: Callable[[str], bool]) -> dict[str, Any]:
    """The section with new pins; one that differs in the tool's version only stays, what is gone goes.

    Raises
    ------
    NotPinnableError
        If a stage of another file has the same name.
    """
    found = {label: entry for label, entry in old.items() if label in new or not gone(label)}
    for label, pin in new.items():
        entry, before = pin.to_json(), old.get(label)
        # A damaged entry names no file: it is written anew.
        if before is not None and isinstance(before.get("file"), str) and before["file"] != pin.file:
            raise NotPinnableError(
                f"{label} of {before['file']} is pinned already, and {pin.file} has a stage of this name",
                hint="give one of the two another name, or move one of the files to a folder of its own",
            )
        found[label] = before if before == {**entry, "tool": (before or {}).get("tool")} else entry
    return found


# --------------------------------------------------------------------------------------- comparing


def changes(plan: Plan, pins: Mapping[str, Pin], *, gone: Callable[[str], bool] = lambda label: False) -> list[Change]:
    """In what a plan differs from what is pinned; nothing is looked for in a store.

    Parameters
    ----------
    gone
        Whether a pinned label that the plan does not have must be in it.
    """
    found: list[Change] = []
    labels = labels_of(plan)
    changed: set[Node] = set()
    for node, label in labels.items():
        pin = _pin_of(pins, node, label)
        if pin is None:
            found.append(Change(label, "is not pinned"))
            changed.add(node)
        elif pin.derivation != node.path:
            why = "its code, its config or its environment changed"
            above = [labels[used] for used in node.inputs if used in changed]
            if above:
                why = f"what it uses changed: {', '.join(above)}"
            found.append(Change(label, f"{why} ({pin.derivation} is now {node.path})"))
            changed.add(node)
        elif not changed.intersection(node.inputs) and (other := _other_inputs(plan, pins, labels, node, pin)):
            found.append(Change(label, other))
    found += [
        Change(label, "the plan no longer has it") for label in pins if label not in labels.values() and gone(label)
    ]
    return found


def _pin_of(pins: Mapping[str, Pin], node: Node, label: str) -> Pin | None:
    # Labels tell variants apart within one plan: in another, the same stage may have another label.
    same = [pin for pin in pins.values() if pin.derivation == node.path]
    if len(same) < 2:
        return same[0] if same else pins.get(label)
    # Several policies of one derivation: the one with this matcher, and of those the one with this label.
    matcher = shown(matcher_of(node))
    return max(same, key=lambda pin: (pin.matcher == matcher, pin.label == label))


def _other_inputs(plan: Plan, pins: Mapping[str, Pin], labels: Mapping[Node, str], node: Node, pin: Pin) -> str | None:
    """In what the pinned resolved derivations do not follow from what is pinned of the inputs."""

    def path(mapped: PinnedRealization | None, used: Node, output: str) -> str | list[str]:
        if used.instantiated is None:
            return used.path
        if mapped is not None and used is node.mapped:
            return mapped.realization.outputs[output]
        above = _pin_of(pins, used, labels.get(used, used.label))
        if above is None:
            return used.output(output)
        paths = [one.realization.outputs[output] for one in above.realizations]
        return paths if above.many else paths[0]

    over: Sequence[PinnedRealization | None] = (None,)
    if node.mapped is not None:
        above = _pin_of(pins, node.mapped, labels.get(node.mapped, node.mapped.label))
        over = () if above is None else above.realizations
    wanted = {resolve(node, partial(path, one)).path for one in over} if node.waits else {node.path}
    pinned = [one.realization.drv for one in pin.realizations]
    other = next((drv for drv in pinned if drv not in wanted), None)
    if other is not None:
        return f"it is pinned with other inputs: {other} is no longer its resolved derivation"
    if wanted.difference(pinned):
        return f"it is not pinned for all that it is mapped over: {len(wanted)}, and {len({*pinned})} are pinned"
    return None


def refuse(found: Sequence[Change], lock: LockFile, target: str) -> None:
    """Raise if a plan is not as it is pinned.

    Raises
    ------
    LockMismatchError
        Naming what changed.
    """
    if found and not lock.stages:
        raise LockMismatchError(f"{lock.path} pins no stage", hint=f"nixbridge lock {target}")
    if found:
        listed = "\n  ".join(f"{one.label}: {one.what}" for one in found[:10])
        more = f"\n  and {len(found) - 10} more" if len(found) > 10 else ""
        raise LockMismatchError(
            f"the plan is no longer as {lock.path} pins it:\n  {listed}{more}", hint=f"nixbridge lock {target}"
        )


# ---------------------------------------------------------------------------------------- bringing


def pinned(plan: Plan, pins: Mapping[str, Pin]) -> dict[Node, Pinned]:
    """What the engine is told of pinned stages."""
    found = {}
    for node, label in labels_of(plan).items():
        pin = _pin_of(pins, node, label)
        if pin is not None:
            found[node] = Pinned(tuple(one.realization.id for one in pin.realizations), pin.many)
    return found


def bring(plan: Plan, pins: Mapping[str, Pin], store: Store, objects: Objects, report: Callable[[str], None]) -> None:
    """Bring pinned realizations into the store: their records, and from caches what is nowhere here.

    What can not be fetched and is deterministic is left to be made again.

    Raises
    ------
    CacheError
        If a cache has something else, or no cache gives what can not be made again.
    """
    for node, label in labels_of(plan).items():
        pin = _pin_of(pins, node, label)
        for one in pin.realizations if pin is not None else ():
            for output in one.outputs.values():
                if objects.find(output.info.path) is None:
                    _fetch(node, output, pin.caches if pin is not None else (), store, objects, report)
            if find_record(store, one.realization.drv, one.realization.id) is None:
                record(store, replace(one.realization, id=""))


def _fetch(
    node: Node,
    output: PinnedOutput,
    caches: Sequence[str],
    store: Store,
    objects: Objects,
    report: Callable[[str], None],
) -> None:
    info = output.info
    again = node.stage.policy.deterministic
    if output.method is None and again:
        # Its path does not follow from its contents: nothing would tell a forged one.
        return
    errors: list[CacheError] = []
    for url in output.urls:
        report(f"fetching {info.path} from {url}")
        try:
            for reference in info.references:
                if reference != info.path and objects.find(reference) is None:
                    _fetch_reference(reference, caches, store, objects)
            fetch_archive(store, url, info)
            return
        except CacheError as error:
            errors.append(error)
    if not again:
        reasons = "".join(f"\n  {error}" for error in errors) or " it names no cache"
        raise CacheError(
            f"{info.path} of the stage {node.name} is not here, and the lock file does not give it:{reasons}",
            hint=(errors[0].hint if errors else None) or "nixbridge push-cache, then nixbridge lock --cache URL",
        )


def _fetch_reference(path: str, caches: Sequence[str], store: Store, objects: Objects) -> None:
    """Fetch what a pinned object refers to, references first; its path is the check."""
    from bridge.store.info import ObjectInfo

    pending = [path]
    while pending:
        top = pending[-1]
        if objects.find(top) is not None:
            pending.pop()
            continue
        for cache in caches:
            found = find_narinfo(cache, top)
            if found is not None:
                break
        else:
            raise CacheError(f"no cache has {top}, which is referred to", hint="nixbridge push-cache brings it there")
        missing = [one for one in found.references if one != top and objects.find(one) is None]
        if missing:
            pending += missing
            continue
        info = ObjectInfo(top, found.nar_hash, found.nar_size, found.references, found.content_address)
        fetch_archive(store, f"{cache.rstrip('/')}/{found.url}", info)


def remade(plan: Plan, pins: Mapping[str, Pin], outcome: Outcome) -> list[Change]:
    """Stages that were made again and gave something else than is pinned."""
    found = []
    for node, label in labels_of(plan).items():
        pin, choice = _pin_of(pins, node, label), outcome.choices.get(node)
        if pin is None or choice is None:
            continue
        wanted = [dict(one.realization.outputs) for one in pin.realizations]
        if [dict(one.outputs) for one in choice.chosen] != wanted:
            found.append(Change(label, "made again, it gave something else than is pinned"))
    return found
