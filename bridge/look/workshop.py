"""Where a document's blocks run: a folder, programs, and one process of Python."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bridge.store.durable import disk_errors, temporary
from bridge.store.layout import Store
from bridge.store.objects import remove_tree

from .errors import BlockError, MarkdownError
from .markdown import Block, Document, tidy

__all__ = ["Workshop", "copy", "files_of"]

_TAIL = 20


def files_of(document: Document) -> list[Path]:
    """The files that the folder begins with."""
    found = []
    for path, line in document.files:
        file = (Path(document.name).parent / path).resolve()
        if not file.exists():
            raise MarkdownError(f"there is no {path} beside the document", file=document.name, line=line)
        found.append(file)
    return found


class Workshop:
    """The folder that blocks run in, and the process of the Python blocks; a context manager."""

    def __init__(self, document: Document, store: Store) -> None:
        self._document = document
        self._store = store
        self._scratch = temporary(store)
        self._content: Path | None = None
        self._python: subprocess.Popen[str] | None = None
        self.folder = self._scratch / "work"
        self._output = self._scratch / "output"
        self._module: list[str] = []
        """The Python text that was run, each line where the document has it."""

    def __enter__(self) -> Workshop:
        with disk_errors(f"{self._scratch} can not be made"):
            self.folder.mkdir(parents=True)
            # Marks the project of stages that blocks define: the folder's files, and the blocks themselves.
            (self._scratch / "pyproject.toml").touch()
        return self

    def __exit__(self, *_: object) -> None:
        if self._python is not None:
            _end(self._python)
        remove_tree(self._scratch)

    def enter(self, content: Path | None) -> None:
        """Have the folder hold what an earlier block left; at first, what the document begins with."""
        if content is not None and content == self._content:
            return
        for entry in os.scandir(self.folder):
            remove_tree(Path(entry.path))
        if content is not None:
            copy(content, self.folder)
        else:
            for file in files_of(self._document):
                copy(file, self.folder / file.name)
        self._content = content

    def stands_at(self, content: Path) -> None:
        """Know that what the folder holds now is what a block left."""
        self._content = content

    def run(self, block: Block) -> str:
        """Run a block here, and give what it prints.

        Raises
        ------
        BlockError
            If it fails, or should and does not.
        """
        self._content = None
        if block.file is not None:
            target = self.folder / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.code)
            return ""
        if block.language == "console":
            return self._console(block)
        if block.language == "python":
            status, line, text = self._run_python(block)
        else:
            status, text = self._program([block.language, "-e", "-c", block.code])
            line = block.line
        self._check(block, status, line, text)
        return text

    def _console(self, block: Block) -> str:
        shown, failed = "", False
        for command in block.commands:
            status, text = self._program(["bash", "-c", command.text])
            failed |= status is not None
            if status is not None and "fails" not in block.words:
                self._check(block, status, command.line, text)
            if any(line.startswith("$ ") for line in text.splitlines()):
                raise self._error("the command prints a line that looks like a command", command.line, text)
            first, *more = command.text.split("\n")
            shown += "".join(f"{line}\n" for line in (f"$ {first}", *(f"> {line}" for line in more))) + text
        self._check(block, "failed" if failed else None, block.line, shown)
        return shown

    def _check(self, block: Block, status: str | None, line: int, text: str) -> None:
        """Raise if a block did not end as it should."""
        if status is not None and "fails" not in block.words:
            raise self._error(f"the block {status}", line, text)
        if status is None and "fails" in block.words:
            raise self._error("the block should fail, as its first line says, and did not", block.line, text)

    def _error(self, message: str, line: int, text: str) -> BlockError:
        return BlockError(message, log_tail=text.splitlines()[-_TAIL:], file=self._document.name, line=line)

    def _program(self, command: list[str]) -> tuple[str | None, str]:
        """How a program ended, if not well, and what it printed."""
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                status = process.wait()
            finally:
                _end(process)
        return (f"ended with status {status}" if status else None), self._printed()

    def _run_python(self, block: Block) -> tuple[str | None, int, str]:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("interpreter.py"))],
                cwd=self.folder,
                env=self._environ(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._output.write_bytes(b"")
        file = self._write_module(block)
        request = {"code": block.code, "file": str(file), "line": block.line, "output": str(self._output)}
        self._python.stdin.write(json.dumps(request) + "\n")
        self._python.stdin.flush()
        answer = self._python.stdout.readline()
        if not answer:
            raise self._error("Python ended in this block", block.line, self._printed())
        said: Mapping[str, str | int | None] = json.loads(answer)
        line = said.get("line")
        status = f"raised {said['error']}" if "error" in said else None
        return status, line if isinstance(line, int) else block.line, self._printed()

    def _write_module(self, block: Block) -> Path:
        """The Python text up to a block as a file, which stages that it defines have their code from."""
        self._module += [""] * (block.line - 1 - len(self._module)) + block.code.splitlines()
        stem = re.sub(r"\W", "_", Path(self._document.name).stem)
        file = self._scratch / "blocks" / str(block.line) / f"{stem}.py"
        with disk_errors(f"{file} can not be written"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(self._module) + "\n")
        return file

    def _printed(self) -> str:
        """What was printed, with the places that are another one each time under a name."""
        text = self._output.read_bytes().decode(errors="surrogateescape")
        text = re.sub(
            re.escape(f"{self._scratch}/blocks/") + r"\d+/\w+\.py", lambda _: Path(self._document.name).name, text
        )
        return tidy(text.replace(str(self.folder), ".").replace(str(self._store.root), "$NIXBRIDGE_STORE"))

    def _environ(self) -> dict[str, str]:
        """The user's environment, with this nixbridge and its store, and nothing that looks different elsewhere."""
        own = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "NIXBRIDGE_STORE": str(self._store.root),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONIOENCODING": "utf-8",
            # As on a terminal: what is printed first stands first.
            "PYTHONUNBUFFERED": "1",
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "100",
            "NO_COLOR": "1",
            "TERM": "dumb",
        }
        return {**os.environ, **own}


def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End a process and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def copy(content: Path, target: Path) -> None:
    """Copy a file or a folder, so that the copy can be written."""
    if content.is_dir() and not content.is_symlink():
        target.mkdir(exist_ok=True)
        for entry in os.scandir(content):
            copy(Path(entry.path), target / entry.name)
    elif content.is_symlink():
        target.symlink_to(os.readlink(content))
    else:
        shutil.copyfile(content, target)
        target.chmod(0o755 if os.access(content, os.X_OK) else 0o644)
