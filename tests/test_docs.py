"""docs/formats.md and the tutorials say what runs: their Python, their commands, and the names in their tables."""

from __future__ import annotations

import builtins
import doctest
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import bridge
from bridge.cli.lazy import Group
from bridge.cli.main import COMMANDS
from bridge.nix.installation import Installation

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/formats.md").read_text()
# What the page's commands use besides nixbridge: no Nix among it.
PROGRAMS = ("sh", "cat", "od", "mkdir", "ln")

_TITLE = re.compile(r"^## (.*)\n", re.MULTILINE)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"^\| `(bridge\.formats[\w.]*)` \|.*\n\|[- |]*\n((?:\|.*\n)+)", re.MULTILINE)
_CODE = re.compile(r"`([^`]*)`")
_NAME = re.compile(r"\.?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


def sections() -> dict[str, str]:
    parts = _TITLE.split(TEXT)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


SECTIONS = sections()


class Checker(doctest.OutputChecker):
    """Passes over blanks at the ends of lines, which editors remove."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return super().check_output(trimmed(want), trimmed(got), optionflags)


def trimmed(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.split("\n")[:-1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkout's root as the page sees it: with its test data, and empty else."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Neither a Nix nor a store of the machine's."""
    place = tmp_path_factory.mktemp("environment")
    programs = place / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).symlink_to(str(shutil.which(name)))
    (programs / "nixbridge").symlink_to(Path(sys.executable).with_name("nixbridge"))
    return {
        "PATH": str(programs),
        "HOME": str(place),
        "NIXBRIDGE_STORE": str(place / "store"),
        "LANG": "C.UTF-8",
        "COLUMNS": "120",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.mark.parametrize("title", [title for title, text in SECTIONS.items() if _BLOCK.search(text)])
def test_every_block_of_a_section_prints_what_the_page_says(
    title: str, folder: Path, environment: dict[str, str]
) -> None:
    names: dict[str, object] = {"__name__": "docs"}
    for language, block in _BLOCK.findall(SECTIONS[title]):
        assert language in ("pycon", "console"), f"what is a block of {language!r}?"
        if language == "pycon":
            run_python(title, block, names)
        else:
            run_commands(block, folder, environment)


def run_python(title: str, block: str, names: dict[str, object]) -> None:
    test = doctest.DocTestParser().get_doctest(block, names, title, "docs/formats.md", 0)
    assert test.examples
    said: list[str] = []
    doctest.DocTestRunner(Checker(), verbose=False).run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    assert not said, "".join(said)


def run_commands(block: str, folder: Path, environment: dict[str, str]) -> None:
    shown = ""
    for line in block.splitlines():
        if line.startswith("$ "):
            done = subprocess.run(
                ["sh", "-c", line.removeprefix("$ ")],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            shown += f"{line}\n{done.stdout.decode()}"
            # What a .drv ends with is no newline, but the page goes on in the next line.
            shown += "" if shown.endswith("\n") else "\n"
    assert trimmed(shown) == trimmed(block)


def documented() -> Iterator[tuple[str, str]]:
    """The module and the name of everything in the first column of a module's table."""
    for module, rows in _TABLE.findall(TEXT):
        for row in rows.splitlines():
            owner = ""
            for code in _CODE.findall(row.split(" | ")[0]):
                if found := _NAME.match(code):
                    name = f"{owner}{found[0]}" if code.startswith(".") else found[0]
                    owner = name.split(".", 1)[0]
                    yield module, name


@pytest.mark.parametrize(("module", "name"), sorted(set(documented())))
def test_every_name_in_a_table_is_there(module: str, name: str) -> None:
    found: object = importlib.import_module(module)
    for part in name.split("."):
        if isinstance(found, ModuleType) and hasattr(builtins, part) and not hasattr(found, part):
            found = builtins
        if isinstance(found, ModuleType) and not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)


def test_every_module_is_on_the_page() -> None:
    formats = ROOT / "bridge/formats"
    for folder, folders, files in os.walk(formats):
        folders[:] = [name for name in folders if not name.startswith("_")]
        for file in files:
            module = file.removesuffix(".py")
            if file.endswith(".py") and not module.startswith("_") and module not in PARTS:
                assert re.search(rf"`(?:[\w.]+\.)?{module}\b", TEXT), f"{folder}/{file}"


PARTS = {"files", "nodes", "reader", "writer", "wire", "notation", "read", "write", "versions", "types"}
"""Modules whose names the package around them gives."""


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]*)\)", TEXT))))
def test_every_link_leads_somewhere(link: str) -> None:
    file, _, title = link.partition("#")
    if file:
        assert (ROOT / "docs" / file).exists()
    else:
        assert title in {found.lower().replace(" ", "-").replace(",", "") for found in SECTIONS}


TUTORIALS = sorted(path.stem for path in (ROOT / "docs/tutorials").glob("*.md"))
HELLO = ROOT / ".cache/hello-2.10.tar.gz"
NETWORK = "https://ftpmirror.gnu.org/hello/"


@pytest.fixture
def docs(tmp_path: Path) -> Iterator[Path]:
    """A copy of the tutorials and of what they use; GNU hello is there without a network."""
    shutil.copytree(ROOT / "docs/tutorials", tmp_path / "docs/tutorials")
    shutil.copytree(ROOT / "docs/examples", tmp_path / "docs/examples", ignore=shutil.ignore_patterns("__pycache__"))
    hello = tmp_path / "docs/tutorials/hello.md"
    assert NETWORK in hello.read_text()
    hello.write_text(hello.read_text().replace(NETWORK, f"file://{HELLO.parent}/"))
    yield tmp_path / "docs"
    subprocess.run(["chmod", "-R", "u+w", tmp_path], check=False)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in TUTORIALS])
def test_a_tutorial_prints_what_it_says(name: str, docs: Path, tmp_path: Path) -> None:
    if name == "hello" and not HELLO.exists():
        pytest.skip("the source of GNU hello could not be fetched by scripts/setup")
    if name == "digits" and shutil.which("busybox") is None:
        pytest.skip("the example's tools are a static busybox: apt-get install busybox-static")
    done = subprocess.run(
        [Path(sys.executable).with_name("nixbridge"), "run-md", "--check", docs / "tutorials" / f"{name}.md"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "NIXBRIDGE_STORE": str(tmp_path / "store"),
            "NIX_REMOTE": f"local?root={tmp_path}/nix",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


_MASKS = (
    (re.compile(r"\b[0-9a-df-np-sv-z]{32}\b"), "DIGEST"),
    (re.compile(r"\b[01][0-9a-df-np-sv-z]{15}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "SHA256"),
    (re.compile(r"\d+(\.\d+)?(e-?\d+)?"), "N"),
    (re.compile(r"N (s|min|h) ago|N (ms|s|min)\b"), "TIME"),
    (re.compile(r"[ \t]+"), " "),
)
"""What another run, and another machine's arithmetic, gives otherwise."""


def masked(text: str) -> str:
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return trimmed(text)


@pytest.mark.nix
def test_the_pages_on_asking_and_walking_print_what_they_say(tmp_path: Path, nix: Installation) -> None:
    if shutil.which("busybox") is None:
        pytest.skip("the example's tools are a static busybox: apt-get install busybox-static")
    folder = tmp_path / "digits"
    shutil.copytree(ROOT / "docs/examples/digits", folder, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "NIXBRIDGE_STORE": str(tmp_path / "store"),
        "NIX_REMOTE": nix.environ["NIX_REMOTE"],
        "NIX_CONF_DIR": nix.environ["NIX_CONF_DIR"],
        "LANG": "C.UTF-8",
        "COLUMNS": "120",
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def run(command: list[str], typed: str = "", stderr: int = subprocess.STDOUT) -> str:
        pipe = subprocess.PIPE
        done = subprocess.run(
            command, cwd=folder, env=environment, input=typed.encode(), stdout=pipe, stderr=stderr, check=False
        )
        return done.stdout.decode()

    try:
        for setting in ("train.rate=0.1", "train.rate=0.05"):
            realized = run(["nixbridge", "realize", "stages.py:report", "--set", setting])
            assert "error" not in realized, realized
        for page in ("asking", "walking"):
            for language, block in _BLOCK.findall((ROOT / f"docs/{page}.md").read_text()):
                shown = ""
                if language == "console":
                    for line in block.splitlines():
                        if line.startswith("$ "):
                            shown += f"{line}\n{run(['sh', '-c', line.removeprefix('$ ')])}"
                else:
                    assert language == "pycon"
                    lines = [line for line in block.splitlines() if line.startswith(">>> ")]
                    typed = "".join(f"print({line!r})\n{line.removeprefix('>>> ')}\n" for line in lines)
                    shown = run([sys.executable, "-i", "-q"], typed, subprocess.DEVNULL)
                # Of two that run at once either may begin first.
                assert sorted(masked(shown).splitlines()) == sorted(masked(block).splitlines())
    finally:
        subprocess.run(["chmod", "-R", "u+w", tmp_path], check=False)


PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_to_is_there(page: str) -> None:
    outside_code = re.sub("(`+).*?\\1", "", _BLOCK.sub("", (ROOT / page).read_text()))
    for link in _LINK.findall(outside_code):
        file = link.partition("#")[0]
        if file and "://" not in file:
            assert (ROOT / page).parent.joinpath(file).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_names_is_there(page: str) -> None:
    for line in re.findall(r"`nixbridge ([^`]*)`", (ROOT / page).read_text()):
        table: Group = COMMANDS
        for word in line.split():
            if not re.fullmatch(r"[a-z][a-z-]*", word):
                break
            assert word in table, f"nixbridge {line}"
            found = table[word]
            if not isinstance(found, Group):
                break
            table = found


_OURS = re.compile(r"`(?:bridge\.)?([a-z_]+)\(")


def test_every_function_that_users_of_pylightnix_are_told_of_is_there() -> None:
    """In the second column of a table, a call that stands first is one of ours, or a method."""
    named = set()
    for row in (ROOT / "docs/pylightnix.md").read_text().splitlines():
        if row.startswith("| ") and " | " in row:
            named |= set(_OURS.findall(row.split(" | ")[1]))
    methods = {"stage", "call", "accept", "cancel", "realize"}
    assert len(named) > 20
    assert named <= methods | set(bridge.__all__)


def test_the_simulation_behind_the_page_on_scaling_runs() -> None:
    command = [sys.executable, ROOT / "docs/design/scaling.py", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    page = (ROOT / "docs/design/scaling.md").read_text()
    assert head in page
    assert [row.split()[:3] for row in rows] == [["2", "shared", "6"], ["2", "apart", "6"]]
