"""One realization as it is walked over, and one source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from bridge.formats.store_path import name_part
from bridge.store.catalogue import Entry
from bridge.store.trace import Realization

from .errors import DataError, unknown
from .fields import Artifact, Fields, fields_of
from .ground import Ground
from .parts import Parts, Use
from .several import Family, Realizations
from .text import shown_entry

__all__ = ["Realized", "Source", "of_entries"]


class _Thing(ABC):
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
            {name: of_entries(self._ground, f"users {name}", found) for name, found in groups.items()},
        )

    def _outputs(self) -> Sequence[str]:
        return (self._object,)

    @abstractmethod
    def _name(self) -> str: ...

    def __fspath__(self) -> str:
        return str(self.path)


class Source(_Thing):
    """An object that no realization of the store gave: a source, or what came from elsewhere."""

    def __init__(self, ground: Ground, path: str, below: str = "") -> None:
        self._ground, self._object, self._below = ground, path, below

    def _name(self) -> str:
        return name_part(self._object)

    def _names(self) -> list[str]:
        return []

    def _row(self) -> list[str]:
        return [repr(self)]

    def __getitem__(self, name: str) -> Artifact:
        raise unknown(f"the source {self._name()}", str(name), ())

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
        return of_entries(self._ground, f"realizations of {self.stage}", self._ground.of_derivation(self.drv))

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

    def _row(self) -> list[str]:
        return shown_entry(self._entry)

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
        return " ".join(self._row())

    def _repr_html_(self) -> str:
        from .html import realized_html

        return realized_html(self)


_OWN = tuple(name for kind in (_Thing, Realized) for name in vars(kind) if not name.startswith("_"))


def _artifact(ground: Ground, path: str, below: str = "") -> Artifact:
    found = ground.find(path)
    if found is None:
        raise DataError(f"{path} is not on this machine any more", hint="realize its stage again")
    return Artifact(found, below) if below else Artifact(found)


def of_entries(ground: Ground, title: str, found: Sequence[Entry]) -> Realizations:
    """Realizations to walk over."""
    return Realizations(title, [Realized(ground, one) for one in found])
