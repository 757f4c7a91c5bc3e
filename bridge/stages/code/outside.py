"""What statements elsewhere change of what was reached: registries, patched modules, settings of libraries.

A name is followed backwards, to who reads it, in all modules that importing the stage's module imports:

    changes      `helper.K = 3`, `T.append(x)`, `@register`, where the name holds state
    carries      a function that changes it, or reads state: whoever calls it may change it
    settings     of a library that the code imports: `np.random.seed(3)`, `getcontext().prec = 9`
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from .locate import locate
from .modules import Module, Statement, chains, find, imported_at_once, imported_names, outline

__all__ = ["Outside"]

Reached = Mapping[Module, Collection[Statement]]

_PASSIVE = frozenset(("__future__", "abc", "bridge", "collections", "dataclasses", "enum", "typing"))
"""Libraries without settings."""

_LONGEST_NAME = 3
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class _Name:
    """How a name is written in a module: `helper.K` is (helper, K)."""

    module: Module
    path: tuple[str, ...]
    only: Statement | None = None
    """The one statement that knows it by this name, whose own import binds it."""

    def users(self) -> Iterator[Statement]:
        """The statements that read it, or something that it is in or that is in it."""
        for one in [self.only] if self.only is not None else self.module.readers.get(self.path[0], ()):
            if len(self.path) == 1 or any(_related(chain, self.path[1:]) for chain in chains(one.node, self.path[0])):
                yield one


def _related(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether one path begins with the other."""
    return all(a == b for a, b in zip(one, other, strict=False))


@dataclass(frozen=True, slots=True)
class _Search:
    """A name, and what is looked for."""

    name: _Name
    state: bool
    """Whether whoever calls what reads it may change it."""
    setting: bool = False
    """Whether it is a library's; then statements count that do no more than call or set."""
    registry: bool = False
    """Whether it is a decorated function, of which `@name.register` may be a part."""

    def found_by(self, user: Statement) -> bool:
        """Whether `user` changes it when its module is imported."""
        path = self.name.path
        if self.setting:
            return user.effect and self._done_by(user)
        if self.state and (user.effect or path[0] in user.calls):
            return True
        if self.registry and any(one[: len(path)] == path and len(one) > len(path) for one in user.registers):
            return True
        return user.effect and self._set_by(user)

    def carried_by(self, user: Statement) -> set[_Search]:
        """What else to look for: the names of what changes it for those who call it."""
        if self.setting:
            carries = isinstance(user.node, _SCOPES) and self._done_by(user)
        else:
            carries = self.state or self._set_by(user)
        names = user.binds if carries else ()
        return {_Search(_Name(self.name.module, (one,)), not self.setting, self.setting) for one in names}

    def _set_by(self, user: Statement) -> bool:
        return any(_related(one, self.name.path) for one in user.changes)

    def _done_by(self, user: Statement) -> bool:
        return any(one[0] == self.name.path[0] for one in user.acts | user.changes)


@dataclass(frozen=True, slots=True)
class _Step:
    """Who changes what is looked for, and what else to look for."""

    found: list[tuple[Module, Statement]]
    more: set[_Search]


@cache
def _outside(root: Path, module: Module, late: frozenset[Module]) -> Outside:
    return Outside(root, module, late)


class Outside:
    """The modules that importing the stage's module imports, and what they change in what was reached.

    Parameters
    ----------
    root
        The project.
    module
        The stage's.
    late
        Modules that only functions import.
    """

    def __init__(self, root: Path, module: Module, late: frozenset[Module] = frozenset()) -> None:
        self._root = root
        self._module = module
        self._ways: dict[str, tuple[int, int]] = {}
        """Of each module that is imported, the number of the statement of the stage's module that leads to it, and
        how many were imported before."""
        self._indexed: set[Module] = set()
        self._named: dict[tuple[str, str], list[_Name]] = {}
        self._held: dict[str, list[_Name]] = {}
        self._libraries: dict[str, list[_Name]] = {}
        for number, statement in enumerate(module.statements):
            self._follow(imported_at_once(statement.node), module.package, number)
        self._index(module)
        for one in sorted(late, key=lambda one: one.name):
            for statement in one.statements:
                self._follow(imported_at_once(statement.node), one.package, 0)
            self._index(one)
        self._steps: dict[_Search, _Step] = {}

    @classmethod
    def of(cls, root: Path, module: Module, reached: Reached) -> Outside:
        """One for all stages of a module that reach the same modules late."""
        early = _outside(root, module, frozenset())
        return _outside(root, module, frozenset(one for one in reached if not early.knows(one)))

    def knows(self, module: Module) -> bool:
        """Whether importing the stage's module imports `module`."""
        return module is self._module or module.name in self._ways

    def changing(self, reached: Reached) -> list[tuple[Module, Statement]]:
        """The statements, reached or not, that change what was reached."""
        pending = self._searches(reached)
        seen = set(pending)
        found: dict[tuple[Module, Statement], None] = {}
        while pending:
            step = self._step(pending.pop())
            found.update(dict.fromkeys(step.found))
            pending.extend(step.more - seen)
            seen |= step.more
        return list(found)

    def _step(self, search: _Search) -> _Step:
        if search not in self._steps:
            found: list[tuple[Module, Statement]] = []
            more: set[_Search] = set()
            for written in self._written(search.name):
                here = replace(search, name=written)
                for user in written.users():
                    if here.found_by(user):
                        found.append((written.module, user))
                    more |= here.carried_by(user)
            self._steps[search] = _Step(found, more)
        return self._steps[search]

    def not_imported(self, changing: Iterable[Module], reached: Reached) -> Iterator[tuple[Module, tuple[int, int]]]:
        """Those of the modules that no reached statement imports, with where the stage's module does so on the way."""
        imported = {
            target
            for module, statements in reached.items()
            for statement in statements
            for node in statement.imports
            for target, name, _ in imported_names(node, module.package)
            for target in (target, f"{target}.{name}")
        }
        for module in changing:
            inner = f"{module.name}."
            if module is not self._module and not any(f"{one}.".startswith(inner) for one in imported):
                yield module, self._ways.get(module.name, (0, 0))

    # ---------------------------------------------------------------------------- who knows what, and as what

    def _follow(self, nodes: Iterable[ast.Import | ast.ImportFrom], package: str, number: int) -> None:
        """Go where imports lead to that run at once."""
        pending = [(node, package) for node in nodes]
        while pending:
            node, package = pending.pop(0)
            for target, name, _ in imported_names(node, package):
                for found in self._imported(target, name):
                    if found in self._ways or found == self._module.name:
                        continue
                    file = locate(found, self._root)
                    assert file is not None
                    self._ways[found] = number, len(self._ways)
                    seen = outline(file)
                    inner = found if file.name == "__init__.py" else found.rpartition(".")[0]
                    pending[:0] = [(one, inner) for one in seen.imports]
                    if seen.acts or any(self._is_ours(one, inner) for one in seen.imports):
                        module = find(found, self._root)
                        assert module is not None
                        self._index(module)

    def _imported(self, target: str, name: str | None) -> list[str]:
        """The project's modules that an import of `target`, or of `name` from it, runs."""
        parts = [*target.split("."), *([name] if name else [])]
        names = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
        return [one for one in names if locate(one, self._root)]

    def _is_ours(self, node: ast.Import | ast.ImportFrom, package: str) -> bool:
        return any(self._imported(target, name) for target, name, _ in imported_names(node, package))

    def _index(self, module: Module) -> None:
        if module in self._indexed:
            return
        self._indexed.add(module)
        for statement in module.statements:
            only = statement if isinstance(statement.node, _SCOPES) else None
            for node in statement.imports:
                for target, name, bound in imported_names(node, module.package):
                    self._note(target, name, bound, _Name(module, (bound,), only))

    def _note(self, target: str, name: str | None, bound: str, written: _Name) -> None:
        if not self._imported(target, name):
            self._libraries.setdefault(target.partition(".")[0], []).append(written)
        elif name is not None and locate(f"{target}.{name}", self._root):
            self._held.setdefault(f"{target}.{name}", []).append(written)
        elif name is not None:
            self._named.setdefault((target, name), []).append(written)
        elif bound == target.partition(".")[0]:
            parts = target.split(".")
            for length in range(1, len(parts) + 1):
                whole = replace(written, path=tuple(parts[:length]))
                self._held.setdefault(".".join(parts[:length]), []).append(whole)
        else:
            self._held.setdefault(target, []).append(written)

    def _written(self, name: _Name) -> list[_Name]:
        """All that stands for `name`, in its module and in those that import it."""
        found = {name: None}
        pending = [name]
        while pending:
            one = pending.pop()
            # Modules that import each other would make it ever longer.
            if one.only is None and len(one.path) <= _LONGEST_NAME:
                bound, *rest = one.path
                whole = one.module.name
                more = [replace(named, path=(*named.path, *rest)) for named in self._named.get((whole, bound), ())]
                more += [replace(held, path=(*held.path, *one.path)) for held in self._held.get(whole, ())]
                pending.extend(other for other in more if other not in found)
                found.update(dict.fromkeys(more))
        return list(found)

    def _searches(self, reached: Reached) -> list[_Search]:
        """What to look for: each name that was reached, each library that is imported."""
        lists_subclasses = any(_lists_subclasses(one.node) for part in reached.values() for one in part)
        found = [
            _Search(
                _Name(module, (name,)),
                module.holds_state(name) or (lists_subclasses and isinstance(statement.node, ast.ClassDef)),
                registry=bool(getattr(statement.node, "decorator_list", ())),
            )
            for module, statements in reached.items()
            for statement in statements
            for name in statement.binds
        ]
        libraries = {
            target.partition(".")[0]
            for module, statements in reached.items()
            for statement in statements
            for node in statement.imports
            for target, name, _ in imported_names(node, module.package)
        }
        settings = [name for one in libraries - _PASSIVE for name in self._libraries.get(one, ())]
        return [*found, *(_Search(name, state=False, setting=True) for name in settings)]


@cache
def _lists_subclasses(node: ast.stmt) -> bool:
    return any(isinstance(one, ast.Attribute) and one.attr == "__subclasses__" for one in ast.walk(node))
