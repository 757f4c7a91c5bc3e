"""`pack`, `unpack` and `copy`: results from one store to another."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer

from bridge.stages.errors import TargetError

from .completing import references
from .counting import counting
from .options import REFERENCE, JsonOption, SetOption, StoreOption
from .referring import ground_of, refuse_unrealized, target_named
from .render import counted, paint, print_json, size, table
from .setting import find_nix, open_located, plan_of
from .writing import scratch_beside

if TYPE_CHECKING:
    from bridge.store.layout import Store
    from bridge.store.packs import Contents, Unpacked
    from bridge.store.packs.contents import Elsewhere

__all__ = ["copy_command", "pack_command", "unpack_command"]

What = Annotated[
    list[str],
    typer.Argument(
        metavar="REF…",
        autocompletion=references,
        help=f"{REFERENCE} Of a stage or a derivation all its realizations.",
    ),
]
ChosenOption = Annotated[
    bool, typer.Option("--chosen", help="Of stages, only what is chosen; else all that there is to choose from.")
]


def pack_command(
    what: What,
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE|-", help="- is standard output.")],
    compress: Annotated[
        str, typer.Option(metavar="none|xz|zstd", help="How to compress it; zstd needs Python 3.14 or the extra zstd.")
    ] = "none",
    chosen: ChosenOption = False,
    settings: SetOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write one file with results and all that they were made from, for another store.

    nixbridge pack stages.py -o results.pack
    """
    from bridge.store.packs import write_pack
    from bridge.store.packs.compress import compressor

    if json and output == "-":
        raise TargetError("standard output is the pack, so that no JSON goes there", hint="write -o FILE with --json")
    compressor(compress)
    opened = open_located(store, what[0], create=False)
    with _elsewhere() as elsewhere:
        contents = _gathered(opened, what, settings, chosen, elsewhere)
    with _written(output) as file, _progress("packed", contents.size) as show:
        identity = write_pack(opened, contents, file.write, compression=compress, on_progress=show)
    counts = {"objects": len(contents.objects), "records": len(contents.records), "bytes": contents.size}
    stream = sys.stderr if output == "-" else sys.stdout
    for path in contents.missing:
        print(f"{paint('not packed:', 'yellow')} {path}: it is in no store", file=sys.stderr)
    if json:
        print_json({"file": output, "id": identity, **counts, "missing": list(contents.missing)})
    else:
        print(f"{output}: {_counted(contents)}; id {identity[:16]}", file=stream)


def unpack_command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A pack; - is standard input.")],
    list_: Annotated[bool, typer.Option("--list", help="Only say what is in it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what of it is new.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Take a pack into the store; run again, one that was interrupted goes on. Fails if the two disagree.

    nixbridge unpack results.pack
    """
    from bridge.store.packs import look_into, unpack

    with _read(file) as (stream, skip, length), _progress("unpacked", length) as show:
        if list_:
            found = look_into(stream, skip=skip)
        else:
            opened = open_located(store)
            found = unpack(opened, stream, skip=skip, dry_run=dry_run, elsewhere=_in_nix(), on_progress=show)
    if json:
        print_json(_json(found, listed=list_))
    elif list_:
        _print_list(found)
    else:
        _print_taken(found, dry_run)
    if found.differing:
        raise typer.Exit(1)


def copy_command(
    what: What,
    to: Annotated[
        str | None, typer.Option(metavar="DIR", help="The store that gets them; this one without it.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="DIR", help="The store that has them; this one without it.")
    ] = None,
    chosen: ChosenOption = False,
    settings: SetOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Copy results and all that they were made from between two stores: `pack` and `unpack` at once.

    nixbridge copy stages.py --to /shared/store
    """
    if (to is None) == (from_ is None):
        raise TargetError("copy goes from this store or to it", hint="write one of --to DIR and --from DIR")
    from bridge.store.packs import copy

    source = open_located(from_ or store, what[0], create=False)
    source = source.own if from_ else source
    with _elsewhere() as elsewhere:
        contents = _gathered(source, what, settings, chosen, elsewhere)
    # What only lies below it must be copied as well.
    target = open_located(to or store, what[0]).own
    with _progress("copied", contents.size) as show:
        found = copy(source, contents, target, elsewhere=_in_nix(), on_progress=show)
    if json:
        print_json(_json(found, listed=False))
    else:
        _print_taken(found, False)
    if found.differing:
        raise typer.Exit(1)


# -------------------------------------------------------------------------------------------- what


def _gathered(
    store: Store, what: Sequence[str], settings: Sequence[str] | None, chosen: bool, elsewhere: Elsewhere
) -> Contents:
    from bridge.look.references import named
    from bridge.store.packs import gather

    ground = ground_of(store)
    records, paths = [], []
    for one in what:
        target = target_named(ground, one)
        if target is not None:
            found, sources = _of_target(store, target.target, settings, chosen)
            records += found
            paths += sources
            continue
        reference = named(ground, one)
        if reference.object is not None:
            paths.append(reference.object)
        else:
            # Of many, those that are gone need not stand in the way of the others.
            there = [each for each in reference.entries if all(map(ground.find, each.outputs.values()))]
            records += [ground.record(each) for each in there or reference.entries]
    return gather(store, records, paths, elsewhere=elsewhere)


def _of_target(store: Store, target: str, settings: Sequence[str] | None, chosen: bool) -> tuple[list[Any], list[str]]:
    """The realizations of a target's stages, and those of its sources that are in the store."""
    from bridge.realize.engine import Options, realize

    plan = plan_of(target, settings, str(store.root))
    outcome = realize(plan, store, nix=find_nix(), options=Options(dry_run=True))
    refuse_unrealized(plan.targets, outcome, target)
    records = []
    for choice in outcome.choices.values():
        records += [one.realization for one in (choice.chosen if chosen else choice.candidates)]
    sources = [node.path for node in plan.nodes if node.source is not None and store.is_valid(node.path)]
    return records, sources


@contextlib.contextmanager
def _elsewhere() -> Iterator[Elsewhere]:
    """Finds objects in the Nix store, if there is one; it is connected to when it is first asked."""
    from bridge.nix.client import Connection, connect
    from bridge.nix.errors import NixError
    from bridge.store.info import ObjectInfo
    from bridge.store.packs.contents import Packed

    nix = find_nix()
    with contextlib.ExitStack() as stack:
        connection: Connection | None = None

        def find(path: str) -> Packed | None:
            nonlocal connection
            if nix is None or not os.path.lexists(nix.real_path(path)):
                return None
            try:
                if connection is None:
                    connection = connect(nix)
                    stack.callback(connection.close)
                known = connection.query_path_info(path)
            except NixError:
                return None
            if known is None:
                return None
            references = tuple(sorted(known.references))
            info = ObjectInfo(path, known.nar_hash, known.nar_size, references, known.ca)
            return Packed(info, nix.real_path(path))

        yield find


def _in_nix() -> Callable[[str], bool]:
    nix = find_nix()
    return lambda path: nix is not None and os.path.lexists(nix.real_path(path))


# ------------------------------------------------------------------------------------------- files


@contextlib.contextmanager
def _written(output: str) -> Iterator[IO[bytes]]:
    """The file to write to: there once it is whole, or not at all."""
    if output == "-":
        if sys.stdout.isatty():
            raise TargetError(
                "a pack is nothing for a terminal", hint="nixbridge pack … -o - | ssh HOST nixbridge unpack -"
            )
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(output)
    made = scratch_beside(target)
    try:
        with made.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        made.rename(target)
    except OSError as error:
        raise TargetError(f"{output} can not be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            made.unlink()


@contextlib.contextmanager
def _read(file: str) -> Iterator[tuple[IO[bytes], Callable[[int], object] | None, int]]:
    """A stream, what moves it on, and how long it is (0 where nobody knows)."""
    if file == "-":
        yield sys.stdin.buffer, None, 0
        return
    try:
        stream = open(file, "rb")  # noqa: SIM115
    except OSError as error:
        raise TargetError(f"{file} can not be read: {error.strerror}") from error
    with stream:
        skip = (lambda count: stream.seek(count, os.SEEK_CUR)) if stream.seekable() else None
        yield stream, skip, os.fstat(stream.fileno()).st_size


@contextlib.contextmanager
def _progress(verb: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows how many bytes are done."""
    with counting(verb, size) as count:
        yield lambda done: count(done, total)


# ---------------------------------------------------------------------------------------- printing


def _counted(contents: Contents) -> str:
    objects, records = counted(len(contents.objects), "object"), counted(len(contents.records), "record")
    return f"{objects} ({size(contents.size)}), {records}"


def _json(found: Unpacked, *, listed: bool) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "id": found.id,
        "objects": [one.to_json() for one in found.objects],
        "records": [{"id": one.id, **one.to_json()} for one in found.records],
    }
    if listed:
        return whole
    taken = {"newObjects": found.new_objects, "newRecords": found.new_records, "differing": found.differing}
    return cast(dict[str, Any], {"id": found.id, **taken})


def _print_list(found: Unpacked) -> None:
    if found.objects:
        rows = [[one.path, size(one.nar_size), str(len(one.references))] for one in found.objects]
        print(table(rows, ["object", "size", "references"]))
    if found.records:
        rows = [[one.id, one.stage, one.runner, ", ".join(one.outputs.values())] for one in found.records]
        print(table(rows, ["record", "stage", "by", "outputs"]))
    print(f"id {found.id}")


def _print_taken(found: Unpacked, dry_run: bool) -> None:
    for path in found.differing:
        print(f"{paint('differs:', 'red')} {path}: the store has other bytes there, and keeps them", file=sys.stderr)
    new, new_records = len(found.new_objects), len(found.new_records)
    would = "would add" if dry_run else "added"
    was = f"{counted(len(found.objects) - new, 'object')} and {counted(len(found.records) - new_records, 'record')}"
    print(f"{would} {counted(new, 'object')} and {counted(new_records, 'record')}; {was} had been there")
