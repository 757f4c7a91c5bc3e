"""From a target on the command line to stages: `FILE.py[:stage]` or `package.module[:stage]`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from bridge.formats.errors import BridgeError

from .errors import LoadError, TargetError
from .values import Stage

__all__ = ["load_module", "load_targets"]


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
        have = ", ".join(stages) or "none"
        raise TargetError(f"{where} defines no stage {name!r}", hint=f"it defines {have}")
    return named


def load_module(where: str) -> ModuleType:
    """Import a module by its file or by its dotted name."""
    if where.endswith(".py") or "/" in where:
        return _load_file(Path(where))
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        if importlib.util.find_spec(where) is None:
            raise ModuleNotFoundError(where)
    except (ImportError, ValueError) as error:
        hint = f"{where}.py is a file: write the .py as well" if Path(f"{where}.py").exists() else None
        raise TargetError(f"there is no module {where!r}", hint=hint) from error
    return _import(where)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TargetError(f"there is no file {path}")
    file = path.resolve()
    # As pytest does: a file in a package is imported under its dotted name.
    parts = [file.stem]
    folder = file.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    name = ".".join(parts)
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(file):
        return loaded
    if not name.replace(".", "_").isidentifier() or (loaded is not None and len(parts) == 1):
        return _import_file(f"{name}_" if loaded is not None else name, file)
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))
    return _import(name)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except BridgeError:
        raise
    except BaseException as error:
        raise _load_error(name, error) from error


def _import_file(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BridgeError:
        raise
    except BaseException as error:
        raise _load_error(name, error) from error
    return module


def _load_error(name: str, error: BaseException) -> LoadError | KeyboardInterrupt:
    """Point at the user's own line, not at the import machinery."""
    if isinstance(error, KeyboardInterrupt):
        return error
    if isinstance(error, SyntaxError):
        return LoadError(f"{error.msg}", file=error.filename, line=error.lineno)
    frames: Sequence[traceback.FrameSummary] = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and not frame.filename.startswith(str(Path(__file__).parents[1]))
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
