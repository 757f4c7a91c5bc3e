"""Nix's base 32."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats import nix32
from bridge.formats.errors import Nix32Error


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"\x00", "00"),
        (b"\x1f", "0z"),
        (b"\xff", "7z"),
        (b"\x00\x01", "0080"),
        (hashlib.sha256(b"").digest(), "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73"),
        (bytes.fromhex("a9993e364706816aba3e25717850c26c9cd0d89d"), "kpcd173cq987hw957sx6m0868wv3x6d9"),
        (
            hashlib.sha512(b"abc").digest(),
            "2gs8k559z4rlahfx0y688s49m2vvszylcikrfinm30ly9rak69236nkam5ydvly1ai7xac99vxfc4ii84hawjbk876blyk1jfhkbbyx",
        ),
    ],
)
def test_known_values(data: bytes, text: str) -> None:
    assert nix32.encode(data) == text
    assert nix32.decode(text) == data


@given(st.binary(max_size=100))
def test_decoding_gives_back_what_was_encoded(data: bytes) -> None:
    text = nix32.encode(data)
    assert len(text) == nix32.encoded_length(len(data))
    assert set(text) <= set(nix32.ALPHABET)
    assert nix32.decode(text) == data


@given(st.text(nix32.ALPHABET, max_size=60))
def test_a_text_decodes_to_bytes_that_encode_to_it_or_not_at_all(text: str) -> None:
    try:
        data = nix32.decode(text)
    except Nix32Error:
        return
    assert nix32.encode(data) == text


@given(st.one_of(st.text(max_size=60), st.text(nix32.ALPHABET + "eotuA", max_size=60)))
def test_arbitrary_text_is_decoded_or_refused(text: str) -> None:
    try:
        nix32.decode(text)
    except Nix32Error as error:
        assert text in str(error) or repr(text) in str(error)  # noqa: PT017


def test_the_alphabet_has_no_e_o_t_u() -> None:
    assert len(set(nix32.ALPHABET)) == 32
    assert not set("eotu") & set(nix32.ALPHABET)


@pytest.mark.parametrize("char", ["e", "o", "t", "u", "A", "-", " ", "\n", "ß", "٣"])
def test_a_character_outside_the_alphabet_is_named_with_its_position(char: str) -> None:
    with pytest.raises(Nix32Error, match="position 3 of") as caught:
        nix32.decode("000" + char + "0000")
    assert repr(char) in str(caught.value)


@pytest.mark.parametrize("length", [1, 3, 6, 9, 11, 51])
def test_a_length_that_no_bytes_give_is_refused(length: int) -> None:
    with pytest.raises(Nix32Error, match="which no number of bytes gives"):
        nix32.decode("0" * length)


@pytest.mark.parametrize("text", ["80", "zz", "zzzz", "2" + "0" * 51, "z" * 52])
def test_bits_that_do_not_fit_are_refused(text: str) -> None:
    with pytest.raises(Nix32Error, match="first digit is too large"):
        nix32.decode(text)
