"""Running a document's blocks: each is a stage, made of its text and the folder that the block before it left.

    block → (what it prints, the folder after it), kept in the store; the newest realization counts
    not kept → run in a working folder with that content → recorded

A block whose text and folder are those of an earlier run is not run. Python blocks share a process, and so their
names: they are stages of all Python text before them as well, and where one has to run, all of them run, in order.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge.realize.debug import debug
from bridge.realize.engine import Options, realize
from bridge.realize.matchers import latest
from bridge.stages.define import shell, source
from bridge.stages.plan import instantiate
from bridge.stages.values import OutputPath, Stage, out
from bridge.store.durable import disk_errors
from bridge.store.layout import Store

from .markdown import Block, Document
from .workshop import Workshop, copy, files_of

__all__ = ["Ran", "Report", "run"]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a block printed, and the folder after it.

    Parameters
    ----------
    seconds
        How long it took; None where its result was kept.
    """

    printed: str
    folder: Path
    seconds: float | None


Report = Callable[[Block, Ran], None]


def run(
    document: Document, store: Store, *, rebuild: bool = False, report: Report = lambda block, ran: None
) -> dict[Block, Ran]:
    """What the blocks of a document print.

    Parameters
    ----------
    rebuild
        Whether all blocks run, also those whose results are kept.
    report
        Called with each block that is done.

    Raises
    ------
    MarkdownError
        If a file that the document begins with is not there.
    BlockError
        If a block fails, or one does not that should.
    """
    stages = _Stages(document)
    told: set[Block] = set()

    def tell(block: Block, ran: Ran) -> None:
        if block not in told or ran.seconds is not None:
            report(block, ran)
        told.add(block)

    with Workshop(document, store) as workshop:
        try:
            return _walk(document, store, stages, workshop, rebuild=rebuild, python=rebuild, report=tell)
        except _NeedsNamesError:
            return _walk(document, store, stages, workshop, rebuild=rebuild, python=True, report=tell)


class _NeedsNamesError(Exception):
    """A Python block has to run, and those before it have not run in this process."""


def _walk(
    document: Document,
    store: Store,
    stages: _Stages,
    workshop: Workshop,
    *,
    rebuild: bool,
    python: bool,
    report: Report,
) -> dict[Block, Ran]:
    done: dict[Block, Ran] = {}
    before: Path | None = None
    for block, stage in zip(document.blocks, stages, strict=True):
        names = block.language == "python" and block.file is None
        kept = None if rebuild or (python and names) else _kept(stage, store)
        if kept is None and names and not python:
            raise _NeedsNamesError
        ran = kept or _make(block, stage, store, workshop, before)
        report(block, ran)
        done[block] = ran
        before = ran.folder
    return done


class _Stages:
    """The stage of each block, on top of the one before it."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._name = re.sub(r"[^A-Za-z0-9+_=.-]", "-", Path(document.name).stem).lstrip(".") or "document"

    def __iter__(self) -> Iterator[Stage]:
        before: Stage | OutputPath | None = None
        begin = {f"file{number}": source(path) for number, path in enumerate(files_of(self._document))}
        earlier: list[str] = []
        for block in self._document.blocks:
            inputs = begin if before is None else {"before": before}
            names = [*earlier] if block.language == "python" and block.file is None else []
            stage = shell(
                _asked(block),
                name=self._name,
                deterministic=False,
                builder="local",
                match=latest(),
                output=out("output"),
                folder=out("folder"),
                language=block.language,
                file=block.file,
                fails="fails" in block.words,
                earlier=names,
                **inputs,
            )
            if block.language == "python" and block.file is None:
                earlier.append(block.code)
            before = stage.folder
            yield stage


def _asked(block: Block) -> str:
    """What is run of a block: of a console's, the commands alone."""
    return "\n".join(one.text for one in block.commands) if block.language == "console" else block.code


def _kept(stage: Stage, store: Store) -> Ran | None:
    """The newest result that there is of a block."""
    plan = instantiate([stage])
    choice = realize(plan, store, options=Options(dry_run=True, builder="local")).choices.get(plan.targets[0])
    if choice is None or not choice.chosen:
        return None
    place = choice.chosen[0].path
    return Ran((place / "output").read_text(errors="surrogateescape"), place / "folder", None)


def _make(block: Block, stage: Stage, store: Store, workshop: Workshop, before: Path | None) -> Ran:
    with debug(instantiate([stage]), store=store, nix=None, options=Options(builder="local")) as session:
        begun = time.monotonic()
        workshop.enter(before)
        printed = workshop.run(block)
        with disk_errors(f"{session.out} can not be written"):
            session.out.mkdir(parents=True, exist_ok=True)
            session.promises["output"].write_text(printed, errors="surrogateescape")
            copy(workshop.folder, session.promises["folder"])
        record = session.accept()
    place = store.real_path(record.outputs["out"])
    workshop.stands_at(place / "folder")
    return Ran(printed, place / "folder", time.monotonic() - begun)
