"""Values for property tests: names, paths, text as derivations hold it, derivations, trees."""

from __future__ import annotations

from hypothesis import strategies as st

from bridge.formats.derivation import Deferred, Derivation, Fixed, Floating, Impure, InputAddressed, InputOutputs
from bridge.formats.hashes import ALGORITHMS, Hash
from bridge.formats.nar import Directory, Regular, Symlink
from bridge.formats.nix32 import ALPHABET
from bridge.formats.nix_json import dumps
from bridge.formats.store_path import STORE_DIR

digests = st.text(ALPHABET, min_size=32, max_size=32)
names = st.from_regex(r"[a-zA-Z0-9+_?=][a-zA-Z0-9+\-._?=]{0,30}", fullmatch=True)
paths = st.builds(lambda digest, name: f"{STORE_DIR}/{digest}-{name}", digests, names)
drv_paths = paths.map(lambda path: path + ".drv")

hashes = st.sampled_from(sorted(ALGORITHMS)).flatmap(
    lambda algorithm: st.builds(
        Hash, st.just(algorithm), st.binary(min_size=ALGORITHMS[algorithm], max_size=ALGORITHMS[algorithm])
    )
)

unicode = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# What matters to an ATerm, often; and any bytes at all, as Python holds what is not UTF-8.
texts = st.one_of(
    st.text('"\\\n\r\t()[],s\x00 Dé', max_size=30),
    unicode,
    st.binary(max_size=30).map(lambda data: data.decode("utf-8", "surrogateescape")),
)

methods_and_algorithms = st.sampled_from(
    [
        *((method, algorithm) for method in ("flat", "nar") for algorithm in sorted(ALGORITHMS)),
        ("git", "sha1"),
        ("git", "sha256"),
        ("text", "sha256"),
    ]
)

output_lists = st.lists(names, min_size=1, max_size=3, unique=True).map(lambda found: tuple(sorted(found)))
used_outputs = st.builds(InputOutputs, output_lists)
dynamic_outputs = st.recursive(
    used_outputs,
    lambda inner: st.builds(
        InputOutputs,
        output_lists | st.just(()),
        st.dictionaries(names, inner, min_size=1, max_size=2).map(lambda found: dict(sorted(found.items()))),
    ),
    max_leaves=3,
)

structured_attributes = st.dictionaries(
    unicode,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
        | unicode,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(unicode, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
).map(dumps)  # fmt: skip
"""The text of structured attributes, as Nix prints it."""


@st.composite
def derivations(
    draw: st.DrawFn,
    text: st.SearchStrategy[str] = texts,
    used: st.SearchStrategy[InputOutputs] = used_outputs,
    structured: st.SearchStrategy[str | None] = st.none(),  # noqa: B008
) -> Derivation:
    """A derivation of any of the five kinds, not necessarily one that could be built.

    Parameters
    ----------
    text
        What arguments and environment hold.
    used
        What is used of an input derivation.
    structured
        The text of its structured attributes, or None.
    """
    name = draw(names)
    kind = draw(st.sampled_from(["input-addressed", "fixed", "floating", "deferred", "impure"]))
    outputs: dict[str, InputAddressed | Fixed | Floating | Deferred | Impure]
    if kind == "fixed":
        method, algorithm = draw(methods_and_algorithms)
        content = Hash.of(draw(st.binary(max_size=4)), algorithm)
        outputs = {"out": Fixed.of(name, "out", method, content)}
    else:
        output_names = draw(st.lists(names, min_size=1, max_size=3, unique=True))
        match kind:
            case "input-addressed":
                outputs = {output: InputAddressed(draw(paths)) for output in output_names}
            case "floating":
                outputs = dict.fromkeys(output_names, Floating(*draw(methods_and_algorithms)))
            case "impure":
                outputs = dict.fromkeys(output_names, Impure(*draw(methods_and_algorithms)))
            case _:
                outputs = dict.fromkeys(output_names, Deferred())
    env = draw(st.dictionaries(text.filter(lambda key: key != "__json"), text, max_size=5))
    attributes = draw(structured)
    return Derivation(
        name=name,
        outputs=dict(sorted(outputs.items())),
        input_drvs=dict(sorted(draw(st.dictionaries(drv_paths, used, max_size=4)).items())),
        input_srcs=tuple(sorted(draw(st.sets(paths, max_size=4)))),
        system=draw(st.sampled_from(["x86_64-linux", "builtin", ""])),
        builder=draw(text),
        args=tuple(draw(st.lists(text, max_size=4))),
        env=env if attributes is None else {**env, "__json": attributes},
    )


file_names = (
    st.binary(min_size=1, max_size=12)
    .filter(lambda name: name not in (b".", b"..") and b"/" not in name and b"\0" not in name)
    .map(lambda name: name.decode("utf-8", "surrogateescape"))
)
targets = (
    st.binary(min_size=1, max_size=20)
    .filter(lambda target: b"\0" not in target)
    .map(lambda target: target.decode("utf-8", "surrogateescape"))
)
trees = st.recursive(
    st.one_of(st.builds(Regular, st.binary(max_size=40), st.booleans()), st.builds(Symlink, targets)),
    lambda inner: st.builds(Directory, st.dictionaries(file_names, inner, max_size=4)),
    max_leaves=12,
)
