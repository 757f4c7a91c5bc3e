"""Walking over results by attribute: from what was realized, or from a reference, up and down.

    r = realize(plan)            Results: stages by name
    r.train                      Realizations: those that were chosen; one of them speaks for itself
    r.train[2]                   Realized: one of them
    r.train.model                Artifact: a promised output, by the name of its parameter; a pathlib.Path
    r.train.report.json().f1     what is in it
    r.train.config.lr            Fields: a dict whose items are attributes
    r.train.inputs.data          Realizations again: what made it, and so on
    r.train.users.report         what used it
    walk("014ycz")               Realizations of a reference, by the store alone

An attribute is ours first, then the user's (a stage, an argument, a promised output); an item is the user's only:
`r.train["metrics"]` is the output that a stage calls metrics.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from bridge.formats.store_path import name_part
from bridge.nix.installation import Installation, find
from bridge.store.catalogue import Entry
from bridge.store.layout import Store, open_located
from bridge.store.trace import Realization

from .errors import DataError, NoRealizationError, unknown
from .fields import Artifact, Fields, fields_of
from .ground import Ground
from .parts import Parts, Use
from .text import lines_of, shown_entry

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from bridge.realize.engine import Options, Outcome
    from bridge.realize.events import Reporter
    from bridge.stages.plan import Node, Plan

__all__ = ["Family", "Realizations", "Realized", "Results", "Source", "realize", "walk"]


# --------------------------------------------------------------------------------------------- one


class _Thing:
    """An object of the store, and what is known of it."""

    _ground: Ground
    _object: str
    _below: str

    @property
    def path(self) -> Artifact:
        """Where it lies: of an input, the very path that the stage was given.

        Raises
        ------
        DataError
            If its bytes are gone.
        """
        return _artifact(self._ground, self._object, self._below)

    @property
    def users(self) -> Family:
        """The realizations that were given it, by the names of their stages."""
        groups: dict[str, list[Entry]] = {}
        for one in self._ground.users(self._outputs()):
            groups.setdefault(one.stage, []).append(one)
        return Family(
            f"what used {self._name()}",
            {name: _of_entries(self._ground, f"users {name}", found) for name, found in groups.items()},
        )

    def _outputs(self) -> Sequence[str]:
        return (self._object,)

    def _name(self) -> str:
        raise NotImplementedError

    def __fspath__(self) -> str:
        return str(self.path)


class Source(_Thing):
    """An object that no realization of the store gave: a source, or what came from elsewhere."""

    def __init__(self, ground: Ground, path: str, below: str = "") -> None:
        self._ground, self._object, self._below = ground, path, below

    def _name(self) -> str:
        return name_part(self._object)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise unknown(f"the source {self._name()}", name, ("path", "users"))

    def __dir__(self) -> list[str]:
        return ["path", "users"]

    def __repr__(self) -> str:
        return f"source {Use(self._object, self._below)}"


class Realized(_Thing):
    """One realization: what came out, what went in, and how it was.

    Its promised outputs are attributes, and so are its outputs where there are several.
    """

    def __init__(self, ground: Ground, entry: Entry, path: str | None = None, below: str = "") -> None:
        self._ground, self._entry, self._below = ground, entry, below
        self._object = path or entry.outputs.get("out") or next(iter(entry.outputs.values()))

    def _outputs(self) -> Sequence[str]:
        return list(self._entry.outputs.values())

    def _name(self) -> str:
        return f"{self._entry.stage} ({self._entry.id})"

    @property
    def id(self) -> str:
        return self._entry.id

    @property
    def stage(self) -> str:
        """The stage's name."""
        return self._entry.stage

    @property
    def drv(self) -> str:
        """The resolved derivation."""
        return self._entry.drv

    @property
    def index(self) -> int:
        """Which of its stage's realizations it is."""
        return self._entry.index

    @property
    def seed(self) -> int:
        return self.record.seed

    @property
    def started(self) -> float:
        """Seconds since the epoch."""
        return self._entry.started

    @property
    def stopped(self) -> float:
        """Seconds since the epoch."""
        return self._entry.stopped

    @property
    def result(self) -> str:
        """Whether it is whole: done, failed or partial."""
        return self._entry.result

    @property
    def metrics(self) -> Fields:
        """What the stage logged."""
        return fields_of(dict(self._entry.metrics))  # type: ignore[no-any-return]

    @property
    def host(self) -> Fields:
        """What ran it."""
        return fields_of(dict(self.record.host))  # type: ignore[no-any-return]

    @cached_property
    def record(self) -> Realization:
        """The whole record, as it is in the trace."""
        return self._ground.record(self._entry)

    @property
    def log(self) -> str:
        """What the stage printed; empty if nothing was kept."""
        name = self.record.log
        try:
            return "" if name is None else self._ground.store.log_file(name).read_text("utf-8", "replace")
        except OSError:
            return ""

    @property
    def config(self) -> Fields:
        """The arguments that are neither inputs nor promised outputs."""
        return fields_of(dict(self._parts.config))  # type: ignore[no-any-return]

    @property
    def code(self) -> Artifact:
        """The folder with the code that ran."""
        if self._parts.code is None:
            raise DataError(f"{self._name()} is no Python stage, so that it has no code")
        return _artifact(self._ground, self._parts.code)

    @property
    def inputs(self) -> Family:
        """What it was given, by argument: the realizations that made it, or sources."""
        return Family(
            f"the inputs of {self._name()}",
            {
                name: Realizations(f"the input {name} of {self._name()}", [self._input(use) for use in uses])
                for name, uses in self._parts.inputs.items()
            },
        )

    def _input(self, use: Use) -> Realized | Source:
        made_by = self._ground.maker(use.object, self._entry.started)
        if made_by is None:
            return Source(self._ground, use.object, use.path)
        return Realized(self._ground, made_by, use.object, use.path)

    @property
    def outputs(self) -> dict[str, Artifact]:
        """Where each output lies."""
        return {name: _artifact(self._ground, path) for name, path in self._entry.outputs.items()}

    @property
    def siblings(self) -> Realizations:
        """All realizations of the same derivation, oldest first."""
        return _of_entries(self._ground, f"realizations of {self.stage}", self._ground.of_derivation(self.drv))

    @property
    def _parts(self) -> Parts:
        parts = self._ground.parts(self._entry.drv)
        if parts is None:
            raise DataError(
                f"the derivation of {self._name()} is in no store any more: {self._entry.drv}",
                hint="what it was given is not known",
            )
        return parts

    def _names(self) -> list[str]:
        """The user's names: promised outputs, and outputs where they have names."""
        parts = self._ground.parts(self._entry.drv)
        promises = [] if parts is None or self._entry.result != "done" else parts.promises
        return list(dict.fromkeys([*promises, *self._entry.outputs]))

    def __getitem__(self, name: str) -> Artifact:
        parts = self._ground.parts(self._entry.drv)
        if parts is not None and name in parts.promises and name in self._names():
            return _artifact(self._ground, self._entry.outputs["out"], parts.promises[name])
        if name in self._entry.outputs:
            return _artifact(self._ground, self._entry.outputs[name])
        raise unknown(f"the stage {self.stage}", str(name), self._names())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._names():
            return self[name]
        raise unknown(f"the stage {self.stage}", name, [*self._names(), *_OWN])

    def __dir__(self) -> list[str]:
        return [*_OWN, *self._names()]

    def _ipython_key_completions_(self) -> list[str]:
        return self._names()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Realized) and (self.id, self._object, self._below) == (
            other.id,
            other._object,
            other._below,
        )

    def __hash__(self) -> int:
        return hash((self.id, self._object, self._below))

    def __repr__(self) -> str:
        return " ".join(shown_entry(self._entry))

    def _repr_html_(self) -> str:
        from .html import realized_html

        return realized_html(self)


_OWN = tuple(name for kind in (_Thing, Realized) for name in vars(kind) if not name.startswith("_"))


def _artifact(ground: Ground, path: str, below: str = "") -> Artifact:
    found = ground.find(path)
    if found is None:
        raise DataError(f"{path} is not on this machine any more", hint="realize its stage again")
    return Artifact(found, below) if below else Artifact(found)


# ----------------------------------------------------------------------------------------- several


class Realizations(Sequence["Realized | Source"]):
    """Realizations, or sources; one that is alone speaks for itself: its attributes are the whole's.

    Parameters
    ----------
    title
        What they are, for messages.
    missing
        Why there are none.
    """

    def __init__(self, title: str, found: Sequence[Realized | Source], missing: str = "there is none") -> None:
        self._title, self._found, self._missing = title, found, missing

    @overload
    def __getitem__(self, which: int) -> Realized | Source: ...
    @overload
    def __getitem__(self, which: slice) -> Realizations: ...
    @overload
    def __getitem__(self, which: str) -> Artifact: ...
    def __getitem__(self, which: int | slice | str) -> Any:
        if isinstance(which, str):
            one = self._only(f"[{which!r}]")
            if isinstance(one, Source):
                raise unknown(self._title, which, ())
            return one[which]
        if isinstance(which, slice):
            return Realizations(self._title, self._found[which], self._missing)
        try:
            return self._found[which]
        except IndexError:
            said = f"{self._title}: {self._missing}" if not self._found else f"{self._title}: there are {len(self)}"
            raise NoRealizationError(f"{said}, so that there is no [{which}]") from None

    def __len__(self) -> int:
        return len(self._found)

    def _only(self, then: str) -> Realized | Source:
        if len(self._found) == 1:
            return self._found[0]
        if not self._found:
            raise NoRealizationError(f"{self._title}: {self._missing}")
        raise NoRealizationError(f"{self._title}: there are {len(self)}; name one of them, as in [0]{then}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._only(f".{name}"), name)

    def __fspath__(self) -> str:
        return self._only(".path").__fspath__()

    def __dir__(self) -> list[str]:
        return dir(self._found[0]) if len(self._found) == 1 else ["count", "index"]

    def _ipython_key_completions_(self) -> list[str]:
        one = self._found[0] if len(self._found) == 1 else None
        return one._names() if isinstance(one, Realized) else []

    def __repr__(self) -> str:
        if not self._found:
            return f"{self._title}: {self._missing}"
        rows = [shown_entry(one._entry) if isinstance(one, Realized) else [repr(one)] for one in self._found]
        if len(rows) == 1:
            return " ".join(rows[0])
        return "\n".join([f"{self._title}: {len(rows)}", *lines_of([f"[{at}]", *row] for at, row in enumerate(rows))])

    def _repr_html_(self) -> str:
        from .html import realizations_html

        return realizations_html(self)


def _of_entries(ground: Ground, title: str, found: Sequence[Entry]) -> Realizations:
    return Realizations(title, [Realized(ground, one) for one in found])


# ---------------------------------------------------------------------------------------- by names


class Family(Mapping[str, Realizations]):
    """Realizations by name; names are attributes too."""

    def __init__(self, title: str, found: Mapping[str, Realizations]) -> None:
        self._title, self._found = title, found

    def __getitem__(self, name: str) -> Realizations:
        try:
            return self._found[name]
        except KeyError:
            raise unknown(self._title, str(name), self) from None

    def __getattr__(self, name: str) -> Realizations:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __dir__(self) -> list[str]:
        own = [name for name in super().__dir__() if not name.startswith("_")]
        return [*own, *(name for name in self if name.isidentifier())]

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        lines = lines_of([name, *_told(found)] for name, found in self.items())
        return "\n".join([f"{self._title}:", *lines]) if lines else f"{self._title}: none"

    def _repr_html_(self) -> str:
        from .html import family_html

        return family_html(self)


def _told(found: Realizations) -> list[str]:
    """Some realizations in one line."""
    if len(found) == 1:
        one = found[0]
        return shown_entry(one._entry)[1:] if isinstance(one, Realized) else [repr(one)]
    return [f"{len(found)} realizations" if found else found._missing]


class _Lazy(Mapping[str, Realizations]):
    """The stages of a plan, each looked at when it is asked for."""

    def __init__(self, names: Sequence[str], look: Callable[[str], Realizations]) -> None:
        self._names, self._look = dict.fromkeys(names), look

    def __getitem__(self, name: str) -> Realizations:
        if name not in self._names:
            raise KeyError(name)
        return self._look(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Results(Family):
    """What came of a plan: by each stage's name what was chosen of it.

    Stages that share a name are together under it, and alone under their labels: `r["train(lr=0.1)"]`.

    Parameters
    ----------
    plan, outcome
        As `realize` took and the engine gave them.
    """

    def __init__(self, plan: Plan, outcome: Outcome, store: Store, nix: Installation | None) -> None:
        self.plan, self.outcome, self.store = plan, outcome, store
        self._nix = nix
        labels = [node.label for node in plan.nodes]
        super().__init__("this plan", _Lazy(labels, self._look))

    def __getitem__(self, name: str) -> Realizations:
        if name in self.plan.names:
            return self._look(name)
        raise unknown("this plan", str(name), self.plan.names)

    def __contains__(self, name: object) -> bool:
        return name in self.plan.names

    @cached_property
    def _ground(self) -> Ground:
        ground = Ground(self.store, self._nix)
        for choice in self.outcome.choices.values():
            for resolved in choice.resolved:
                ground.known[resolved.path] = resolved.derivation
            for one in choice.chosen:
                entry = entry_of(one.realization)
                for path in one.outputs.values():
                    ground.made.setdefault(path, []).append(entry)
        return ground

    def _look(self, name: str) -> Realizations:
        found: list[Realized | Source] = []
        missing = []
        nodes = self.plan.names[name]
        for node in nodes:
            choice = self.outcome.choices.get(node)
            if node.source is not None:
                found.append(Source(self._ground, node.path))
            elif choice is not None:
                found += [Realized(self._ground, entry_of(one.realization)) for one in choice.chosen]
            else:
                missing.append(f"{self.outcome.pending.get(node, 1)} to be made of {node.label}")
        return Realizations(f"the stage {name}", found, f"not realized: {', '.join(missing)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(name for name in self.plan.names if name.isidentifier())]

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.plan.names)

    def nodes(self) -> Sequence[Node]:
        """The plan's nodes, inputs first."""
        return self.plan.nodes

    def _repr_html_(self) -> str:
        from .html import results_html

        return results_html(self)


def entry_of(one: Realization) -> Entry:
    """A record as the catalogue has it."""
    return Entry(
        drv=one.drv,
        stage_drv=one.stage_drv,
        id=one.id,
        stage=one.stage,
        started=one.started,
        stopped=one.stopped,
        index=one.index,
        runner=one.runner,
        result=one.result,
        outputs=one.outputs,
        metrics=one.metrics,
        size=None,
    )


# ------------------------------------------------------------------------------------ where to begin


def walk(
    reference: str | os.PathLike[str],
    store: Store | str | os.PathLike[str] | None = None,
    *,
    nix: Installation | Literal["found"] | None = "found",
) -> Realizations:
    """The realizations that a reference names, by the store alone.

    Parameters
    ----------
    reference
        An id or how one begins, a tag, a stage's name (all its realizations), a store path or one below it, a
        `.drv`, or a link to one of these.
    store
        Else the one that NIXBRIDGE_STORE, the project or the user's home has.

    Raises
    ------
    TargetError
        If it names nothing, saying what is near.
    """
    from .references import named

    ground = Ground(_opened(store), find() if nix == "found" else nix)
    found = named(ground, reference)
    title = os.fspath(reference)
    if found.object is None:
        return _of_entries(ground, title, found.entries)
    if not found.entries:
        return Realizations(title, [Source(ground, found.object, found.path)])
    return Realizations(title, [Realized(ground, one, found.object, found.path) for one in found.entries])


def realize(
    plan: Plan,
    store: Store | str | os.PathLike[str] | None = None,
    *,
    nix: Installation | Literal["found"] | None = "found",
    options: Options | None = None,
    report: Reporter = lambda event: None,
    executor: Executor | None = None,
) -> Results:
    """Realize a plan and give its results to walk over.

    Parameters
    ----------
    store
        Else the one that NIXBRIDGE_STORE, the project or the user's home has.
    nix
        The Nix to build with; the one on PATH if there is one, and none for None.
    executor
        What runs Python stages; forks without it. It stays open.

    Raises
    ------
    RealizeError
        With the failures of the stages.
    """
    from bridge.realize.engine import realize as run

    opened = _opened(store)
    installation = find() if nix == "found" else nix
    outcome = run(plan, opened, nix=installation, options=options, report=report, executor=executor)
    return Results(plan, outcome, opened, installation)


def _opened(store: Store | str | os.PathLike[str] | None) -> Store:
    if isinstance(store, Store):
        return store
    return open_located(None if store is None else os.fspath(store), os.environ, Path.cwd())
