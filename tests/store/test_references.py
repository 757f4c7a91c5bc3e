from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.nix32 import ALPHABET
from bridge.store.references import Scanner

digests = st.text(ALPHABET, min_size=32, max_size=32)


def found(candidates: list[str], data: bytes, cuts: list[int]) -> set[str]:
    scanner = Scanner(candidates)
    borders = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(borders):
        scanner.feed(data[start:end])
    return scanner.found


@given(st.lists(digests, max_size=8, unique=True), st.data())
def test_what_is_found_does_not_depend_on_the_borders_of_chunks(candidates: list[str], data: st.DataObject) -> None:
    pieces = st.one_of(st.binary(max_size=40), st.text(ALPHABET, max_size=40).map(str.encode))
    if candidates:
        pieces = st.one_of(pieces, st.sampled_from(candidates).map(str.encode))
    text = b"".join(data.draw(st.lists(pieces, max_size=12)))
    cuts = data.draw(st.lists(st.integers(0, 10**6), max_size=60))
    assert found(candidates, text, cuts) == {one for one in candidates if one.encode() in text}


@pytest.mark.parametrize("many", [1, 3, 4, 3000])
def test_each_border_through_a_digest_is_bridged(many: int) -> None:
    rng = random.Random(many)
    candidates = ["".join(rng.choices(ALPHABET, k=32)) for _ in range(many)]
    wanted = candidates[0]
    data = b"\0" * 50 + wanted.encode() + b"\0" * 50
    for cut in range(45, 90):
        assert found(candidates, data, [cut]) == {wanted}
    assert found(candidates, data, list(range(len(data)))) == {wanted}


def test_a_digest_inside_a_longer_run_of_digits_is_found() -> None:
    wanted = "0123456789abcdfghijklmnpqrsvwxyz"
    candidates = [wanted, *(digit * 32 for digit in "abcd")]
    assert found(candidates, b"zz" + wanted.encode() + b"zz", []) == {wanted}


def test_letters_that_are_no_digits_and_part_of_a_digest_are_nothing() -> None:
    assert found(["a" * 32], b"a" * 31 + b"e" + b"a" * 31, []) == set()
    assert found([], b"a" * 64, []) == set()
