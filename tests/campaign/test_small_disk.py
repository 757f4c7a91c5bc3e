"""Real file systems that are too small, in bytes or in files, and then grow."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.formats.errors import BridgeError
from bridge.stages.load import load_module
from bridge.store.holds import release
from bridge.store.layout import open_store
from bridge.store.verify import verify
from tests.realize.running import assert_clean, run

from .test_points import plan

LIMITS = {"size": ("k", range(16, 560, 8)), "nr_inodes": ("", range(12, 150, 3))}
SAMPLE = 29


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    yield folder
    if os.path.ismount(folder):
        release()
        subprocess.run(["umount", folder], check=True)


def mount(folder: Path, options: str) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a tmpfs")
    command = ["mount", "-t", "tmpfs", "-o", options, "none", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here")


@pytest.mark.parametrize("limit", LIMITS)
def test_a_disk_that_is_too_small_gives_errors_and_its_room_back(
    tmp_path: Path,
    disk: Path,
    limit: str,
    whole: bool,
    capfd: pytest.CaptureFixture[str],
    figure: Callable[[str], None],
) -> None:
    module = load_module(str(plan(tmp_path)))
    unit, amounts = LIMITS[limit]
    refused = 0
    for amount in amounts[:: 1 if whole else SAMPLE]:
        mount(disk, f"{limit}={amount}{unit}")
        try:
            done = run(open_store(disk / "store"), module.report, module.shaky, keep_going=True)
            said = [str(one) for one in done.error.failures] if done.error is not None else []
        except BridgeError as error:
            said = [str(error)]
        # A stage that could not write is told apart by its own words only.
        assert all(os.strerror(errno.ENOSPC) in one or "the builder of the stage" in one for one in said), said
        refused += bool(said)
        assert capfd.readouterr() == ("", "")
        subprocess.run(["mount", "-o", f"remount,{limit}=0", disk], check=True)
        store = open_store(disk / "store")
        assert_clean(store)
        assert verify(store).rubbish == []
        assert run(store, module.report, module.shaky).outcome is not None
        assert_clean(store)
        release()
        subprocess.run(["umount", disk], check=True)
    assert refused >= (20 if whole else 1)
    figure(f"tmpfs with too small {limit}: {refused} of {len(amounts)} sizes were too small")
