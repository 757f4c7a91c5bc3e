"""Flakes in folders of this machine, which are not locked: their files are what counts.

Of a Git repository Nix sees what Git tracks, as it is in the folder now; of any other folder, and behind `path:`,
everything.

    /x, ./x, . or nothing      in a Git repository, the flake of the folder there
    path:/x, path:./x          the folder as it is
    …?dir=y                    the flake of its folder y

Source: Nix manual, "Flake references", "Path-like syntax" (`command-ref/new-cli/nix3-flake`).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from bridge.formats import nar
from bridge.formats.hashes import Hash
from bridge.nix.errors import NixEvaluationError
from bridge.nix.evaluate import nix_value
from bridge.nix.installation import Installation

from .flakes import flake_metadata, with_query

__all__ = ["Folder", "contents", "folder_named", "folder_url", "untracked"]

_DIR_IN_PATHS = (2, 26, 0)
"""Since when, for sure, Nix takes `dir` in the URL of a path; 2.8 does not."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that has a flake.

    Parameters
    ----------
    path
        What the flake sees.
    below
        Where in it the flake is.
    as_it_is
        Whether all files are seen, also those that Git does not track.
    """

    path: Path
    below: str = ""
    as_it_is: bool = False

    @property
    def flake(self) -> Path:
        """The folder of its flake.nix."""
        return self.path / self.below

    def lock(self) -> bytes | None:
        """What its flake.lock holds, if there is one."""
        try:
            return (self.flake / "flake.lock").read_bytes()
        except OSError:
            return None

    @property
    def repository(self) -> Path | None:
        """The Git repository of which tracked files are seen, as Nix looks for it."""
        if self.as_it_is:
            return None
        resolved = self.path.resolve()
        return next((one for one in (resolved, *resolved.parents) if (one / ".git").exists()), None)


def folder_named(reference: str, beside: Path) -> Folder | None:
    """The folder of this machine that a reference means; None for any other flake.

    Parameters
    ----------
    beside
        What relative paths are relative to.

    Raises
    ------
    NixEvaluationError
        For a parameter that folders do not have.
    """
    place, _, query = reference.partition("?")
    is_url = place.startswith("path:")
    if "narHash=" in query or not (is_url or not place or place.startswith(("/", "."))):
        return None
    parameters = dict(parse_qsl(query))
    below = parameters.pop("dir", "")
    if parameters:
        raise NixEvaluationError(f"{reference}: a folder has no parameter {', '.join(parameters)}", hint="it has dir")
    path = beside / (unquote(place.removeprefix("path:")) if is_url else place)
    return Folder(Path(os.path.normpath(path)), below.strip("/"), is_url)


def contents(folder: Folder) -> str:
    """A hash of all that Nix sees of the folder's flake.

    Raises
    ------
    NixEvaluationError
        If there is no flake.
    """
    if not (folder.flake / "flake.nix").is_file():
        raise NixEvaluationError(f"there is no flake in {folder.flake}", hint="a flake has a file flake.nix")
    digest = hashlib.sha256(os.fsencode(folder.flake))
    root = folder.repository
    if root is not None:
        # The index has a hash of each tracked file; the rest is what has changed since it was added.
        index, changes = _git(root, "ls-files", "-s"), _git(root, "diff", "--binary", "--no-ext-diff", "--no-textconv")
        if index is not None and changes is not None:
            digest.update(b"%d %s %s" % (len(index), index, changes))
            return digest.hexdigest()
    for chunk in nar.pack_chunks(folder.path):
        digest.update(chunk)
    return digest.hexdigest()


def folder_url(nix: Installation, folder: Folder) -> str:
    """The locked URL of the folder's flake as it is now, which Nix copies to its store.

    Where the flake has inputs that its flake.lock does not have, Nix writes them there.

    Raises
    ------
    NixEvaluationError
        If Nix can not copy it.
    """
    root = folder.repository
    below = folder.below if root is None else str(folder.flake.resolve().relative_to(root))
    query = {} if below in ("", ".") else {"dir": below}
    reference = with_query(f"path:{folder.path}" if root is None else f"git+file://{root}", query)
    before = folder.lock()
    found = flake_metadata(nix, reference)
    if folder.lock() != before:
        # Nix 2.34 copies the folder before it writes the lock file.
        found = flake_metadata(nix, reference)
    digest = hashlib.sha256()
    for chunk in nar.pack_chunks(nix.real_path(found["path"])):
        digest.update(chunk)
    path, nar_hash, last_modified = found["path"], Hash("sha256", digest.digest()).sri, found.get("lastModified", 1)
    if query and nix.version() < _DIR_IN_PATHS:
        return _wrapped(nix, path, nar_hash, last_modified, below)
    return with_query(f"path:{path}", {"narHash": nar_hash, "lastModified": last_modified, **query})


def _wrapped(nix: Installation, path: str, nar_hash: str, last_modified: int, below: str) -> str:
    """The locked URL of a flake that is no more than the one in a folder of a store object."""
    texts = {"type": "path", "path": path, "narHash": nar_hash, "dir": below}
    attributes = " ".join(f"{name} = {nix_value(value)};" for name, value in texts.items())
    source = f"{{ {attributes} lastModified = {last_modified}; }}"
    with tempfile.TemporaryDirectory() as place:
        Path(place, "flake.nix").write_text(f"{{ inputs.it = {source}; outputs = inputs: inputs.it; }}\n")
        return folder_url(nix, Folder(Path(place), as_it_is=True))


def untracked(folder: Folder) -> list[str]:
    """The files in the folder's repository that Nix does not see, since Git does not track them."""
    root = folder.repository
    listed = None if root is None else _git(root, "ls-files", "--others", "--exclude-standard")
    return [] if listed is None else listed.decode(errors="replace").splitlines()


def _git(folder: Path, *command: str) -> bytes | None:
    """What a command of Git prints, or None if it fails or there is no Git."""
    try:
        done = subprocess.run(["git", "-C", folder, *command], capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
