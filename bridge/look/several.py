"""Several realizations, and realizations by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from .errors import NoRealizationError, unknown
from .fields import Artifact
from .text import lines_of

if TYPE_CHECKING:
    from .realized import Realized, Source

__all__ = ["Family", "Realizations"]


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
            return self._only(f"[{which!r}]")[which]
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
        return self._found[0]._names() if len(self._found) == 1 else []

    def __repr__(self) -> str:
        if not self._found:
            return f"{self._title}: {self._missing}"
        rows = [one._row() for one in self._found]
        if len(rows) == 1:
            return " ".join(rows[0])
        return "\n".join([f"{self._title}: {len(rows)}", *lines_of([f"[{at}]", *row] for at, row in enumerate(rows))])

    def _repr_html_(self) -> str:
        from .html import realizations_html

        return realizations_html(self)


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
        row = found[0]._row()
        return row[1:] or row
    return [f"{len(found)} realizations" if found else found._missing]
