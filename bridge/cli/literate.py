"""`run-md`: the blocks of a Markdown document, run as stages."""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bridge.stages.errors import TargetError

from .options import JsonOption, StoreOption
from .render import dim, duration, paint, print_json
from .setting import open_located
from .writing import scratch_beside

if TYPE_CHECKING:
    from bridge.look.literate import Ran
    from bridge.look.markdown import Block, Document

__all__ = ["run_md_command"]


def run_md_command(
    file: Annotated[Path, typer.Argument(metavar="FILE.md", help="The document.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the document here.")
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", "-i", help="Write the document where it is.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail with a diff where the document says something else.")
    ] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Run all blocks, also those with a kept result.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Run the marked blocks of a Markdown document, and put in what they print.

    nixbridge run-md tutorial.md --in-place

    Blocks are ```` ```console run ````, ```` ```python run ````, ```` ```sh run ````. Each is a stage: it runs again
    only where its text or what comes before it has changed. Without an option, the document goes to standard output.
    """
    from bridge.look.literate import run
    from bridge.look.markdown import agree, read, weave

    if (output is not None) + in_place + check > 1:
        raise TargetError("run-md takes one of -o, --in-place and --check")
    try:
        text = file.read_text()
    except OSError as error:
        raise TargetError(f"{file} can not be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TargetError(f"{file} is no text in UTF-8") from None
    document = read(text, str(file))
    done = run(document, open_located(store, str(file)), rebuild=rebuild, report=partial(_tell, file))
    printed = {
        block: ran.printed
        for block, ran in done.items()
        # What the document says well enough stays as it is, so that running it changes nothing in it.
        if block.file is None and not (block.shown is not None and agree(block, block.shown, ran.printed))
    }
    made = weave(document, printed)
    target = file if in_place or output is None else output
    pictures = _pictures(document, list(done.values())[-1].folder, target.parent) if done else {}
    if check:
        changed = _compare(file, text, made, pictures)
        raise typer.Exit(1 if changed else 0)
    if in_place or output is not None:
        _write(target, made.encode())
        for name, data in pictures.items():
            _write(target.parent / name, data)
    elif not json:
        sys.stdout.write(made)
    if json:
        print_json(
            [
                {"line": block.line, "language": block.language, "file": block.file, "seconds": ran.seconds}
                | {"printed": ran.printed, "changed": block in printed}
                for block, ran in done.items()
            ]
        )


def _tell(file: Path, block: Block, ran: Ran) -> None:
    took = dim("kept") if ran.seconds is None else duration(ran.seconds)
    print(f"{file}:{block.line}  {block.file or block.language}  {took}", file=sys.stderr)


def _pictures(document: Document, folder: Path, beside: Path) -> dict[str, bytes]:
    """The pictures that the document shows and the blocks made, where those beside it are others."""
    made = {name: (folder / name).read_bytes() for name in document.images if (folder / name).is_file()}
    return {name: data for name, data in made.items() if not _is_picture(beside / name, data)}


def _is_picture(file: Path, data: bytes) -> bool:
    """Whether a file is a picture; of one that is text (SVG), times and ids may differ."""
    from bridge.look.markdown import alike

    if not file.is_file():
        return False
    there = file.read_bytes()
    try:
        return there == data or alike(there.decode(), data.decode())
    except UnicodeDecodeError:
        return False


def _compare(file: Path, text: str, made: str, pictures: Mapping[str, bytes]) -> bool:
    """Print what differs; whether anything does."""
    lines = list(
        difflib.unified_diff(text.splitlines(), made.splitlines(), str(file), "what its blocks print", "", "", 2, "")
    )
    for line in lines:
        print(paint(line, {"+": "green", "-": "red"}.get(line[:1], "dim"), sys.stdout))
    for name in pictures:
        print(f"{file.parent / name} is not the picture that the blocks make")
    if lines or pictures:
        print(dim(f"nixbridge run-md --in-place {file} writes what its blocks print"), file=sys.stderr)
    return bool(lines or pictures)


def _write(target: Path, data: bytes) -> None:
    """Have a file hold `data`, or what it held, whatever happens."""
    if target.is_file() and target.read_bytes() == data:
        return
    scratch = scratch_beside(target)
    try:
        scratch.write_bytes(data)
        if target.exists():
            shutil.copymode(target, scratch)
        os.replace(scratch, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise TargetError(f"{target} can not be written: {error.strerror}") from None
