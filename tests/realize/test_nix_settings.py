"""What is handed on to Nix's builds, and which Nix is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bridge.lock.evaluating import instantiate
from bridge.nix.errors import NixError
from bridge.nix.installation import Installation
from bridge.store.layout import Store, open_store

from .running import load, run

pytestmark = pytest.mark.nix

STAGE = """
cores = shell('echo "$NIX_BUILD_CORES" > "$out/cores"', tools=[host("busybox")], builder="nix")
"""


@pytest.mark.parametrize("kind", ["nix", "daemon"])
def test_settings_reach_the_build(kind: str, request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> None:
    nix: Installation = request.getfixturevalue(kind)
    found = run(store, load(tmp_path, STAGE).cores, nix=nix, nix_options={"cores": "7", "max-jobs": "1"})
    assert (found.path("cores") / "cores").read_text() == "7\n"


def test_no_local_job_and_no_remote_builder_builds_nothing(nix: Installation, store: Store, tmp_path: Path) -> None:
    found = run(store, load(tmp_path, STAGE).cores, nix=nix, nix_options={"max-jobs": "0", "builders": ""})
    assert found.error is not None


def test_a_nix_with_another_store_folder_is_refused_before_anything(
    nix: Installation, store: Store, tmp_path: Path
) -> None:
    other = replace(nix, environ={**nix.environ, "NIX_STORE_DIR": "/srv/store"})
    with pytest.raises(NixError, match="has its store at /srv/store"):
        run(store, load(tmp_path, STAGE).cores, nix=other)
    assert list(store.objects.iterdir()) == []


def test_a_nix_with_another_store_folder_evaluates_nothing(nix: Installation, scratch: Path, tmp_path: Path) -> None:
    other = replace(nix, environ={**nix.environ, "NIX_STORE_DIR": "/srv/store"})
    tool = load(tmp_path, """tool = nix(expr='throw "evaluated"')""").tool
    with pytest.raises(NixError, match="has its store at /srv/store"):
        instantiate([tool], nix=other, store=open_store(scratch / "store"))
