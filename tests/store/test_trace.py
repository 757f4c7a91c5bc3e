from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bridge.store.errors import RecordError
from bridge.store.layout import Store
from bridge.store.trace import Realization, is_genuine, read_realization, realizations, record, resolved_derivations

DRV = "/nix/store/" + "1" * 32 + "-train.drv"
OUT = "/nix/store/" + "2" * 32 + "-train"
ONE = Realization(
    DRV, {"out": OUT}, "train", DRV, "python", 10.5, 12.0, {"loss": 0.25, "name": "ü"}, {"python": "3"}, 2, 77, "a.log"
)


def test_a_record_reads_back_as_it_was(store: Store) -> None:
    made = record(store, ONE)
    assert realizations(store, DRV) == [made]
    assert made == replace(ONE, id=made.id)
    assert len(made.id) == 16
    assert resolved_derivations(store) == [DRV]


def test_the_id_is_of_the_contents(store: Store) -> None:
    made = record(store, ONE)
    (file,) = (store.trace / DRV[11:]).iterdir()
    assert file.stem == made.id
    assert is_genuine(file.read_bytes(), made.id)
    assert not is_genuine(file.read_bytes() + b" ", made.id)


def test_every_run_is_a_record_of_its_own_oldest_first(store: Store) -> None:
    for started in (3.0, 1.0, 2.0):
        record(store, replace(ONE, started=started))
    assert [one.started for one in realizations(store, DRV)] == [1.0, 2.0, 3.0]


def test_the_same_record_twice_is_one(store: Store) -> None:
    assert record(store, ONE) == record(store, ONE)
    assert len(realizations(store, DRV)) == 1


def test_nothing_is_known_of_a_derivation_that_never_ran(store: Store) -> None:
    assert realizations(store, DRV) == []
    assert resolved_derivations(store) == []


BAD: list[object] = [
    [],
    {},
    ONE.to_json() | {"drv": "train.drv"},
    ONE.to_json() | {"outputs": {"out": "/tmp/x"}},
    ONE.to_json() | {"outputs": [OUT]},
    ONE.to_json() | {"started": "soon"},
    {key: value for key, value in ONE.to_json().items() if key != "metrics"},
]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", *(json.dumps(value).encode() for value in BAD)])
def test_a_damaged_record_is_refused_by_its_name(data: bytes) -> None:
    with pytest.raises(RecordError, match="the record there is damaged"):
        read_realization(data, "id", "there")
