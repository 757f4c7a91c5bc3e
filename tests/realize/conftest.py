from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.store.holds import release
from bridge.store.layout import Store, open_store
from bridge.store.objects import remove_tree


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store")
    yield found
    remove_tree(found.root)


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Modules of stages are forgotten; no thread is left running."""
    modules, path, threads = dict(sys.modules), list(sys.path), set(threading.enumerate())
    yield
    sys.path[:] = path
    for name in set(sys.modules) - set(modules):
        if name.startswith("stages_"):
            del sys.modules[name]
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
        assert not thread.is_alive(), thread


@pytest.fixture
def small_store(tmp_path: Path) -> Iterator[Store]:
    """A store on a real file system of 512 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a tmpfs")
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")
    yield open_store(folder)
    release()
    subprocess.run(["umount", folder], check=True)
