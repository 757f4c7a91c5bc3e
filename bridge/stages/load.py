"""From a target on the command line to stages: `FILE.py[:stage]` or `package.module[:stage]`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from bridge.formats.errors import BridgeError

from .errors import LoadError, TargetError
from .values import Stage

__all__ = ["load_module", "load_targets", "module_name"]


def load_targets(target: str) -> list[Stage]:
    """The stages that a target names; without `:stage`, every stage that no other one uses.

    Raises
    ------
    TargetError
        If the file or the stage does not exist.
    LoadError
        If the module does not import.
    """
    where, _, name = target.partition(":")
    module = load_module(where)
    stages = {key: value for key, value in vars(module).items() if isinstance(value, Stage)}
    if not name:
        used = {inner for stage in stages.values() for inner in stage.inputs}
        found = [stage for stage in dict.fromkeys(stages.values()) if stage not in used]
        if not found:
            raise TargetError(f"{where} defines no stages", hint="decorate a function with @stage")
        return found
    if name in stages:
        return [stages[name]]
    named = [stage for stage in dict.fromkeys(stages.values()) if stage.name == name]
    if not named:
        near = get_close_matches(name, stages, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it defines {', '.join(stages) or 'none'}"
        raise TargetError(f"{where} defines no stage {name!r}", hint=hint)
    return named


def load_module(where: str) -> ModuleType:
    """Import a module by its file or by its dotted name.

    Raises
    ------
    TargetError
        If there is none.
    LoadError
        If it does not import.
    """
    if where.endswith(".py") or "/" in where:
        return _load_file(Path(where))
    if not where or where.startswith("."):
        raise TargetError(f"there is no module {where!r}", hint="write FILE.py or package.module")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return _import(where)
    except LoadError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and f"{where}.".startswith(f"{missing.name}."):
            is_file = Path(f"{where}.py").exists()
            hint = f"{where}.py is a file: write the .py as well" if is_file else "write FILE.py or package.module"
            raise TargetError(f"there is no module {where!r}", hint=hint) from error
        raise


def module_name(file: Path) -> str:
    """The dotted name that a file is imported under: as pytest does, through the packages that it is in."""
    parts = [file.stem]
    folder = file.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts[:-1] if file.name == "__init__.py" and len(parts) > 1 else parts)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = get_close_matches(path.name, (one.name for one in path.parent.glob("*.py")), 3)
        hint = f"did you mean {' or '.join(str(path.with_name(one)) for one in near)}?" if near else None
        raise TargetError(f"there is no file {path}", hint=hint)
    file = path.resolve()
    name = module_name(file)
    package = file.parent if file.name != "__init__.py" else file.parent.parent
    in_package = (package / "__init__.py").exists() or package != file.parent
    folder = file.parents[name.count(".") + (file.name == "__init__.py")] if in_package else file.parent
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))
    if not in_package:
        # Files of the same name: each gets a name of its own.
        while name in sys.modules and not _is_file(sys.modules[name], file):
            name += "_"
        if name in sys.modules:
            return sys.modules[name]
        if name != file.stem or not name.isidentifier():
            return _import_file(name, file)
    module = _import(name)
    if not _is_file(module, file):
        raise TargetError(
            f"{file} can not be imported as {name}: that is {module.__file__} in this process",
            hint="give one of the two packages another name, or use two processes",
        )
    return module


def _is_file(module: ModuleType, file: Path) -> bool:
    found = getattr(module, "__file__", None)
    return found is not None and Path(found).resolve() == file


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except BridgeError:
        raise
    except (Exception, SystemExit) as error:
        raise _load_error(name, error) from error


def _import_file(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if isinstance(error, BridgeError):
            raise
        raise _load_error(name, error) from error
    return module


def _load_error(name: str, error: BaseException) -> LoadError:
    """Point at the user's own line, not at the import machinery."""
    if isinstance(error, SyntaxError):
        return LoadError(f"{error.msg}", file=error.filename, line=error.lineno)
    frames: Sequence[traceback.FrameSummary] = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and not frame.filename.startswith(f"{Path(__file__).parents[1]}/")
    ]
    last = frames[-1] if frames else None
    said = f": {error}" if str(error) else ""
    hint = None
    if isinstance(error, ModuleNotFoundError):
        hint = f"install {error.name} into the Python that runs nixbridge ({sys.executable})"
    return LoadError(
        f"importing {name} raised {type(error).__name__}{said}",
        hint=hint,
        file=last.filename if last else None,
        line=last.lineno if last else None,
    )
