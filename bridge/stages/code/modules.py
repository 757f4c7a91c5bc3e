"""A module of the project as a list of statements: what each binds, reads and changes."""

from __future__ import annotations

import ast
import importlib.util
import symtable
import sys
import sysconfig
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

__all__ = ["Module", "Statement", "analyse", "find", "imported_names", "load", "project_root"]

_DYNAMIC_CALLS = frozenset(("eval", "exec", "globals", "__import__", "vars"))
_PROJECT_MARKS = ("pyproject.toml", "flake.nix", ".git")


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
    _effects: dict[str, tuple[Statement, ...]] = field(default_factory=dict)

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]

    def effects(self, name: str) -> tuple[Statement, ...]:
        """The statements that may change what `name` holds, directly or through functions that they call."""
        if name not in self._effects:
            readers = [*self.readers.get(name, ()), *self.binders.get(name, ())]
            found = dict.fromkeys(one for one in readers if one.effect)
            if any(_holds_state(one, name) for one in self.binders.get(name, ())):
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


@cache
def load(name: str, file: Path) -> Module:
    """Parse the module `name`.

    Raises
    ------
    SyntaxError, OSError
        As Python's own import does.
    """
    tree = ast.parse(file.read_bytes(), filename=str(file))
    statements = tuple(analyse(node) for part in tree.body for node in _split(part))
    order = {statement: number for number, statement in enumerate(statements)}
    future = tuple(
        one for one in statements if isinstance(one.node, ast.ImportFrom) and one.node.module == "__future__"
    )
    module = Module(name, file, file.name == "__init__.py", statements, _dynamic(tree), order, future)
    for statement in statements:
        for bound in statement.binds:
            module.binders.setdefault(bound, []).append(statement)
        for read in statement.reads:
            module.readers.setdefault(read, []).append(statement)
    return module


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
    walrus = {one.target.id for one in ast.walk(node) if isinstance(one, ast.NamedExpr)}
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
                if symbol.is_declared_global() and symbol.is_assigned():
                    changes.add(symbol.get_name())
            elif scope.get_type() == "class" and symbol.is_referenced():
                # `x = x` in a class reads the module's x.
                reads.add(symbol.get_name())
    # What a function declares global is state of the module: whoever reads it needs its binders too.
    imports = tuple(one for one in ast.walk(node) if isinstance(one, ast.Import | ast.ImportFrom))
    return Statement(node, frozenset(binds), frozenset(reads | changes), _has_effect(node), _calls(node), imports)


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
    parts: list[ast.expr] = []
    match node:
        case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
            parts = decorators
        case ast.ClassDef(decorator_list=decorators, bases=bases, keywords=keywords):
            parts = [*decorators, *bases, *(keyword.value for keyword in keywords)]
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            parts = [value] if any(isinstance(one, ast.Call) for one in ast.walk(value)) else []
    return frozenset(one.id for part in parts for one in ast.walk(part) if isinstance(one, ast.Name))


_CONSTANT = (ast.Constant, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop, ast.expr_context)


def _holds_state(binder: Statement, name: str) -> bool:
    """Whether what `binder` binds `name` to may be changed by others: no import, function, or constant."""
    match binder.node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return False
        case ast.ClassDef(body=body, keywords=keywords):
            # Such a class is told of its subclasses.
            return bool(keywords) or any(getattr(one, "name", None) == "__init_subclass__" for one in body)
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            return not all(isinstance(one, _CONSTANT) for one in ast.walk(value))
    return all(bound != name for node in binder.imports for *_, bound in imported_names(node, ""))


def _plain(target: ast.expr) -> bool:
    if isinstance(target, ast.Tuple | ast.List):
        return all(map(_plain, target.elts))
    return isinstance(target, ast.Name | ast.Starred)


def _dynamic(tree: ast.Module) -> str | None:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=called), args=args) if called in _DYNAMIC_CALLS:
                if called != "vars" or not args:
                    return f"it calls {called}() in line {node.lineno}"
            case ast.Attribute(attr="import_module"):
                return f"it uses import_module in line {node.lineno}"
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                return f"it imports * in line {node.lineno}"
    return None


# -------------------------------------------------------------------------- which modules are ours


@cache
def project_root(file: Path) -> Path:
    """The folder of the project that `file` belongs to: where its pyproject.toml, flake.nix or .git is.

    Without any, the folder that its package is in.
    """
    for folder in file.resolve().parents:
        if any((folder / mark).exists() for mark in _PROJECT_MARKS):
            return folder
    folder = file.resolve().parent
    while (folder / "__init__.py").exists():
        folder = folder.parent
    return folder


_LIBRARIES = tuple(
    {str(Path(sysconfig.get_path(kind)).resolve()) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
)


@cache
def find(name: str, root: Path) -> Module | None:
    """The module `name`, if it belongs to the project at `root`."""
    if name.split(".", maxsplit=1)[0] == "bridge" or name.split(".", maxsplit=1)[0] in sys.stdlib_module_names:
        return None
    live = sys.modules.get(name)
    origin = getattr(live, "__file__", None)
    if live is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return None
        origin = spec.origin if spec is not None and spec.has_location else None
    if origin is None or not origin.endswith(".py"):
        return None
    file = Path(origin).resolve()
    outside = str(file).startswith(_LIBRARIES) or "site-packages" in file.parts
    if outside or not file.is_relative_to(root):
        return None
    return load(name, file)


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
