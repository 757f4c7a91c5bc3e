"""From a function to the files that hold just what it reaches."""

from __future__ import annotations

import ast
import copy
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import FunctionType, ModuleType

from bridge.formats.nar import Directory, Node, Regular
from bridge.stages import define
from bridge.stages.errors import CodeError
from bridge.stages.load import module_name
from bridge.stages.place import Place
from bridge.stages.values import Stage

from .locate import project_root
from .modules import Module, Statement, analyse, chains, find, imported_names, load
from .outside import Outside

__all__ = ["Code", "Position", "stage_code"]

Position = tuple[int, int, int, int]
"""Line, column, end line, end column in the user's file."""

_WHOLE = "*"


@dataclass(frozen=True, eq=False)
class Code:
    """The pruned modules of a stage function.

    Parameters
    ----------
    module, function
        What the worker imports and calls.
    files
        Path in the object to text.
    trees
        Path in the object to the user's file and the tree that the text was printed from.
    """

    module: str
    function: str
    files: dict[str, str]
    trees: dict[str, tuple[Path, ast.Module]]

    @cached_property
    def tree(self) -> Node:
        """The folder that goes into the store."""
        return _folder(self.files)

    @cached_property
    def positions(self) -> dict[str, tuple[str, list[Position]]]:
        """For each file, the user's file and where each node of the printed text stands in it.

        Tracebacks point into the user's file with it; it is told to the worker and never hashed.
        """
        found = {}
        for path, (file, tree) in self.trees.items():
            printed = list(_located(ast.parse(self.files[path])))
            original = list(_located(tree))
            # Printing may join neighbouring texts; then the file goes without positions.
            if [type(node) for node in printed] == [type(node) for node in original]:
                found[path] = (str(file), [_position(node) for node in original])
        return found


def _located(tree: ast.AST) -> Iterator[ast.AST]:
    return (node for node in ast.walk(tree) if "lineno" in node._attributes)


def _position(node: ast.AST) -> Position:
    line = getattr(node, "lineno", 1)
    column = getattr(node, "col_offset", 0)
    return line, column, getattr(node, "end_lineno", line), getattr(node, "end_col_offset", column)


def _folder(files: dict[str, str]) -> Node:
    entries: dict[str, dict[str, str] | Node] = {}
    for path, text in files.items():
        first, _, rest = path.partition("/")
        if rest:
            below = entries.setdefault(first, {})
            assert isinstance(below, dict)
            below[rest] = text
        else:
            entries[first] = Regular(text.encode())
    return Directory({name: _folder(node) if isinstance(node, dict) else node for name, node in entries.items()})


@cache
def stage_code(function: FunctionType, decorated_at: int, wrapped: bool = False) -> Code:
    """The code of a stage function.

    Parameters
    ----------
    decorated_at
        The line of the stage decorator: it and those above it are no part of what runs. Any line outside of
        the function's decorators says that none of them is it.
    wrapped
        Whether other functions are around it, which its decorators must have made.

    Raises
    ------
    CodeError
        With file and line, if the function has no source, is not at the top level of its module, or
        uses another stage in its body.
    """
    place = Place(function.__code__.co_filename, function.__code__.co_firstlineno)
    if function.__closure__ or "." in function.__qualname__:
        raise place.error(
            f"the stage function {function.__name__} is defined inside another function or class",
            hint="define stage functions at the top level of a module",
            kind=CodeError,
        )
    if not isinstance(inspect.getsourcefile(function), str) or not Path(place.file).exists():
        raise place.error(f"the source of the stage function {function.__name__} can not be read", kind=CodeError)
    file = Path(place.file).resolve()
    # A program's own module has its usual name for a worker, whose main module is another one.
    name = function.__module__ if function.__module__ != "__main__" else module_name(file)
    if name.startswith("bridge."):
        # A stage of stock comes as a module of its own: a worker has no nixbridge.
        name = name.rpartition(".")[2]
    module = load(name, file)
    pruner = _Pruner(project_root(file), module, function, decorated_at=decorated_at, wrapped=wrapped)
    pruner.reach_function()
    return pruner.finish()


class _Pruner:
    """The statements that were reached so far, and those still to look at."""

    def __init__(self, root: Path, module: Module, function: FunctionType, *, decorated_at: int, wrapped: bool) -> None:
        self._root = root
        self._module = module
        self._function = function
        self._decorated_at = decorated_at
        self._wrapped = wrapped
        self._reached: dict[Module, set[Statement]] = {}
        self._taken_whole: set[Module] = set()
        self._pending: list[tuple[Module, Statement]] = []
        self._changing: set[Module] = set()
        self._numbers: dict[Statement, tuple[int, int]] = {}
        """Where statements stand that were made here."""

    def reach_function(self) -> None:
        module = self._module
        line = self._function.__code__.co_firstlineno
        for statement in module.binders.get(self._function.__name__, ()):
            node = statement.node
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                if first == line:
                    stripped = _strip(node, self._decorated_at)
                    break
        else:
            place = Place(str(module.file), line)
            raise place.error(
                f"the stage function {self._function.__name__} is not at the top level of its module", kind=CodeError
            )
        if self._wrapped and not stripped.decorator_list:
            raise Place(str(module.file), line).error(
                f"the stage function {self._function.__name__} is wrapped in one that none of its decorators made",
                hint="decorate the function itself, below @stage",
                kind=CodeError,
            )
        own = analyse(stripped)
        self._numbers[own] = module.order[statement], -1
        self._add(module, own)
        if module.dynamic:
            self._whole(module)
        self._run()
        self._reach_changes()

    def _reach_changes(self) -> None:
        """Reach what changes the state of what was reached, in whichever module, until nothing more does."""
        while changing := [
            (where, one)
            for where, one in Outside.of(self._root, self._module, self._reached).changing(self._reached)
            if one not in self._reached.get(where, ()) and not self._makes_stages(where, one)
        ]:
            for where, one in changing:
                self._changing.add(where)
                self._add(where, one)
            self._run()
        outside = Outside.of(self._root, self._module, self._reached)
        for changed, number in outside.not_imported(self._changing, self._reached):
            self._import_for_effect(changed, number)
        self._run()

    def _import_for_effect(self, module: Module, number: tuple[int, int]) -> None:
        """Have the stage's module import `module` after the statement that does so on the way."""
        alias = ast.alias(module.name, f"_{module.name.replace('.', '_')}_for_its_effects")
        node = ast.copy_location(ast.Import([alias]), self._module.statements[number[0]].node)
        statement = analyse(node)
        self._numbers[statement] = number
        self._add(self._module, statement)

    def _add(self, module: Module, statement: Statement) -> None:
        reached = self._reached.setdefault(module, set())
        if statement not in reached:
            reached.add(statement)
            self._pending.append((module, statement))

    def _run(self) -> None:
        while self._pending:
            module, statement = self._pending.pop()
            for node in statement.imports:
                for target, name, bound in imported_names(node, module.package):
                    self._import(target, name, bound, None if node is statement.node else statement)
                    if name is None and (found := find(target, self._root)) and _imports_by_name(module):
                        self._whole(found)
            for name in statement.reads:
                self._name(module, name, statement)

    def _name(self, module: Module, name: str, reader: Statement | None) -> None:
        """`name` of `module` is needed; without a `reader`, nobody knows what for."""
        # What no statement of the module binds, a function does that declares it global.
        binding = module.binders.get(name) or module.setters.get(name) or []
        binders = [one for one in binding if not self._is_own(module, name)]
        if module.dynamic or (not binders and "__getattr__" in module.binders):
            self._whole(module)
        if any(self._is_stage(module, name, one) for one in binders):
            line = reader.node.lineno if reader is not None else binders[0].node.lineno
            raise Place(str(module.file), line).error(
                f"the code of the stage {self._function.__name__} uses the stage {name}",
                hint="make it a parameter: stages are inputs, and arrive as paths",
                kind=CodeError,
            )
        for statement in binders:
            for node in statement.imports:
                for target, attribute, bound in imported_names(node, module.package):
                    if bound == name:
                        self._imported(target, attribute, bound, reader)
            if _leads_to(statement, name, reader, binders):
                self._add(module, statement)
        if binders or self._is_own(module, name):
            for effect in module.effects(name):
                if not self._makes_stages(module, effect):
                    self._add(module, effect)

    def _is_own(self, module: Module, name: str) -> bool:
        return name == self._function.__name__ and module is self._module

    def _live(self, module: Module, name: str) -> object:
        """What a name of a module holds in this process."""
        if module is self._module:
            return self._function.__globals__.get(name)
        return getattr(sys.modules.get(module.name), name, None)

    def _is_stage(self, module: Module, name: str, binder: Statement) -> bool:
        """Whether a name holds a stage; of a module that nothing imported yet, how it is written tells."""
        if module is self._module or module.name in sys.modules:
            return isinstance(self._live(module, name), Stage)
        makers = {
            bound
            for called in binder.calls
            for one in module.binders.get(called, ())
            for node in one.imports
            for target, attribute, bound in imported_names(node, module.package)
            if target == "bridge" and attribute in define.__all__
        }
        return bool(makers & binder.calls)

    def _submodule(self, package: str, name: str) -> Module | None:
        """The module of the project that `name` of a package is, if it is one."""
        outer = find(package, self._root)
        if outer is not None and not outer.is_package:
            return None
        if outer is not None and name in outer.binders and not isinstance(self._live(outer, name), ModuleType):
            return None
        return find(f"{package}.{name}", self._root)

    def _import(self, target: str, name: str | None, bound: str, reader: Statement | None) -> None:
        """An import statement is reached; `reader` has it inside of it."""
        module = find(target, self._root)
        found = module if name is None else self._submodule(target, name)
        if found is not None:
            self._reached.setdefault(found, set())
            if reader is not None:
                self._imported(target, name, bound, reader)
        elif module is not None and name is not None:
            if name == _WHOLE:
                self._whole(module)
            else:
                self._name(module, name, None)

    def _imported(self, target: str, name: str | None, bound: str, reader: Statement | None) -> None:
        """`reader` reads what an import binds: if it is a module, reach the attributes that are used of it."""
        found = find(target, self._root) if name is None else self._submodule(target, name)
        if found is None:
            return
        if reader is None:
            self._whole(found)
            return
        # `import a.b` binds a; `import a.b as x` binds x to a.b.
        base = [bound] if name is None and bound == target.partition(".")[0] else found.name.split(".")
        for chain in chains(reader.node, bound):
            self._attributes(base, chain)
            if not chain:
                self._whole(found)

    def _attributes(self, base: list[str], chain: tuple[str, ...]) -> None:
        """Something reads the attributes `chain`, one of the other, of the module `base`."""
        path = ".".join(base)
        module = find(path, self._root)
        for attribute in chain:
            found = self._submodule(path, attribute)
            if module is not None:
                self._reached.setdefault(module, set())
                if found is None:
                    self._name(module, attribute, None)
                    return
                for statement in self._submodule_binders(module, found, attribute):
                    self._add(module, statement)
            path, module = f"{path}.{attribute}", found
        if module is not None:
            self._whole(module)

    def _submodule_binders(self, package: Module, submodule: Module, name: str) -> list[Statement]:
        """What makes `submodule` an attribute of its package: an import of it, or of something in it."""
        return package.binders.get(name) or [
            statement
            for statement in package.statements
            for node in statement.imports
            for target, _, _ in imported_names(node, package.package)
            if f"{target}.".startswith(f"{submodule.name}.")
        ]

    def _whole(self, module: Module) -> None:
        """All of `module`, as far as it is no stage."""
        if module in self._taken_whole:
            return
        self._taken_whole.add(module)
        self._reached.setdefault(module, set())
        for statement in module.statements:
            own = any(self._is_own(module, name) for name in statement.binds)
            if not own and not _is_of_bridge(statement) and not self._touches_stages(module, statement):
                self._add(module, statement)

    def _touches_stages(self, module: Module, statement: Statement) -> bool:
        return any(
            isinstance(self._live(module, name), Stage)
            and not (self._is_own(module, name) and name not in statement.reads)
            for name in statement.reads | statement.binds
        )

    def _makes_stages(self, module: Module, effect: Statement) -> bool:
        """Whether a statement with effects is about stages, itself or through functions of its module."""
        seen = {*effect.reads, *effect.binds}
        pending = list(seen)
        while pending:
            name = pending.pop()
            live = self._live(module, name)
            of = live.__name__ if isinstance(live, ModuleType) else getattr(live, "__module__", None)
            if isinstance(live, Stage) or f"{of}.".startswith("bridge."):
                return True
            for binder in module.binders.get(name, ()):
                pending.extend(binder.reads - seen)
                seen |= binder.reads
        return False

    def _number(self, module: Module, statement: Statement) -> tuple[int, int]:
        made = self._numbers.get(statement)
        return (module.order[statement], -1) if made is None else made

    def finish(self) -> Code:
        keep_docstrings = any(_reads_docstrings(one.node) for part in self._reached.values() for one in part)
        files: dict[str, str] = {}
        trees: dict[str, tuple[Path, ast.Module]] = {}
        for module, reached in self._reached.items():
            wanted = {*reached, *(module.future if reached else ())}
            statements = sorted(wanted, key=lambda one: self._number(module, one))
            body = [copy.deepcopy(statement.node) for statement in statements]
            tree = ast.Module(body, [])
            if not keep_docstrings:
                _drop_docstrings(tree)
            path = module.name.replace(".", "/") + ("/__init__.py" if module.is_package else ".py")
            files[path] = "".join(ast.unparse(node) + "\n" for node in tree.body)
            trees[path] = (module.file, tree)
        for path in list(files):
            parts = path.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                files.setdefault("/".join([*parts[:depth], "__init__.py"]), "")
        return Code(self._module.name, self._function.__name__, dict(sorted(files.items())), trees)


def _imports_by_name(module: Module) -> bool:
    """Whether what a module imports may be used under names that are made up."""
    return "import_module" in (module.dynamic or "")


def _leads_to(binder: Statement, name: str, reader: Statement | None, binders: Sequence[Statement]) -> bool:
    """Whether `binder` may be what the reader of `name` needs: `import a.b` is not where it reads `a.c`."""
    if reader is None or not all(isinstance(one.node, ast.Import) for one in binders):
        return True
    found = chains(reader.node, name)
    wanted = [one for one in binders if any(_shares(chain, one.node, name) for chain in found)]
    return binder in (wanted or binders)


def _shares(chain: tuple[str, ...], node: ast.stmt, name: str) -> bool:
    """Whether the attributes `chain` of `name` begin as the module that `node` imports, or the other way round."""
    targets = [target.split(".")[1:] for target, _, bound in imported_names(node, "") if bound == name]
    return any(all(a == b for a, b in zip(chain, target, strict=False)) for target in targets)


def _is_of_bridge(statement: Statement) -> bool:
    """Whether this imports nixbridge: a worker has none, and what makes stages is no part of their run."""
    targets = [target for target, _, _ in imported_names(statement.node, "")]
    return bool(targets) and all(target.partition(".")[0] == "bridge" for target in targets)


def _strip(node: ast.FunctionDef | ast.AsyncFunctionDef, decorated_at: int) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """The function without stage decorator, defaults and annotations: those make the stage, not its run."""
    stripped = copy.deepcopy(node)
    lines = [decorator.lineno for decorator in stripped.decorator_list if decorated_at < node.lineno]
    above = [number for number, line in enumerate(lines) if line <= decorated_at]
    stripped.decorator_list = stripped.decorator_list[above[-1] + 1 :] if above else stripped.decorator_list
    arguments = stripped.args
    arguments.defaults = []
    arguments.kw_defaults = [None for _ in arguments.kwonlyargs]
    for argument in (*arguments.args, *arguments.kwonlyargs):
        argument.annotation = None
    stripped.returns = None
    return stripped


def _reads_docstrings(node: ast.stmt) -> bool:
    text = ast.dump(node)
    return "__doc__" in text or "'getdoc'" in text


def _drop_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str())), *rest]:
                    node.body = rest or ([] if isinstance(node, ast.Module) else [_pass_at(node.body[0])])


def _pass_at(place: ast.stmt) -> ast.stmt:
    return ast.copy_location(ast.Pass(), place)
