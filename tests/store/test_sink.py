"""Hashing of what is written, also in memory that changes behind."""

from __future__ import annotations

import hashlib

import pytest

from bridge.store.references import Scanner
from bridge.store.sink import Sink

DIGEST = "0123456789abcdfghijklmnpqrsvwxyz"


@pytest.mark.parametrize("size", [1, 1000, 1 << 20, (1 << 20) + 1, 5 << 20])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_what_is_written_is_hashed_whatever_becomes_of_its_memory(size: int, count: int) -> None:
    sink, expected = Sink(Scanner(())), hashlib.sha256()
    memory = bytearray(size)
    for number in range(count):
        memory[:] = bytes([number]) * size
        expected.update(memory)
        sink.write(memoryview(memory))
    memory[:] = b"x" * size
    assert sink.finish().digest == expected.digest()
    assert sink.size == size * count


def test_memory_and_bytes_are_hashed_in_their_order() -> None:
    sink, expected = Sink(Scanner(())), hashlib.sha256()
    for number in range(60):
        chunk = bytes([number]) * (1 << 20 if number % 3 else 1000 * number)
        expected.update(chunk)
        sink.write(chunk if number % 2 else memoryview(bytearray(chunk)))
    assert sink.finish().digest == expected.digest()


def test_references_are_found_across_what_was_written_in_memory_that_changes() -> None:
    scanner = Scanner([DIGEST, DIGEST[::-1]])
    sink = Sink(scanner)
    memory = bytearray(16)
    for part in (DIGEST[:16], DIGEST[16:]):
        memory[:] = part.encode()
        sink.write(memoryview(memory))
    sink.finish()
    assert scanner.found == {DIGEST}
