"""Flakes in folders of this machine, which are not locked: their files are what counts.

Of a Git repository Nix sees what Git tracks, as it is in the folder now; of any other folder everything.

Source: Nix manual, "Flake references", "Path-like syntax" (`command-ref/new-cli/nix3-flake`).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from bridge.formats import nar
from bridge.formats.hashes import Hash
from bridge.nix.errors import NixEvaluationError
from bridge.nix.installation import Installation

from .flakes import flake_metadata, with_query

__all__ = ["contents", "folder_url", "is_folder", "untracked"]


def is_folder(reference: str) -> bool:
    """Whether a reference means a folder of this machine."""
    return reference.startswith(("/", "path:/")) and "narHash=" not in reference


def contents(folder: Path) -> str:
    """A hash of all that Nix sees of the folder's flake.

    Raises
    ------
    NixEvaluationError
        If there is no flake.
    """
    digest = hashlib.sha256()
    root = _git_root(folder)
    if root is not None:
        # The index has a hash of each tracked file; the rest is what has changed since it was added.
        index, changes = _git(root, "ls-files", "-s"), _git(root, "diff", "--binary", "--no-ext-diff")
        if index is not None and changes is not None:
            digest.update(b"%d %s %s" % (len(index), index, changes))
            digest.update(os.fsencode(folder))
            return digest.hexdigest()
    if not (folder / "flake.nix").is_file():
        raise NixEvaluationError(f"there is no flake in {folder}", hint="a flake has a file flake.nix")
    for chunk in nar.pack_chunks(folder):
        digest.update(chunk)
    return digest.hexdigest()


def folder_url(nix: Installation, folder: Path) -> str:
    """The locked URL of the folder's flake as it is now, which Nix copies to its store.

    Raises
    ------
    NixEvaluationError
        If Nix can not copy it.
    """
    root = _git_root(folder)
    below = "" if root is None else str(folder.resolve().relative_to(root))
    query = {} if below in ("", ".") else {"dir": below}
    reference = f"path:{folder}" if root is None else with_query(f"git+file://{root}", query)
    found = flake_metadata(nix, reference)
    digest = hashlib.sha256()
    for chunk in nar.pack_chunks(nix.real_path(found["path"])):
        digest.update(chunk)
    locked = {"narHash": Hash("sha256", digest.digest()).sri, "lastModified": found.get("lastModified", 1)}
    return with_query(f"path:{found['path']}", {**locked, **query})


def untracked(folder: Path) -> list[str]:
    """The files in the folder's repository that Nix does not see, since Git does not track them."""
    root = _git_root(folder)
    listed = None if root is None else _git(root, "ls-files", "--others", "--exclude-standard")
    return [] if listed is None else listed.decode(errors="replace").splitlines()


def _git(folder: Path, *command: str) -> bytes | None:
    """What a command of Git prints, or None if it fails or there is no Git."""
    try:
        done = subprocess.run(["git", "-C", folder, *command], capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _git_root(folder: Path) -> Path | None:
    """The repository that a folder is in, as Nix looks for it."""
    resolved = folder.resolve()
    return next((one for one in (resolved, *resolved.parents) if (one / ".git").exists()), None)
