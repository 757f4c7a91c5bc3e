"""The files of a commit of a git repository, by the `git` on PATH."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

__all__ = ["check_out"]

_POLL = 0.1
_SETTINGS = ("core.autocrlf=false", "core.symlinks=true", "advice.detachedHead=false", "protocol.ext.allow=never")
"""Whatever the user's own settings are: the files must be the same everywhere."""


def check_out(url: str, rev: str, folder: Path, check: Callable[[], None]) -> Path:
    """Check a revision out, alone if the server gives it so; the folder with its files, without `.git`.

    Parameters
    ----------
    folder
        Where to work.
    check
        Raises where the work is to end.

    Raises
    ------
    OSError
        In git's words, if it fails or there is no git.
    """
    tree = folder / "tree"
    _git(["init", "--quiet", "--template=", str(tree)], folder, check)
    try:
        _git(["fetch", "--quiet", "--depth=1", "--no-tags", "--", url, rev], tree, check)
        found = "FETCH_HEAD"
    except OSError as alone:
        # Some servers give no commit by its hash, and none gives a short one: then all of them come.
        everything = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        _git(["fetch", "--quiet", "--no-tags", "--update-head-ok", "--", url, *everything], tree, check)
        found = f"{rev}^{{commit}}"
        try:
            _git(["rev-parse", "--quiet", "--verify", "--end-of-options", found], tree, check)
        except OSError:
            raise alone from None
    _git(["-c", "filter.lfs.required=false", "checkout", "--quiet", "--force", "--detach", found], tree, check)
    shutil.rmtree(tree / ".git")
    return tree


def _git(arguments: list[str], folder: Path, check: Callable[[], None]) -> None:
    """Run git, to be ended when `check` raises.

    Raises
    ------
    OSError
        With the last line that git said.
    """
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    environ = {name: value for name, value in os.environ.items() if name not in _REPOSITORY}
    environ |= {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C"}
    environ.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    said = folder / ".said" if not (folder / ".git").is_dir() else folder / ".git" / "said"
    with said.open("w+b") as output:
        try:
            process = subprocess.Popen(
                ["git", *settings, *arguments],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise OSError("there is no git on PATH") from None
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(_POLL)
                    break
                check()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if status:
            output.seek(0)
            lines = output.read().decode(errors="replace").split("\n")
            told = [line for line in lines if line.startswith(("fatal:", "error:"))] or [one for one in lines if one]
            raise OSError(told[-1] if told else f"git {arguments[0]} ended with status {status}")


_REPOSITORY = frozenset(
    f"GIT_{name}"
    for name in (
        *("DIR", "WORK_TREE", "INDEX_FILE", "OBJECT_DIRECTORY", "ALTERNATE_OBJECT_DIRECTORIES", "COMMON_DIR"),
        *("NAMESPACE", "PREFIX", "CONFIG_PARAMETERS", "CONFIG_COUNT"),
    )
)
"""What a git hook's environment says of another repository."""
