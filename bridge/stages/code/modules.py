"""A module of the project as a list of statements: what each binds, reads and changes."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from bridge.stages.errors import CodeError

from .locate import locate

__all__ = [
    "Module",
    "Statement",
    "analyse",
    "chains",
    "find",
    "imported_at_once",
    "imported_names",
    "load",
    "outline",
    "tree",
]

_DYNAMIC_NAMES = frozenset(("__import__", "eval", "exec", "globals"))
_DYNAMIC_CALLS = _DYNAMIC_NAMES | {"locals", "vars"}


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """One top-level statement; an import of several names counts as one statement each."""

    node: ast.stmt
    binds: frozenset[str]
    reads: frozenset[str]
    effect: bool
    """Whether it does more than bind: calls something, or changes what a name holds."""
    calls: frozenset[str]
    """For one that binds by a call (a decorator, a base class, a function): what that call may change."""
    imports: tuple[ast.Import | ast.ImportFrom, ...]
    """The import statements in it, at any depth."""
    changes: frozenset[tuple[str, ...]]
    """What it sets, as (name, attribute, …), also in functions: globals, attributes, items."""
    acts: frozenset[tuple[str, ...]]
    """What it calls for the sake of the call, as (name, attribute, …), also in functions."""
    registers: frozenset[tuple[str, ...]]
    """What it calls as a decorator or as a statement when the module is imported."""


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """A parsed module of the project."""

    name: str
    file: Path
    is_package: bool
    statements: tuple[Statement, ...]
    dynamic: str | None
    """Why it can not be pruned, if so."""
    order: dict[Statement, int] = field(default_factory=dict)
    """Where each statement stands among the others."""
    future: tuple[Statement, ...] = ()
    """Its `from __future__` imports, which all of its code needs."""
    binders: dict[str, list[Statement]] = field(default_factory=dict)
    readers: dict[str, list[Statement]] = field(default_factory=dict)
    setters: dict[str, list[Statement]] = field(default_factory=dict)
    """The functions and classes that set a name, or something of what it holds."""
    _effects: dict[str, tuple[Statement, ...]] = field(default_factory=dict)

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]

    def holds_state(self, name: str) -> bool:
        """Whether others may change what `name` holds."""
        return name in self.setters or any(_holds_state(one, name) for one in self.binders.get(name, ()))

    def effects(self, name: str) -> tuple[Statement, ...]:
        """The statements that may change what `name` holds, directly or through functions that they call."""
        if name not in self._effects:
            readers = [*self.readers.get(name, ()), *self.binders.get(name, ())]
            found = dict.fromkeys(one for one in readers if one.effect and not self._only_uses(one, name))
            if self.holds_state(name):
                seen, pending = {name}, [name]
                while pending:
                    through = pending.pop()
                    for one in self.readers.get(through, ()):
                        if one.effect or through in one.calls:
                            found[one] = None
                        pending.extend(one.binds - seen)
                        seen |= one.binds
            self._effects[name] = tuple(found)
        return self._effects[name]

    def _only_uses(self, statement: Statement, name: str) -> bool:
        """Whether a statement takes something from an import, such as `T["x"] = name.pi`, and does nothing to it."""
        imported = all(name in _bound_by_import(one) for one in self.binders.get(name, ()))
        done = {path[0] for path in statement.changes | statement.acts}
        return imported and _is_simple(statement.node) and name not in done and () not in chains(statement.node, name)


@cache
def load(name: str, file: Path) -> Module:
    """Parse the module `name`.

    Raises
    ------
    SyntaxError, OSError
        As Python's own import does.
    """
    parsed = tree(file)
    statements = tuple(analyse(node) for part in parsed.body for node in _split(part))
    order = {statement: number for number, statement in enumerate(statements)}
    future = tuple(
        one for one in statements if isinstance(one.node, ast.ImportFrom) and one.node.module == "__future__"
    )
    module = Module(name, file, file.name == "__init__.py", statements, _dynamic(parsed), order, future)
    for statement in statements:
        for bound in statement.binds:
            module.binders.setdefault(bound, []).append(statement)
        for read in statement.reads:
            module.readers.setdefault(read, []).append(statement)
        # A statement with effects is found without this: those are statements like functions.
        for changed in set() if statement.effect else {path[0] for path in statement.changes} & statement.reads:
            module.setters.setdefault(changed, []).append(statement)
    return module


@cache
def tree(file: Path) -> ast.Module:
    """The parsed text of a file."""
    return ast.parse(file.read_bytes(), filename=str(file))


@dataclass(frozen=True, slots=True)
class Outline:
    """What a look at a module tells, without taking its statements apart.

    Parameters
    ----------
    imports
        The import statements that run when it is imported.
    acts
        Whether it sets something of what it imports, or calls that for the sake of the call.
    """

    imports: tuple[ast.Import | ast.ImportFrom, ...]
    acts: bool


@cache
def outline(file: Path) -> Outline:
    """The outline of a module; of one that is no Python, and can not be imported, an empty one."""
    try:
        parts = [one for part in tree(file).body for one in _split(part)]
    except (SyntaxError, ValueError, OSError):
        return Outline((), acts=False)
    imports = tuple(node for part in parts for node in imported_at_once(part))
    bound = {name for node in imports for *_, name in imported_names(node, "")}
    nodes = [node for part in parts for node in ast.walk(part)]
    acts = any(path[0] in bound for path in _changed(nodes) | _acted_on(nodes))
    return Outline(imports, acts)


def imported_at_once(node: ast.stmt) -> list[ast.Import | ast.ImportFrom]:
    """The import statements in a top-level statement that run with it."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    return [one for one in ast.walk(node) if isinstance(one, ast.Import | ast.ImportFrom)]


def _is_simple(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr | ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete)


def _split(node: ast.stmt) -> list[ast.stmt]:
    if isinstance(node, ast.Import):
        return [ast.copy_location(ast.Import([alias]), node) for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module != "__future__":
        return [ast.copy_location(ast.ImportFrom(node.module, [alias], node.level), node) for alias in node.names]
    if isinstance(node, ast.If) and _never_runs(node.test):
        return [part for other in node.orelse for part in _split(other)]
    return [node]


def _never_runs(test: ast.expr) -> bool:
    """`if TYPE_CHECKING:` and `if __name__ == "__main__":` are nothing for a worker."""
    return ast.unparse(test) in (
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
        "__name__ == '__main__'",
        "'__main__' == __name__",
    )


def analyse(node: ast.stmt) -> Statement:
    """What a top-level statement binds, reads and changes."""
    # A statement alone gives the symbols of its own scopes, whatever stands around it.
    table = symtable.symtable(ast.unparse(node), "<statement>", "exec")
    binds: set[str] = set()
    reads: set[str] = set()
    # In a comprehension, it binds a name of the module that is no assigned symbol there.
    nodes = list(ast.walk(node))
    walrus = {one.target.id for one in nodes if isinstance(one, ast.NamedExpr)}
    for symbol in table.get_symbols():
        if (
            symbol.is_assigned()
            or symbol.is_imported()
            or (symbol.is_declared_global() and symbol.get_name() in walrus)
        ):
            binds.add(symbol.get_name())
        if symbol.is_referenced():
            reads.add(symbol.get_name())
    changes: set[str] = set()
    pending = table.get_children()
    while pending:
        scope = pending.pop()
        pending.extend(scope.get_children())
        for symbol in scope.get_symbols():
            if symbol.is_global() or (scope.get_type() == "class" and not symbol.is_local()):
                if symbol.is_referenced():
                    reads.add(symbol.get_name())
                if symbol.is_declared_global() and (symbol.is_assigned() or symbol.is_imported()):
                    changes.add(symbol.get_name())
            elif scope.get_type() == "class" and symbol.is_referenced():
                # `x = x` in a class reads the module's x.
                reads.add(symbol.get_name())
    # What a function declares global is state of the module: whoever reads it needs its binders too.
    imports = tuple(one for one in nodes if isinstance(one, ast.Import | ast.ImportFrom))
    return Statement(
        node,
        frozenset(binds),
        frozenset(reads | changes),
        _has_effect(node),
        _calls(node),
        imports,
        _changed(nodes) | {(name,) for name in changes},
        _acted_on(nodes),
        _registered(node),
    )


def _path(node: ast.expr) -> tuple[str, ...]:
    """The name and attributes that `node` begins with: (a, b) for `a.b`, `a.b[0].c`, and `a.b().c`."""
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=ast.Name() | ast.Attribute() as value, attr=attribute):
            path = _path(value)
            return (*path, attribute) if len(path) == _depth(value) else path
        case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.Call(func=value) | ast.Starred(value=value):
            return _path(value)
    return ()


def _depth(node: ast.expr) -> int:
    """How many names `a.b.c` has; 0 for what has other parts."""
    match node:
        case ast.Name():
            return 1
        case ast.Attribute(value=value):
            depth = _depth(value)
            return depth + 1 if depth else 0
    return 0


def _changed(nodes: Iterable[ast.AST]) -> frozenset[tuple[str, ...]]:
    found = set()
    for one in nodes:
        match one:
            case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                found.add(_path(one))
            case ast.Call(func=ast.Name(id="delattr" | "setattr" | "vars"), args=[first, *_]):
                found.add(_path(first))
            case ast.Attribute(value=value, attr="__dict__"):
                found.add(_path(value))
    return frozenset(found - {()})


def _acted_on(nodes: Iterable[ast.AST]) -> frozenset[tuple[str, ...]]:
    calls = (one.value for one in nodes if isinstance(one, ast.Expr))
    return frozenset({_path(call) for call in calls if isinstance(call, ast.Call)} - {()})


def _registered(node: ast.stmt) -> frozenset[tuple[str, ...]]:
    parts: list[ast.expr] = []
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            parts = node.decorator_list
        case ast.Expr(value=value) | ast.Assign(value=value):
            parts = [value]
    return frozenset({_path(part) for part in parts} - {()})


def _has_effect(node: ast.stmt) -> bool:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Import() | ast.ImportFrom():
            return False
        case ast.Assign(targets=targets):
            return any(not _plain(target) for target in targets)
        case ast.AnnAssign(target=target):
            return not isinstance(target, ast.Name)
        case ast.Expr(value=ast.Constant()) | ast.Pass():
            return False
    return True


def _calls(node: ast.stmt) -> frozenset[str]:
    """The names that are at hand where a binding statement calls something while the module is imported."""
    return frozenset(one.id for part in _calling(node) for one in ast.walk(part) if isinstance(one, ast.Name))


def _calling(node: ast.stmt) -> list[ast.AST]:
    match node:
        case ast.FunctionDef(args=args) | ast.AsyncFunctionDef(args=args):
            defaults = [*args.defaults, *(one for one in args.kw_defaults if one is not None)]
            return [*node.decorator_list, *filter(_has_call, defaults)]
        case ast.ClassDef(decorator_list=decorators, bases=bases, keywords=keywords, body=body):
            inner = [part for one in body for part in _calling(one)]
            return [*decorators, *bases, *(keyword.value for keyword in keywords), *inner]
        case ast.Import() | ast.ImportFrom():
            return []
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            return [value] if _has_call(value) else []
    return [node] if _has_call(node) else []


def _has_call(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Call) for one in ast.walk(node))


_COLLECTIONS = frozenset(("Counter", "OrderedDict", "WeakSet", "defaultdict", "deque", "dict", "list", "set"))
_UNCHANGING = frozenset(("NewType", "ParamSpec", "Path", "PurePath", "TypeVar", "TypeVarTuple", "frozenset"))
"""Calls that give what nobody changes."""


def _holds_state(binder: Statement, name: str) -> bool:
    """Whether what `binder` binds `name` to may be changed by others: no import, function, or constant."""
    match binder.node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return False
        case ast.ClassDef(bases=bases, body=body, keywords=keywords):
            # Such a class is told of its subclasses, or of its instances, which are classes.
            told = any(getattr(one, "name", None) == "__init_subclass__" for one in body)
            a_metaclass = any(isinstance(base, ast.Name) and base.id == "type" for base in bases)
            return told or bool(keywords) or a_metaclass or any(map(_is_collection, body))
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            return not _never_changes(value)
    return name not in _bound_by_import(binder)


def _bound_by_import(binder: Statement) -> set[str]:
    return {bound for node in binder.imports for *_, bound in imported_names(node, "")}


def _is_collection(node: ast.stmt) -> bool:
    """Whether this gives a class a collection, which all of its instances may change."""
    match node:
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            made = _path(value.func)[-1:] if isinstance(value, ast.Call) else ()
            display = isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)
            return display or not _COLLECTIONS.isdisjoint(made)
    return False


def _never_changes(value: ast.expr) -> bool:
    match value:
        case ast.Constant():
            return True
        case ast.Tuple(elts=parts):
            return all(map(_never_changes, parts))
        case ast.UnaryOp(operand=operand):
            return _never_changes(operand)
        case ast.BinOp(left=left, right=right):
            return _never_changes(left) and _never_changes(right)
        case ast.Attribute(value=inner):
            return _never_changes(inner)
        case ast.Call(func=called):
            path = _path(called)
            return path == ("re", "compile") or not _UNCHANGING.isdisjoint(path[-1:])
    return False


def _plain(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return all(map(_plain, target.elts))
    return isinstance(target, ast.Name | ast.Starred)


def _in_function(tree: ast.Module, node: ast.AST) -> bool:
    functions = (one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))
    return any(inner is node for function in functions for inner in ast.walk(function))


def _dynamic(tree: ast.Module) -> str | None:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=called), args=args) if called in _DYNAMIC_CALLS:
                # In a function, `locals()` and `vars()` are no names of the module.
                if called in _DYNAMIC_NAMES or (not args and not _in_function(tree, node)):
                    return f"it calls {called}() in line {node.lineno}"
            case ast.Name(id=name, ctx=ast.Load()) if name in _DYNAMIC_NAMES:
                return f"it uses {name} in line {node.lineno}"
            case ast.Attribute(value=ast.Name("builtins"), attr=name) if name in _DYNAMIC_NAMES:
                return f"it uses {name} in line {node.lineno}"
            case (
                ast.Attribute(attr="__globals__")
                | ast.Subscript(value=ast.Attribute(attr="modules"), slice=ast.Name("__name__"))
            ):
                return f"it looks into a module in line {node.lineno}"
            case ast.Attribute(attr="import_module") | ast.Name(id="import_module"):
                return f"it uses import_module in line {node.lineno}"
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                return f"it imports * in line {node.lineno}"
    return None


@cache
def find(name: str, root: Path) -> Module | None:
    """The module `name`, if it belongs to the project at `root`.

    Raises
    ------
    CodeError
        If it is no Python, or can not be read.
    """
    file = locate(name, root)
    try:
        return None if file is None else load(name, file)
    except (SyntaxError, ValueError, OSError) as error:
        line = getattr(error, "lineno", None)
        said = getattr(error, "msg", None) or error
        raise CodeError(f"the module {name} can not be read: {said}", file=str(file), line=line) from error


def imported_names(node: ast.AST, package: str) -> list[tuple[str, str | None, str]]:
    """What an import statement imports: (module, name in it or None, the name it binds here)."""
    if isinstance(node, ast.Import):
        return [(alias.name, None, alias.asname or alias.name.split(".")[0]) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if node.level:
            base = package.split(".")
            base = base[: len(base) - (node.level - 1)] if node.level > 1 else base
            module = ".".join([*base, module]) if module else ".".join(base)
        return [(module, alias.name, alias.asname or alias.name) for alias in node.names]
    return []


@cache
def chains(reader: ast.stmt, bound: str) -> frozenset[tuple[str, ...]]:
    """The attributes that follow the name `bound` wherever `reader` reads it; empty for the bare name."""
    parents = {child: parent for parent in ast.walk(reader) for child in ast.iter_child_nodes(parent)}
    found = set()
    for name in ast.walk(reader):
        if isinstance(name, ast.Name) and name.id == bound:
            chain = []
            node: ast.AST = name
            # The dictionary of a module is the module.
            while isinstance(parent := parents.get(node), ast.Attribute) and parent.attr != "__dict__":
                chain.append(parent.attr)
                node = parent
            found.add(tuple(chain))
    return frozenset(found)
