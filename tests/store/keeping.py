"""Stores with realizations that were made from each other, for the tests of what stays and what goes."""

from __future__ import annotations

from bridge.formats.hashes import Hash
from bridge.formats.store_path import text_path
from bridge.store.layout import Store
from bridge.store.objects import add_texts
from bridge.store.trace import Realization, Result, record

from .filling import add_file

DAY = 86400.0


def derivation(store: Store, name: str, references: tuple[str, ...] = ()) -> str:
    """Register a resolved derivation with these sources; its store path."""
    sources = ",".join(f'"{path}"' for path in sorted(references))
    data = f'Derive([("out","","r:sha256","")],[],[{sources}],"x","/bin/sh",[],[("name","{name}"),("out","")])'.encode()
    path = text_path(f"{name}.drv", Hash.of(data).hex, references)
    add_texts(store, [(path, data, references)])
    return path


def realized(
    store: Store,
    stage: str,
    drv: str,
    started: float = 1.0,
    *,
    content: str | None = None,
    result: Result = "done",
    previous: str | None = None,
    log: str | None = None,
    index: int = 0,
    **metrics: float,
) -> Realization:
    """Record a realization with an output of its own."""
    output = add_file(store, stage, (content or f"{stage} {drv} {started}").encode()).path
    if log is not None:
        (store.logs / log).write_text("said\n")
    one = Realization(
        drv,
        {"out": output},
        stage,
        drv,
        "python",
        started,
        started + 1,
        metrics,
        {},
        index,
        result=result,
        previous=previous,
        log=log,
    )
    return record(store, one)


def chain(store: Store) -> tuple[Realization, Realization]:
    """What was trained from what was cleaned."""
    clean = realized(store, "clean", derivation(store, "clean"))
    train = realized(store, "train", derivation(store, "train", (clean.outputs["out"],)), 2.0)
    return clean, train
