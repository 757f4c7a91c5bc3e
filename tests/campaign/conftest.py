"""What may go wrong, in bulk: a sample in the normal run, everything with NIXBRIDGE_CAMPAIGN=1 (`make campaign`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.store.layout import Store, open_store
from bridge.store.objects import remove_tree


@pytest.fixture
def whole() -> bool:
    """Whether this is the campaign and not the sample."""
    return os.environ.get("NIXBRIDGE_CAMPAIGN") == "1"


@pytest.fixture
def figure(whole: bool, request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Prints a line of the campaign's figures."""

    def show(line: str) -> None:
        if whole:
            with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
                print(f"\n{line}")

    return show


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store")
    yield found
    remove_tree(found.root)
