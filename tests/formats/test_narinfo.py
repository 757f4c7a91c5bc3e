"""narinfo files, their signatures, and nix-cache-info: read, written, signed, against a real cache of Nix."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.formats.errors import BridgeError, NarInfoError, SignatureError
from bridge.formats.hashes import Hash
from bridge.formats.narinfo import CacheInfo, NarInfo, parse_cache_info, parse_narinfo
from bridge.formats.signing import PublicKey, SecretKey, Signature, generate
from bridge.nix.installation import Installation

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


def test_unknown_keys_are_passed_over_and_compression_defaults_to_bzip2() -> None:
    text = str(GOOD).replace("Compression: xz\n", "Later: something\n")
    assert parse_narinfo(text).compression == "bzip2"


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


@pytest.mark.parametrize("name", ["", "a:b", " a", "a\nb"])
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
