"""Nix as the evaluator of plans: flakes locked, all stages in one call, answers kept.

What an answer depends on:

    flake       locked URL, attribute path         folder      contents (of a Git repository: what Git tracks)
    code        object of its files, attribute, arguments, nixpkgs' locked URL if it speaks of it
    always      the outputs that are asked for, system, Nix's version
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bridge.formats.derivation import DRV_SUFFIX, Instantiated
from bridge.formats.errors import BridgeError
from bridge.formats.hashes import Hash
from bridge.formats.store_path import STORE_PATH, name_part
from bridge.nix.client import connect
from bridge.nix.errors import NixEvaluationError
from bridge.nix.evaluate import CodeItem, Derived, FlakeItem, InStore, Item, evaluate, split_installable
from bridge.nix.installation import Installation, find
from bridge.stages.define import host_system
from bridge.stages.errors import StageError
from bridge.stages.plan import Evaluated, Evaluator, Plan, Question
from bridge.stages.plan import instantiate as instantiate_with
from bridge.stages.recipes import nix_object
from bridge.stages.sources import SourceObject
from bridge.stages.values import Stage
from bridge.store.layout import Store, locate, open_store

from .answers import Answers
from .derivations import Derivations
from .file import LOCK_NAME
from .flakes import Flakes, at_hand
from .folders import Folder, contents, folder_named, folder_url, untracked

__all__ = ["NixEvaluator", "evaluator_of", "instantiate"]

_PACKAGES = "nixpkgs"


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def instantiate(
    targets: Sequence[Stage],
    *,
    nix: Installation | None = None,
    store: Store | None = None,
    lock: str | os.PathLike[str] | None = None,
) -> Plan:
    """Instantiate stages and everything they use.

    Parameters
    ----------
    nix
        What evaluates `nix` and `flake` stages; the Nix on PATH without it.
    store
        The store that keeps Nix's answers; the project's without it.
    lock
        The file that flakes are locked in; `bridge.lock` beside the first target's file without it.

    Raises
    ------
    StageError
        With file and line, for a stage that can not be instantiated.
    """
    folder = Path(targets[0].place.file).parent if targets else Path.cwd()
    file = Path(lock) if lock is not None else (folder if folder.is_dir() else Path.cwd()) / LOCK_NAME
    return instantiate_with(
        targets, evaluator_of(file.absolute(), nix=nix, store=None if store is None else str(store.root))
    )


def evaluator_of(
    file: Path,
    *,
    nix: Installation | None = None,
    store: str | None = None,
    note: Callable[[str], None] = _say,
    frozen: bool = False,
) -> Evaluator | None:
    """The evaluator for a project with this lock file, if there is a Nix; the others as of `NixEvaluator`, `Flakes`."""
    found = nix or find(os.environ)
    return None if found is None else NixEvaluator(found, Flakes(found, file, note, frozen), store)


@dataclass(slots=True)
class NixEvaluator:
    """Evaluates `nix` and `flake` stages with an installed Nix.

    Parameters
    ----------
    store
        Where the store is that keeps the answers, as the option --store names it.
    """

    nix: Installation
    flakes: Flakes
    store: str | None = None
    _answers: Answers | None = None
    _derivations: Derivations = field(init=False)

    def __post_init__(self) -> None:
        self._derivations = Derivations(self.nix)

    def packages(self) -> str:
        return self.flakes.url(_PACKAGES)

    def evaluate(self, questions: Sequence[Question]) -> Sequence[Evaluated | BridgeError]:
        self.nix.check_store_dir()
        answers: list[Evaluated | BridgeError | None] = [None] * len(questions)
        asked: list[tuple[int, _Asked]] = []
        for number, question in enumerate(questions):
            try:
                if question.recipe.drv is not None:
                    answers[number] = self._given(question.recipe.drv)
                    continue
                one = self._asked(question)
                found = self._kept().find(self._depends(one))
                if found is None:
                    asked.append((number, one))
                else:
                    answers[number] = found
            except BridgeError as error:
                answers[number] = error
        if asked:
            for (number, _), answer in zip(asked, self._ask([one for _, one in asked]), strict=True):
                answers[number] = answer
        return [answer for answer in answers if answer is not None]

    # ------------------------------------------------------------------------------- questions

    def _asked(self, question: Question) -> _Asked:
        recipe = question.recipe
        if recipe.installable is not None:
            reference, fragment, outputs = split_installable(recipe.installable)
            folder = folder_named(reference, Path(question.stage.place.file).resolve().parent)
            if folder is not None:
                return _Asked(question, ["folder", contents(folder), fragment], outputs, folder, fragment=fragment)
            url = self.flakes.url(reference)
            return _Asked(question, ["flake", url, fragment], outputs, url=url, fragment=fragment)
        try:
            source, file, speaks = nix_object(question.stage, recipe)
        except StageError as error:
            # Whose error it is, and where, is said again by who asks.
            message = error.message.removeprefix(f"the stage {question.stage.name}: ")
            raise NixEvaluationError(message, hint=error.hint) from error
        packages = question.packages
        if packages is None and speaks:
            packages = self.packages()
        args = _arguments(question)
        depends = ["code", source.path, file, recipe.attr, _described(args), packages]
        return _Asked(question, depends, (), source=source, file=file, args=args, url=packages)

    def _ask(self, asked: Sequence[_Asked]) -> list[Evaluated | BridgeError]:
        """Ask Nix, all in one call."""
        asked = list(asked)
        items: list[Item | BridgeError] = []
        with contextlib.ExitStack() as stack:
            connection = None
            for number, one in enumerate(asked):
                try:
                    if one.source is not None and connection is None:
                        # Open until the evaluation has ended: it keeps what it brings from Nix's collector.
                        connection = stack.enter_context(connect(self.nix))
                    if one.source is not None and connection is not None:
                        connection.add_to_store(name_part(one.source.path), "fixed:r:sha256", (), one.source.chunks())
                    if one.folder is not None:
                        inside, asked[number] = self._in_folder(one, one.folder)
                        items.append(inside)
                    else:
                        items.append(self._item(one))
                except BridgeError as error:
                    items.append(_explained(one, error))
            given = [item for item in items if not isinstance(item, BridgeError)]
            found = iter(evaluate(self.nix, given, host_system()))
            results: list[Evaluated | BridgeError] = []
            for one, item in zip(asked, items, strict=True):
                result = item if isinstance(item, BridgeError) else next(found)
                try:
                    results.append(
                        _explained(one, result) if isinstance(result, BridgeError) else self._keep(one, result)
                    )
                except BridgeError as error:
                    results.append(error)
            return results

    def _item(self, one: _Asked) -> Item:
        if one.source is not None:
            recipe = one.question.recipe
            packages = None if one.url is None else at_hand(self.nix, one.url)
            digest = hashlib.sha256()
            for chunk in one.source.chunks():
                digest.update(chunk)
            return CodeItem(
                one.source.path, Hash("sha256", digest.digest()).sri, one.file, recipe.attr, one.args, packages
            )
        assert one.url is not None
        return FlakeItem(at_hand(self.nix, one.url), one.fragment)

    def _in_folder(self, one: _Asked, folder: Folder) -> tuple[Item, _Asked]:
        """What to evaluate of a folder's flake, and the question as it is once Nix has locked the flake's inputs."""
        before = folder.lock()
        item = FlakeItem(folder_url(self.nix, folder), one.fragment)
        if folder.lock() != before:
            self.flakes.note(f"Nix locked the inputs of the flake in {folder.flake}, in its flake.lock")
        return item, replace(one, depends=["folder", contents(folder), one.fragment])

    # --------------------------------------------------------------------------------- answers

    def _keep(self, one: _Asked, derived: Derived) -> Evaluated:
        """An answer of Nix's, kept for the next time."""
        missing = [name for name in one.outputs if name not in derived.outputs and name != "*"]
        if missing:
            near = get_close_matches(missing[0], derived.outputs, 1)
            raise NixEvaluationError(
                f"there is no output {missing[0]!r}",
                hint=f"did you mean {near[0]}?" if near else f"its outputs are {', '.join(derived.outputs)}",
            )
        default = derived.default if one.outputs in ((), ("*",)) else one.outputs[0]
        return self._kept().keep(self._depends(one), derived, default)

    def _given(self, path: str) -> Evaluated:
        """A `.drv` that a stage names itself."""
        if not STORE_PATH.fullmatch(path) or not path.endswith(DRV_SUFFIX):
            raise StageError(f"{path!r} is no path of a .drv in the Nix store")
        drv, aterm = self._derivations.read(path)
        default = "out" if "out" in drv.outputs else next(iter(drv.outputs))
        return Evaluated(Instantiated(drv, path, aterm, self._derivations.modulo(path)), default)

    def _kept(self) -> Answers:
        if self._answers is None:
            store = open_store(locate(self.store, os.environ, self.flakes.file.parent))
            self._answers = Answers(store, self._derivations)
        return self._answers

    def _depends(self, one: _Asked) -> list[Any]:
        return [*one.depends, [*one.outputs], host_system(), self.nix.version_text()]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question, and what its answer depends on."""

    question: Question
    depends: Sequence[Any]
    outputs: tuple[str, ...]
    folder: Folder | None = None
    url: str | None = None
    fragment: str = ""
    source: SourceObject | None = None
    file: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)


def _arguments(question: Question) -> dict[str, Any]:
    """The arguments of code: config, and store paths for inputs."""

    def stored(path: str) -> InStore:
        found = STORE_PATH.match(path)
        assert found is not None
        return InStore(found[0], path[found.end() :].lstrip("/"))

    args: dict[str, Any] = dict(question.stage.config)
    for name, paths in question.inputs.items():
        args[name] = stored(paths) if isinstance(paths, str) else [stored(path) for path in paths]
    return args


def _described(value: Any) -> Any:
    """Arguments as JSON."""
    match value:
        case InStore(path, below):
            return {"store path": path, "below": below}
        case dict():
            return {name: _described(item) for name, item in value.items()}
        case list():
            return [_described(item) for item in value]
    return value


def _explained(one: _Asked, error: BridgeError) -> BridgeError:
    """The error, with the files that Nix did not see of a Git repository."""
    names = [] if one.folder is None else untracked(one.folder)
    if not names:
        return error
    shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
    return NixEvaluationError(
        error.message,
        hint=f"Nix does not see files that Git does not track; untracked are {shown}: git add what it needs",
        file=error.file,
        line=error.line,
    )
