from __future__ import annotations

from pathlib import Path

import pytest

from bridge.store.errors import StoreError
from bridge.store.layout import Store, locate, open_store

HOME = {"HOME": "/home/me", "XDG_DATA_HOME": "/data"}


def project(tmp_path: Path, text: str | bytes) -> Path:
    (tmp_path / "pyproject.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    inner = tmp_path / "src" / "deep"
    inner.mkdir(parents=True)
    return inner


def test_the_option_goes_before_everything(tmp_path: Path) -> None:
    inner = project(tmp_path, '[tool.nixbridge]\nstore = "here"\n')
    assert locate("/option", {**HOME, "NIXBRIDGE_STORE": "/variable"}, inner) == Path("/option")


def test_the_variable_goes_before_the_project(tmp_path: Path) -> None:
    inner = project(tmp_path, '[tool.nixbridge]\nstore = "here"\n')
    assert locate(None, {**HOME, "NIXBRIDGE_STORE": "/variable"}, inner) == Path("/variable")


@pytest.mark.parametrize(("written", "found"), [("here", "{project}/here"), ("/abs/olute", "/abs/olute")])
def test_the_project_names_a_store_relative_to_its_pyproject(tmp_path: Path, written: str, found: str) -> None:
    inner = project(tmp_path, f'[tool.nixbridge]\nstore = "{written}"\n')
    assert locate(None, HOME, inner) == Path(found.format(project=tmp_path))


@pytest.mark.parametrize("text", ["", "[tool]\nnixbridge = 3\n", "tool = 1\n", "[tool.other]\nstore = 'x'\n"])
def test_a_project_that_says_nothing_leaves_the_user_s_store(tmp_path: Path, text: str) -> None:
    assert locate(None, HOME, project(tmp_path, text)) == Path("/data/nixbridge")


def test_without_a_data_folder_the_store_is_below_the_home(tmp_path: Path) -> None:
    inner = project(tmp_path, "")
    assert locate(None, {"HOME": "/home/me"}, inner) == Path("/home/me/.local/share/nixbridge")
    assert locate(None, {"HOME": "/home/me", "NIXBRIDGE_STORE": ""}, inner) == Path("/home/me/.local/share/nixbridge")


def test_an_option_without_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the path of the store is empty"):
        locate("", HOME, tmp_path)


@pytest.mark.parametrize("text", ["[tool.nixbridge\n", "[tool.nixbridge]\nstore = 3\n", b"\xff\xfe = 1"])
def test_a_project_that_can_not_be_read_is_refused_with_its_file(tmp_path: Path, text: str | bytes) -> None:
    inner = project(tmp_path, text)
    with pytest.raises(StoreError) as caught:
        locate(None, HOME, inner)
    assert caught.value.file == str(tmp_path / "pyproject.toml")


def test_a_store_is_made_where_there_is_none_and_opened_again(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    store = open_store(tmp_path / "link" / "a" / "b")
    assert store.root == tmp_path / "real" / "a" / "b"
    names = {"store", "info", "trace", "roots", "logs", "tmp", "locks", "checkpoints"}
    assert {path.name for path in store.root.iterdir()} == names
    assert open_store(store.root) == store


def test_a_store_that_was_made_by_half_is_completed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = open_store(tmp_path)
    assert store.locks.is_dir()
    assert store.tmp.is_dir()


def test_a_store_where_a_file_is_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can not be made") as caught:
        open_store(tmp_path / "file" / "store")
    assert "--store" in (caught.value.hint or "")


def test_an_object_is_valid_only_with_its_bytes_and_its_info(store: Store) -> None:
    path = "/nix/store/" + "0" * 32 + "-x"
    assert not store.is_valid(path)
    store.real_path(path).write_text("")
    assert not store.is_valid(path)
    store.info_file(path).write_text("")
    assert store.is_valid(path)
    store.real_path(path).unlink()
    assert not store.is_valid(path)
