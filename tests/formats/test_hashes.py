"""Hashes in all of Nix's spellings."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.errors import HashError
from bridge.formats.hashes import ALGORITHMS, Hash, fold

from .strategies import hashes

EMPTY = Hash.of(b"")


@pytest.mark.parametrize(
    "text",
    [
        "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "sha256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
    ],
)
def test_the_sha256_of_nothing_in_every_spelling(text: str) -> None:
    assert Hash.parse(text) == EMPTY
    assert Hash.parse(text, "sha256") == EMPTY


def test_its_spellings_are_those_of_nix() -> None:
    assert EMPTY.hex == hashlib.sha256(b"").hexdigest()
    assert EMPTY.nix32 == "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"
    assert EMPTY.sri == str(EMPTY) == "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@given(hashes)
def test_every_spelling_reads_back(hash: Hash) -> None:
    name = hash.algorithm
    for text in (hash.sri, f"{name}:{hash.hex}", f"{name}:{hash.nix32}", f"{name}:{hash.base64}"):
        assert Hash.parse(text) == Hash.parse(text, name) == hash
    for text in (hash.hex, hash.nix32, hash.base64):
        assert Hash.parse(text, name) == hash


@given(
    st.one_of(st.text(max_size=70), st.text("0123456789abcdfz+/=:-", max_size=140)),
    st.sampled_from([None, *ALGORITHMS]),
)
def test_arbitrary_text_is_a_hash_or_refused(text: str, algorithm: str | None) -> None:
    for candidate in (text, f"sha256:{text}", f"sha1-{text}"):
        try:
            found = Hash.parse(candidate, algorithm)
        except HashError:
            continue
        assert len(found.digest) == ALGORITHMS[found.algorithm]


def test_capital_hex_is_read() -> None:
    assert Hash.parse("sha256:" + EMPTY.hex.upper()) == EMPTY


def test_sri_may_lack_its_padding_as_in_nix() -> None:
    assert Hash.parse(EMPTY.sri.rstrip("=")) == EMPTY
    sha512 = Hash.of(b"", "sha512")
    assert Hash.parse(sha512.sri.rstrip("=")) == Hash.parse(sha512.sri[:-1]) == sha512


@pytest.mark.parametrize(
    ("text", "algorithm", "message"),
    [
        (EMPTY.hex, None, "does not say its algorithm"),
        ("", None, "does not say its algorithm"),
        ("sha3-" + EMPTY.base64, None, "does not say its algorithm"),
        (EMPTY.hex, "sha3", "unknown hash algorithm 'sha3'"),
        (EMPTY.sri, "sha512", "is a sha256 hash where sha512 is asked for"),
        ("sha256:", None, "wrong length"),
        ("sha256:" + EMPTY.hex[1:], None, "wrong length"),
        ("sha256:" + EMPTY.hex + "0", None, "wrong length"),
        ("sha1:" + EMPTY.hex, None, "wrong length"),
        ("sha256:" + "g" * 64, None, "no sha256 digest"),
        ("sha256:" + "é" * 64, None, "no sha256 digest"),
        ("sha256:" + "e" * 52, None, "no sha256 digest"),
        ("sha256:" + "z" * 52, None, "no sha256 digest"),
        ("sha256:" + "*" * 44, None, "no sha256 digest"),
        ("sha256:" + " " * 64, None, "32 bytes"),
        # The SRI form is base 64 only.
        ("sha256-" + EMPTY.hex, None, "wrong length"),
        ("sha256-" + EMPTY.nix32, None, "wrong length"),
        (EMPTY.sri + "=", None, "wrong length"),
        (EMPTY.sri[:-2], None, "no sha256 digest|wrong length|has 32 bytes"),
        (EMPTY.base64.rstrip("="), "sha256", "wrong length"),
    ],
)
def test_what_is_no_hash_is_refused(text: str, algorithm: str | None, message: str) -> None:
    with pytest.raises(HashError, match=message):
        Hash.parse(text, algorithm)


def test_a_digest_of_the_wrong_size_is_no_hash() -> None:
    with pytest.raises(HashError, match="a sha1 digest has 20 bytes, this one 19"):
        Hash("sha1", bytes(19))


@pytest.mark.parametrize("algorithm", ["sha3", "SHA256", "", "blake2b"])
def test_an_algorithm_that_nix_does_not_know_is_refused(algorithm: str) -> None:
    with pytest.raises(HashError, match="unknown hash algorithm"):
        Hash(algorithm, bytes(32))
    with pytest.raises(HashError, match="unknown hash algorithm"):
        Hash.of(b"", algorithm)


@given(st.binary(max_size=64), st.integers(1, 40))
def test_folding_xors_each_byte_onto_its_position(digest: bytes, size: int) -> None:
    folded = fold(digest, size)
    assert len(folded) == size
    for position in range(size):
        expected = 0
        for byte in digest[position::size]:
            expected ^= byte
        assert folded[position] == expected
