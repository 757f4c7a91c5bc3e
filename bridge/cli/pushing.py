"""`push-nix` and `push-cache`: chosen realizations into the Nix store, or into a binary cache."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args
from urllib.parse import unquote, urlsplit

import typer

from bridge.formats.store_path import base_name
from bridge.lock.cache import Compression
from bridge.lock.choose import labels_of
from bridge.lock.objects import Objects
from bridge.realize.places import Places
from bridge.stages.errors import TargetError
from bridge.store.durable import disk_errors
from bridge.store.trace import Realization

from .options import REFERENCE, JsonOption, SetOption, StoreOption
from .referring import ground_of, open_to_ask, refuse_unrealized, target_named
from .render import print_json, size
from .setting import find_nix, plan_of

if TYPE_CHECKING:
    from bridge.formats.signing import SecretKey
    from bridge.look.ground import Ground
    from bridge.store.layout import Store

__all__ = ["push_cache_command", "push_nix_command"]

_URL = re.compile(r"[A-Za-z][\w+.-]*://?")
Names = Annotated[list[str], typer.Argument(metavar="REF…", help=REFERENCE)]


def push_nix_command(
    names: Names, settings: SetOption = None, store: StoreOption = None, json: JsonOption = False
) -> None:
    """Add chosen realizations to the Nix store, under the same paths and with all they refer to.

    A link in the Python store's roots/ keeps them from Nix's garbage collector.

    nixbridge push-nix stages.py:train
    """
    from bridge.nix.installation import require
    from bridge.realize.nix_store import NixStore

    nix = require()
    opened, paths = _paths(names, settings or (), store)
    there = NixStore(opened, nix)
    done = []
    try:
        for path in paths:
            with there.connection() as connection:
                was_there = connection.is_valid_path(path)
                connection.add_temp_root(path)
                there.push(path)
                link = opened.roots / f"nix-{base_name(path)}"
                with disk_errors(f"the root {link} can not be made"), contextlib.suppress(FileExistsError):
                    os.symlink(path, link)
                connection.add_indirect_root(str(link))
            done.append({"path": path, "added": not was_there, "root": str(link)})
    finally:
        there.close()
    if json:
        print_json(done)
        return
    for one in done:
        print(one["path"])
        print("added to the Nix store" if one["added"] else "the Nix store has it already", file=sys.stderr)


def push_cache_command(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="The binary cache, a folder or its file:// URL; made if there is none.")
    ],
    names: Names,
    compress: Annotated[str, typer.Option(metavar="none|xz", help="How archives are compressed.")] = "xz",
    secret_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A secret key, to sign with; nixbridge key generate makes one.")
    ] = None,
    settings: SetOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write chosen realizations, with all they refer to, into a folder that is a Nix binary cache.

    nixbridge push-cache /srv/cache stages.py:train

    Of a whole file, all stages go in, as lock pins them.
    """
    from bridge.lock.cache import COMPRESSIONS, push

    if compress not in get_args(Compression):
        raise TargetError(f"there is no compression {compress!r}", hint=f"one of {', '.join(COMPRESSIONS)}")
    chosen: Compression = next(one for one in COMPRESSIONS if one == compress)
    key = _key(secret_key_file) if secret_key_file is not None else None
    place = _cache_folder(folder)
    opened, paths = _paths(names, settings or (), store, whole=True)
    done = []
    with Objects(Places(opened, find_nix())) as objects:
        for one in push(place, objects.closure(paths), objects.chunks, compression=chosen, key=key):
            info = one.narinfo
            done.append({"path": info.path, "added": not one.was_there, "url": info.url, "size": info.file_size})
            if not json:
                print(info.path)
                said = "already there" if one.was_there else size(info.file_size or 0)
                print(f"{info.url} ({said})", file=sys.stderr)
    if json:
        print_json(done)


def _cache_folder(text: str) -> Path:
    """The folder that is meant, also by its URL."""
    if _URL.match(text) is None:
        return Path(text)
    parts = urlsplit(text)
    if parts.scheme != "file" or parts.netloc or parts.query:
        raise TargetError(
            f"push-cache writes into a folder, and {text} is none",
            hint="push to a folder, and copy that with nix copy --from",
        )
    return Path(unquote(parts.path))


def _key(file: Path) -> SecretKey:
    from bridge.formats.signing import SecretKey

    try:
        return SecretKey.parse(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TargetError(f"the secret key {file} can not be read: {reason}") from error


def _paths(
    names: Sequence[str], settings: Sequence[str], store: str | None, *, whole: bool = False
) -> tuple[Store, list[str]]:
    """The store, and the output paths of targets and realizations, each once; `whole`: of a file, of all its stages."""
    opened = open_to_ask(store, names[0])
    ground = ground_of(opened)
    paths = (path for name in names for path in _outputs(ground, name, settings, store, whole=whole))
    return opened, list(dict.fromkeys(paths))


def _outputs(ground: Ground, name: str, settings: Sequence[str], store: str | None, *, whole: bool) -> Iterator[str]:
    from bridge.look.references import one_named

    target = target_named(ground, name)
    if target is None:
        yield from one_named(ground, name).outputs.values()
        return
    from bridge.realize.engine import Options, realize

    plan = plan_of(target.target, settings, store)
    outcome = realize(plan, ground.store, nix=ground.nix, options=Options(dry_run=True))
    nodes = plan.targets if target.stage is not None or not whole else [*labels_of(plan), *plan.targets]
    refuse_unrealized(nodes, outcome, target.target)
    for node in nodes:
        choice = outcome.choices[node]
        made: list[Realization] = [one.realization for one in choice.chosen]
        yield from (path for one in made for path in one.outputs.values())
        if not choice.resolved:
            yield node.path
