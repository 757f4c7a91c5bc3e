from __future__ import annotations

import json

import pytest

from bridge.formats.hashes import Hash
from bridge.store.errors import InvalidObjectError, RecordError
from bridge.store.info import ObjectInfo, find_info, parse_info, read_info
from bridge.store.layout import Store


def path(digit: str, name: str = "x") -> str:
    return f"/nix/store/{digit * 32}-{name}"


GOOD = ObjectInfo(path("0"), Hash.of(b""), 120, (path("0"), path("1")), "text:sha256:" + "0" * 52)


def test_an_info_file_has_the_keys_of_nix_path_info_and_reads_back() -> None:
    assert set(json.loads(GOOD.to_bytes())) == {"ca", "narHash", "narSize", "path", "references"}
    assert parse_info(GOOD.to_bytes(), "it") == GOOD


BAD: list[object] = [
    None,
    [],
    3,
    {},
    GOOD.to_json() | {"path": "/tmp/x"},
    GOOD.to_json() | {"path": 4},
    GOOD.to_json() | {"narHash": "sha256-short"},
    GOOD.to_json() | {"narHash": None},
    GOOD.to_json() | {"narSize": "12"},
    GOOD.to_json() | {"references": ["x"]},
    GOOD.to_json() | {"references": [None]},
    GOOD.to_json() | {"references": 5},
    GOOD.to_json() | {"ca": 5},
    GOOD.to_json() | {"ca": "garbage"},
    GOOD.to_json() | {"ca": "fixed:r:crc32:000"},
    {key: value for key, value in GOOD.to_json().items() if key != "ca"},
]


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\xff", b"{", *(json.dumps(value).encode() for value in BAD)])
def test_a_damaged_info_file_is_refused_by_its_name(data: bytes) -> None:
    with pytest.raises(RecordError, match="the info is damaged") as caught:
        parse_info(data, "the info")
    assert caught.value.hint == "run nixbridge verify"


def test_what_is_not_registered_is_not_in_the_store(store: Store) -> None:
    assert find_info(store, path("0")) is None
    with pytest.raises(InvalidObjectError, match="is not in the store"):
        read_info(store, path("0"))
