"""narinfo files, their signatures, and nix-cache-info: read, written, signed, against a real cache of Nix."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.errors import BridgeError, NarInfoError, SignatureError
from bridge.formats.hashes import Hash
from bridge.formats.narinfo import CacheInfo, NarInfo, parse_cache_info, parse_narinfo
from bridge.formats.signing import PublicKey, SecretKey, Signature, generate
from bridge.nix.installation import Installation

from .strategies import drv_paths, hashes, paths

PATH = "/nix/store/6h9lcbx5h2zcnmgknrl60x1kv5ddawmk-f.txt"
OTHER = "/nix/store/4wbvp5d1wknm4nzyc5ns0vf20rkm3mjr-plain"
GOOD = NarInfo(
    path=PATH,
    url="nar/x.nar.xz",
    compression="xz",
    file_hash=Hash.of(b"x"),
    file_size=12,
    nar_hash=Hash.of(b"y"),
    nar_size=120,
    references=(OTHER, PATH),
    deriver="/nix/store/4wbvp5d1wknm4nzyc5ns0vf20rkm3mjr-plain.drv",
)


def test_what_is_written_is_read_back() -> None:
    key = generate("test-1")
    signed = GOOD.signed(key)
    assert parse_narinfo(str(signed)) == signed
    assert signed.is_trusted([key.public])


seeds = st.binary(min_size=32, max_size=32)
# What a line can hold: no line feed, no blanks around.
lines = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1, max_size=20).filter(
    lambda text: text == text.strip()
)
sizes = st.integers(1, 2**63 - 1)
key_names = lines.filter(lambda name: ":" not in name)
narinfos = st.builds(
    NarInfo,
    path=paths,
    url=lines,
    compression=st.sampled_from(["none", "xz", "bzip2", "zstd", "br"]) | lines,
    file_hash=st.none() | hashes,
    file_size=st.none() | st.integers(0, 2**63 - 1),
    nar_hash=hashes,
    nar_size=sizes,
    references=st.sets(paths, max_size=4).map(lambda found: tuple(sorted(found))),
    deriver=st.none() | drv_paths,
    signatures=st.lists(st.builds(Signature, key_names, st.binary(min_size=64, max_size=64)), max_size=2).map(tuple),
    content_address=st.none() | lines,
)


@given(narinfos)
def test_every_narinfo_is_read_back(info: NarInfo) -> None:
    assert parse_narinfo(str(info)) == info


@given(narinfos, st.randoms())
def test_the_order_of_the_lines_does_not_matter(info: NarInfo, chance: random.Random) -> None:
    found = str(replace(info, signatures=info.signatures[:1])).splitlines(keepends=True)
    # Python splits at more than line feeds.
    found = "".join(found).split("\n")[:-1]
    chance.shuffle(found)
    assert parse_narinfo("\n".join([*found, ""])) == replace(info, signatures=info.signatures[:1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "x\nSig: evil:x"}, "line 2: URL can not be"),
        ({"url": " x"}, "line 2: URL can not be"),
        ({"compression": "xz\n"}, "line 3: Compression can not be"),
        ({"content_address": "text:sha256:x\nURL: y"}, "line 10: CA can not be"),
        ({"signatures": (Signature("a\nb", bytes(64)),)}, "line 10: Sig can not be"),
    ],
)
def test_what_would_be_read_back_as_something_else_is_not_written(change: dict[str, Any], said: str) -> None:
    with pytest.raises(NarInfoError, match=said):
        str(replace(GOOD, **change))


@given(narinfos, seeds, seeds)
def test_a_signature_holds_for_what_was_signed_and_its_key_only(info: NarInfo, seed: bytes, other: bytes) -> None:
    key, stranger = SecretKey("k", seed), SecretKey("k", other)
    signed = info.signed(key)
    assert signed.is_trusted([key.public])
    assert parse_narinfo(str(signed)).is_trusted([key.public])
    assert signed.is_trusted([stranger.public]) == (seed == other)
    assert SecretKey.parse(key.to_text()) == key
    assert PublicKey.parse(str(key.public)) == key.public


@pytest.mark.parametrize(
    ("change", "trusted"),
    [
        ({"path": OTHER}, False),
        ({"nar_hash": Hash.of(b"z")}, False),
        ({"nar_size": 121}, False),
        ({"references": (OTHER,)}, False),
        ({"references": ()}, False),
        ({"references": (PATH, OTHER)}, True),  # a set
        ({"url": "elsewhere", "compression": "none", "file_hash": None, "file_size": None}, True),
        ({"deriver": None, "content_address": "x"}, True),
    ],
    ids=str,
)
def test_a_change_of_what_is_signed_breaks_the_signature(change: dict[str, Any], trusted: bool) -> None:
    key = generate("test-1")
    assert replace(GOOD.signed(key), **change).is_trusted([key.public]) == trusted


@given(st.integers(0, 63), st.integers(1, 255))
def test_a_changed_byte_of_a_signature_breaks_it(place: int, change: int) -> None:
    key = SecretKey("test-1", bytes(32))
    data = bytearray(key.sign(GOOD.fingerprint).data)
    data[place] ^= change
    assert not replace(GOOD, signatures=(Signature("test-1", bytes(data)),)).is_trusted([key.public])


def test_two_keys_of_one_name_may_be_trusted() -> None:
    """An old key and the one that took its place."""
    old, new = generate("test-1"), generate("test-1")
    for key in (old, new):
        assert GOOD.signed(key).is_trusted([old.public, new.public])
        assert GOOD.signed(key).is_trusted([new.public, old.public])


def test_unknown_keys_are_passed_over_and_compression_defaults_to_bzip2() -> None:
    text = str(GOOD).replace("Compression: xz\n", "Later: something\n")
    assert parse_narinfo(text).compression == "bzip2"
    assert parse_narinfo(text.replace("Later: something\n", "Later: once\nLater: twice\n")) == parse_narinfo(text)


def test_a_last_line_that_was_cut_off_is_damage() -> None:
    """As in Nix: what is left of a value could pass for a shorter one."""
    with pytest.raises(NarInfoError, match="line 8: the file ends within this line"):
        parse_narinfo(str(GOOD).partition("Deriver")[0].rstrip("\n"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("StorePath: /nix/store/", "StorePath: /tmp/", "line 1: "),
        ("URL: nar/x.nar.xz\n", "", "URL is missing"),
        ("NarSize: 120", "NarSize: 0", "line 7: NarSize is 0"),
        ("NarSize: 120", "NarSize: -1", "line 7: '-1' is no size"),
        ("NarSize: 120", "NarSize: 120\nNarSize: 120", "line 8: NarSize stands twice"),
        ("NarHash: sha256:", "NarHash: sha999:", "line 6: "),
        ("References: ", "References: nope ", "line 8: "),
        ("References: ", "References: ../../etc/passwd ", "line 8: "),
        ("NarSize: 120", "NarSize: 1" + 20 * "0", "line 7: '1000.* is no size"),
        ("NarSize: 120", "NarSize: ١٢", "line 7: '١٢' is no size"),
        ("NarSize: 120", "NarSize:", "NarSize is missing"),
        ("FileSize: 12", "FileSize: 12 bytes", "line 5: '12 bytes' is no size"),
        ("FileHash: sha256:", "FileHash: ", "line 4: .* does not say its algorithm"),
        ("NarHash: sha256:", "NarHash: sha256:0", "line 6: .* wrong length"),
        ("Deriver: ", "Deriver: /nix/store/", "line 9: "),
        ("StorePath: /nix/store/", "Sig: x\nStorePath: /nix/store/", "line 1: "),
        ("StorePath: /nix/store/", "Sig: x:eA==\nStorePath: /nix/store/", "line 1: a signature is a name, a colon and"),
        ("Compression: xz", "Compression", "line 3: 'Compression' has no colon"),
    ],
)
def test_damage_is_told_with_its_line(old: str, new: str, said: str) -> None:
    text = str(GOOD)
    assert old in text
    with pytest.raises(NarInfoError, match=said.replace("(", "\\(")):
        parse_narinfo(text.replace(old, new))


@given(st.text())
def test_nothing_but_its_own_error_comes_of_any_text(text: str) -> None:
    for read in (parse_narinfo, parse_cache_info, Signature.parse, PublicKey.parse, SecretKey.parse):
        with contextlib.suppress(BridgeError):
            read(text)


@given(st.integers(0, len(str(GOOD)) - 1), st.characters())
def test_a_changed_character_is_an_error_or_another_value(position: int, char: str) -> None:
    text = str(GOOD)
    with contextlib.suppress(NarInfoError):
        parse_narinfo(text[:position] + char + text[position + 1 :])


def test_a_signature_is_over_path_hash_size_and_references() -> None:
    assert GOOD.fingerprint.decode() == f"1;{PATH};sha256:{Hash.of(b'y').nix32};120;{OTHER},{PATH}"


def test_another_key_of_the_same_name_is_not_trusted() -> None:
    signed = GOOD.signed(generate("test-1"))
    assert not signed.is_trusted([generate("test-1").public])
    assert not signed.is_trusted([generate("test-2").public])
    assert not signed.is_trusted([])


def test_signing_again_replaces_the_signature_of_that_key() -> None:
    key = generate("test-1")
    assert len(GOOD.signed(key).signed(generate("test-2")).signed(key).signatures) == 2


def test_keys_are_read_back_and_do_not_show_their_secret() -> None:
    key = generate("cache.example.org-1")
    assert SecretKey.parse(key.to_text()) == key
    assert PublicKey.parse(str(key.public)) == key.public
    assert key.to_text().partition(":")[2] not in repr(key)


@pytest.mark.parametrize("name", ["", "a:b", " a", "a\nb", "a b", "a\udcff"])
def test_a_name_that_the_text_form_can_not_hold_is_refused(name: str) -> None:
    with pytest.raises(SignatureError):
        generate(name)


def test_halves_of_two_keys_are_no_key() -> None:
    one, other = generate("a"), generate("a")
    import base64

    mixed = base64.b64encode(one.seed + other.public.data).decode()
    with pytest.raises(SignatureError, match="do not belong together"):
        SecretKey.parse(f"a:{mixed}")


def test_cache_info_is_read_back() -> None:
    info = CacheInfo("/nix/store", want_mass_query=True, priority=40)
    assert parse_cache_info(str(info)) == info
    assert parse_cache_info("StoreDir: /nix/store\n") == CacheInfo()
    assert parse_cache_info("") == CacheInfo()
    assert parse_cache_info("WantMassQuery: 0\nLater: x\n") == CacheInfo()


@given(st.builds(CacheInfo, lines, st.booleans(), st.none() | st.integers(0, 2**63 - 1)))
def test_every_cache_info_is_read_back(info: CacheInfo) -> None:
    assert parse_cache_info(str(info)) == info


@pytest.mark.parametrize(
    ("text", "said"),
    [("Priority: high", "line 1: 'high' is no size"), ("StoreDir: /nix/store\nhello", "line 2: 'hello' has no colon")],
)
def test_damage_of_cache_info_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(NarInfoError, match=said):
        parse_cache_info(text)


@pytest.mark.nix
def test_a_cache_that_nix_made_is_read_to_the_letter_and_its_signatures_hold(nix: Installation, scratch: Path) -> None:
    (scratch / "f.txt").write_text("hello\n")
    added = nix.run([nix.program("nix-store"), "--add", str(scratch / "f.txt")]).stdout.strip()
    secret, public = scratch / "secret", scratch / "public"
    made = nix.run([nix.program("nix-store"), "--generate-binary-cache-key", "real-1", str(secret), str(public)])
    assert made.returncode == 0, made.stderr
    key, trusted = SecretKey.parse(secret.read_text()), PublicKey.parse(public.read_text())
    assert key.public == trusted
    for path in (added,):
        copied = nix.run(
            [nix.program("nix"), "copy", "--to", f"file://{scratch}/cache?secret-key={secret}&compression=xz", path]
        )
        assert copied.returncode == 0, copied.stderr
    [file] = (scratch / "cache").glob("*.narinfo")
    info = parse_narinfo(file.read_text())
    assert str(info) == file.read_text()
    assert info.path == added
    assert info.is_trusted([trusted])
    assert info.signed(key) == info
    assert parse_cache_info((scratch / "cache" / "nix-cache-info").read_text()) == CacheInfo()


@pytest.mark.nix
def test_nix_trusts_what_we_signed(nix: Installation, scratch: Path) -> None:
    (scratch / "x.nix").write_text(
        'derivation { name = "x"; system = builtins.currentSystem; '
        'builder = "/bin/sh"; args = [ "-c" "echo x > $out" ]; }'
    )
    built = nix.run([nix.program("nix-build"), "--no-out-link", str(scratch / "x.nix")]).stdout.strip()
    cache = f"file://{scratch}/cache?compression=none"
    assert nix.run([nix.program("nix"), "copy", "--to", cache, built]).returncode == 0
    key = generate("ours-1")
    [file] = (scratch / "cache").glob("*.narinfo")
    remote = nix.environ["NIX_REMOTE"]
    fetch = [nix.program("nix"), "copy", "--from", cache, "--to", f"local?root={scratch}/other", built]
    refused = nix.run([*fetch, "--option", "trusted-public-keys", str(key.public)])
    assert refused.returncode != 0, remote
    file.write_text(str(parse_narinfo(file.read_text()).signed(key)))
    # Nix remembers what a cache told it.
    fresh = f"file://{scratch}/moved?compression=none"
    (scratch / "cache").rename(scratch / "moved")
    fetch[fetch.index(cache)] = fresh
    taken = nix.run([*fetch, "--option", "trusted-public-keys", str(key.public)])
    assert taken.returncode == 0, taken.stderr
