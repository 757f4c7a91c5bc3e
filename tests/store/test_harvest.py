"""Records that are read together are those that are read one by one, and what is wrong is said of the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.store import bulk
from bridge.store.bulk import are_store_paths, parsed_together
from bridge.store.errors import RecordError
from bridge.store.harvest import FIELDS, read_columns
from bridge.store.layout import Store
from bridge.store.trace import Realization, read_file

FOLDER = "1" * 32 + "-train.drv"
DRV = f"/nix/store/{FOLDER}"
RIGHT = Realization(DRV, {"out": "/nix/store/" + "3" * 32 + "-train"}, "train", DRV, "python", 1.5, 2.0).to_json()

OBJECT = "/nix/store/" + "3" * 32
plain = [None, True, 0, -1, 1.0, 2, "", "x", "..", "a/b", "failed", "done", "nix", float("nan"), float("inf"), [], {}]
outputs = [{"out": "x"}, {"out": 1}, {"out": f"{OBJECT}-.-x"}, {"out": f"{OBJECT}-a\nb"}]
outputs += [{"out": f"{OBJECT}-a\n{OBJECT}-b"}]
errors = [{"file": None, "line": None, "message": "m", "reason": "r"}]
wrong = st.sampled_from([*plain, *outputs, *errors, "/nix/store/" + "e" * 32 + "-x"])
records = st.builds(
    lambda changes, gone: {name: value for name, value in {**RIGHT, **changes}.items() if name not in gone},
    st.dictionaries(st.sampled_from(sorted(RIGHT)), wrong, max_size=2),
    st.sets(st.sampled_from(sorted(RIGHT)), max_size=1) | st.just(set()),
)
files = st.one_of(
    st.just(RIGHT).map(json.dumps),
    records.map(json.dumps),
    st.sampled_from(["", "{", "1,2", "[1", "2]", "null", '{"a":1', '"b":2}', "\ufeff{}", "[" * 5000]),
).map(str.encode)


def read_alone(store: Store, ids: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    rows, bad = [], []
    for identity in ids:
        try:
            one = read_file(str(store.trace / FOLDER), identity)
        except RecordError as error:
            bad.append(error.message)
        else:
            assert one is not None
            rows.append({name: getattr(one, name) for name in FIELDS} | {"drv": DRV})
    return rows, bad


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(files, max_size=6), st.integers(1, 7))
def test_what_is_read_together_is_what_is_read_alone(store: Store, data: list[bytes], at_once: int) -> None:
    folder = store.trace / FOLDER
    folder.mkdir(exist_ok=True)
    ids = [f"{number:016}" for number in range(len(data))]
    for identity, text in zip(ids, data, strict=True):
        (folder / f"{identity}.json").write_bytes(text)
    said: dict[str, list[RecordError]] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bulk, "AT_ONCE", at_once)
        columns = read_columns(store, {FOLDER: [*ids, "gone"]}, said, lambda done, count: None)
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert (rows, [one.message for one in said.get(FOLDER, [])]) == read_alone(store, ids)


def test_a_record_that_is_a_folder_is_said_and_hides_no_other(store: Store) -> None:
    folder = store.trace / FOLDER
    (folder / "1.json").mkdir(parents=True)
    (folder / "2.json").write_text(json.dumps(RIGHT))
    said: dict[str, list[RecordError]] = {}
    assert read_columns(store, {FOLDER: ["1", "2"]}, said, lambda done, count: None)["id"] == ["2"]
    assert ["1.json" in one.message for one in said[FOLDER]] == [True]


def test_a_long_record_is_read_to_its_end(store: Store) -> None:
    folder = store.trace / FOLDER
    folder.mkdir()
    for length in (1 << 16, (1 << 17) + 5):
        text = json.dumps({**RIGHT, "metrics": {"long": ""}})
        text = text.replace('"long": ""', f'"long": "{"x" * (length - len(text))}"')
        assert len(text) == length
        (folder / "1.json").write_text(text)
        [metrics] = read_columns(store, {FOLDER: ["1"]}, {}, lambda done, count: None)["metrics"]
        assert metrics == json.loads(text)["metrics"]


@given(st.lists(st.sampled_from([b"{}", b"[1", b"2]", b"{},{}", b"", b"1,2,3", b'{"a":1', b'"b":2}', b" 7 "])))
def test_texts_are_values_one_for_each_or_refused(texts: list[bytes]) -> None:
    try:
        wanted = [json.loads(text) for text in texts]
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011
            parsed_together(texts)
    else:
        assert parsed_together(texts) == wanted


@pytest.mark.parametrize(
    ("path", "are"),
    [
        ("/nix/store/" + "0" * 32 + "-x", True),
        ("/nix/store/" + "0" * 32 + "-x\n", False),
        ("/nix/store/" + "0" * 32 + "-x\n/nix/store/" + "0" * 32 + "-y", False),
        ("/nix/store/" + "0" * 32 + "-.x", False),
        ("/nix/store/" + "e" * 32 + "-x", False),
        ("/nix/store/" + "0" * 32 + "-" + "x" * 212, False),
        ("x", False),
        ("", False),
    ],
)
def test_only_what_surely_is_one_is_a_store_path(path: str, are: bool) -> None:
    assert are_store_paths([path]) == are
    assert are_store_paths(["/nix/store/" + "1" * 32 + "-y", path]) == are
    assert are_store_paths([])
