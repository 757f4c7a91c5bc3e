"""Store paths: what is one, and how each kind is computed."""

from __future__ import annotations

import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats import store_path
from bridge.formats.errors import StorePathError
from bridge.formats.hashes import Hash
from bridge.formats.nar import Regular, dump

from .strategies import digests, names, paths

DIGEST = "6h9lcbx5" + "0" * 24
PATH = f"/nix/store/{DIGEST}-hello"


def nar_of(contents: bytes) -> bytes:
    out = io.BytesIO()
    dump(Regular(contents), out.write)
    return out.getvalue()


HELLO = b"hello\n"
GIT = b"blob 6\0" + HELLO


@pytest.mark.parametrize(
    ("method", "content", "begin"),
    [
        ("nar", Hash.of(nar_of(HELLO)), "6h9lcbx5"),
        ("flat", Hash.of(HELLO), "d4b4lmbd"),
        ("nar", Hash.of(nar_of(HELLO), "sha1"), "c1amm6qq"),
        ("flat", Hash.of(HELLO, "sha512"), "74az1n3l"),
        ("text", Hash.of(HELLO), "c6zz113j"),
        ("git", Hash.of(GIT, "sha1"), "3dpnpfs1"),
        ("git", Hash.of(GIT), "16bvg3y9"),
    ],
)
def test_one_file_has_the_path_that_nix_gives_it_by_each_method(
    method: store_path.Method, content: Hash, begin: str
) -> None:
    """Seen in Nix 2.8.0, 2.26.3 and 2.34.8 for a file f.txt."""
    path = store_path.fixed_path("f.txt", method, content)
    assert store_path.hash_part(path).startswith(begin)
    assert store_path.content_path("f.txt", method, content) == path
    assert store_path.parse(path)[1] == "f.txt"


def test_the_path_of_a_fixed_output_is_known() -> None:
    content = Hash.parse("sha256-CkMI+IRjeO8KDOo26jv0fHS3hPLUiUU4cwKMyTbVr1M=")
    expected = "/nix/store/590ijc3kyd311zv6rgspwdxi3c3ls2n5-fixed-rec"
    assert store_path.fixed_path("fixed-rec", "nar", content) == expected
    assert store_path.source_path("fixed-rec", content.hex) == expected


def test_references_are_part_of_a_text_path_sorted_and_once_each() -> None:
    """toFile "more" of data/derivations.nix."""
    text = "/nix/store/x0ngbys88jnf31vn7mc9ccmr4mrflnzl-text"
    assert store_path.text_path("text", Hash.of(b"some text\n").hex) == text
    more = Hash.of(f"refers to {text} and {text}\n".encode())
    assert store_path.text_path("more", more.hex, [text]) == "/nix/store/gf60hflic9kml4p71axvi2h0h9ycdslw-more"
    assert store_path.text_path("more", more.hex, [text, text]) == store_path.text_path("more", more.hex, [text])


@given(st.lists(paths, max_size=4))
def test_the_order_of_references_does_not_matter(references: list[str]) -> None:
    content = Hash.of(b"")
    shuffled = references[::-1]
    for method in ("text", "nar"):
        one = store_path.content_path("x", method, content, references)  # type: ignore[arg-type]
        assert one == store_path.content_path("x", method, content, shuffled)  # type: ignore[arg-type]
        assert (one == store_path.content_path("x", method, content)) == (not references)  # type: ignore[arg-type]


def test_a_reference_to_itself_changes_the_path() -> None:
    inner = Hash.of(b"")
    plain = store_path.content_path("x", "nar", inner)
    assert store_path.content_path("x", "nar", inner, self_reference=True) != plain
    assert store_path.source_path("x", inner.hex, self_reference=True) == store_path.content_path(
        "x", "nar", inner, self_reference=True
    )


@pytest.mark.parametrize(
    ("method", "algorithm"), [("flat", "sha256"), ("nar", "sha1"), ("nar", "sha512"), ("flat", "md5"), ("git", "sha1")]
)
def test_references_go_with_text_and_nar_of_sha256_only(method: store_path.Method, algorithm: str) -> None:
    content = Hash.of(b"", algorithm)
    store_path.content_path("x", method, content)
    with pytest.raises(StorePathError, match="can not have references: x refers to /nix/store"):
        store_path.content_path("x", method, content, [PATH])
    with pytest.raises(StorePathError, match="can not have references: x refers to itself"):
        store_path.content_path("x", method, content, self_reference=True)


def test_a_text_can_not_refer_to_itself() -> None:
    with pytest.raises(StorePathError, match="refers to itself"):
        store_path.content_path("x", "text", Hash.of(b""), self_reference=True)


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha512"])
def test_the_method_text_goes_with_sha256_only(algorithm: str) -> None:
    with pytest.raises(StorePathError, match="sha256 only"):
        store_path.fixed_path("x", "text", Hash.of(b"", algorithm))


def test_an_output_is_named_after_the_derivation_and_itself() -> None:
    assert store_path.output_path_name("hello", "out") == "hello"
    assert store_path.output_path_name("hello", "dev") == "hello-dev"
    modulo = hashlib.sha256(b"").hexdigest()
    assert store_path.name_part(store_path.output_path("hello", "dev", modulo)) == "hello-dev"
    assert store_path.output_path("hello", "out", modulo) != store_path.output_path("hello", "dev", modulo)


# ------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["a", "A-1.2_3+4?5=6", ".hidden", "...", "..a", "-", "a" * 211, "hello.drv"])
def test_names_that_nix_allows(name: str) -> None:
    assert store_path.check_name(name) == name
    assert store_path.parse(f"/nix/store/{DIGEST}-{name}") == (DIGEST, name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        ("a" * 212, "has 212 characters; Nix allows 211"),
        ("a b", "does not allow ' ' in"),
        ("a/b", "does not allow '/' in"),
        ("a\n", "does not allow '\\\\n' in"),
        ("a\0", "does not allow '\\\\x00' in"),
        ("é", "does not allow 'é' in"),
        ("٣", "does not allow '٣' in"),
        ("a~b", "does not allow '~' in"),
        (".", "first dash-separated part is"),
        ("..", "first dash-separated part is"),
        (".-x", "first dash-separated part is"),
        ("..-x", "first dash-separated part is"),
    ],
)
def test_names_that_nix_refuses(name: str, message: str) -> None:
    with pytest.raises(StorePathError, match=message):
        store_path.check_name(name)
    with pytest.raises(StorePathError):
        store_path.text_path(name, Hash.of(b"").hex)
    with pytest.raises(StorePathError):
        store_path.parse(f"/nix/store/{DIGEST}-{name}")


def test_the_name_of_an_output_counts_with_its_suffix() -> None:
    modulo = hashlib.sha256(b"").hexdigest()
    assert store_path.output_path("a" * 207, "dev", modulo)
    with pytest.raises(StorePathError, match="212 characters"):
        store_path.output_path("a" * 208, "dev", modulo)


# ------------------------------------------------------------------------------------------- paths


@given(digests, names)
def test_a_path_splits_into_digest_and_name(digest: str, name: str) -> None:
    path = f"/nix/store/{digest}-{name}"
    assert store_path.parse(path) == (digest, name)
    assert store_path.base_name(path) == f"{digest}-{name}"
    assert store_path.hash_part(path) == digest
    assert store_path.name_part(path) == name
    assert store_path.STORE_PATH.fullmatch(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "hello",
        "/nix/store",
        "/nix/store/",
        f"{DIGEST}-hello",
        f"nix/store/{DIGEST}-hello",
        f"/tmp/{DIGEST}-hello",
        f"/nix/store//{DIGEST}-hello",
        f"/nix/store/../store/{DIGEST}-hello",
        f"{PATH}/bin",
        f"{PATH}/",
        f"{PATH}\n",
        f"/nix/store/{DIGEST}",
        f"/nix/store/{DIGEST}-",
        f"/nix/store/{DIGEST}hello",
        f"/nix/store/{DIGEST[1:]}-hello",
        f"/nix/store/{DIGEST}0-hello",
        f"/nix/store/{DIGEST.replace('6', 'e')}-hello",
        f"/nix/store/{DIGEST.upper()}-hello",
    ],
)
def test_what_is_no_store_path_is_refused(path: str) -> None:
    with pytest.raises(StorePathError):
        store_path.parse(path)


@given(st.text(max_size=80))
def test_arbitrary_text_is_a_store_path_or_refused(text: str) -> None:
    for path in (text, f"/nix/store/{text}", f"/nix/store/{DIGEST}-{text}"):
        try:
            digest, name = store_path.parse(path)
        except StorePathError:
            continue
        assert path == f"/nix/store/{digest}-{name}"


def test_store_paths_are_found_in_a_text() -> None:
    other = PATH.replace("hello", "b.drv")
    text = f"-I{PATH}/include:{other}\n/nix/store/short /nix/store/{DIGEST}"
    assert store_path.STORE_PATH.findall(text) == [PATH, other]
