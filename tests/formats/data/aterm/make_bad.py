"""Write bad/: derivations with one fault each, and in faults.json where it is and what it is called.

python tests/formats/data/aterm/make_bad.py
"""

from __future__ import annotations

import json
from pathlib import Path

OUT = "/nix/store/sbpcwb0mmk2nkhp7ddw5gn8275bay7ps-plain"
INPUT = "/nix/store/hqi7n9vprkr0piv5090539wi7nw4mynx-plain.drv"
SOURCE = "/nix/store/gb0w05m1hhr40pdkdjqjshjabnn94ym5-source.txt"
HASH = "0a4308f8846378ef0a0cea36ea3bf47c74b784f2d489453873028cc936d5af53"

OUTPUT = f'("out","{OUT}","","")'
GOOD = (
    f'Derive([{OUTPUT}],[("{INPUT}",["out"])],["{SOURCE}"],"x86_64-linux","/bin/sh",["-c","é"],'
    '[("builder","/bin/sh"),("odd","ünï\\n"),("out","")])'
)
DYNAMIC = GOOD.replace("Derive(", 'DrvWithVersion("xp-dyn-drv",').replace(
    f'("{INPUT}",["out"])', f'("{INPUT}",(["out"],[("lib",["out"])])),("{INPUT.replace("hqi7", "zqi7")}",["out"])'
)


def with_output(*fields: str) -> str:
    return GOOD.replace(OUTPUT, "(" + ",".join(f'"{field}"' for field in fields) + ")")


# Name: the text, what stands at the fault (its first occurrence, or -1 for the end), words of the message.
BAD: dict[str, tuple[str | bytes, str | int, str]] = {
    "empty": ("", 0, "expected 'D', found the end"),
    "not-a-derivation": ("hello", 0, "expected 'D', found 'h'"),
    "blank-before": (" " + GOOD, 0, "expected 'D'"),
    "newline-behind": (GOOD + "\n", len(GOOD.encode()), "expected the end of the derivation"),
    "twice": (GOOD + GOOD, len(GOOD.encode()), "expected the end of the derivation"),
    "blank-between": (GOOD.replace("],[", "], [", 1), " [", "expected '[', found ' '"),
    "version-unknown": (DYNAMIC.replace("xp-dyn-drv", "xp-dyn-2"), '"xp-dyn-2"', "the version 'xp-dyn-2' is none"),
    "version-missing": (DYNAMIC.replace('"xp-dyn-drv",', ""), '[("out"', "expected a string"),
    "dynamic-without-version": (
        DYNAMIC.replace('DrvWithVersion("xp-dyn-drv",', "Derive("),
        '(["out"],[("lib"',
        "expected '[', found '('",
    ),
    "dynamic-without-list": (DYNAMIC.replace(',[("lib",["out"])]', ""), ')),("', "expected ','"),
    "dynamic-without-name": (DYNAMIC.replace('("lib",["out"])', '(["out"])'), '["out"])])', "expected a string"),
    "dynamic-name-twice": (
        DYNAMIC.replace('("lib",["out"])', '("lib",["out"]),("lib",["dev"])'),
        '"lib",["dev"]',
        "the output 'lib' stands there twice",
    ),
    "dynamic-cut": (DYNAMIC[: DYNAMIC.index('"lib"')], -1, "expected a string, found the end"),
    "dynamic-too-deep": (
        DYNAMIC.replace('("lib",["out"])', '("lib",' + '([],[("o",' * 101 + "[]" + ")])" * 101 + ")"),
        DYNAMIC.index('["out"])])') + 99 * len('([],[("o",'),
        "nested more than 100 deep",
    ),
    "versioned-rest": (DYNAMIC.replace('"x86_64-linux"', "s"), 's,"/bin', "expected a string"),
    "cut-in-word": (GOOD[:4], -1, "expected 'v', found the end"),
    "cut-in-string": (GOOD[: GOOD.index("x86_64")], len(GOOD[: GOOD.index("x86_64")]) - 1, "a string without an end"),
    "cut-in-list": (GOOD[: GOOD.index(',"é"')], -1, "expected ',', found the end"),
    "cut-before-last": (GOOD[:-1], -1, "expected ')', found the end"),
    "cut-behind-backslash": (GOOD[: GOOD.index("\\n") + 1], '"ünï', "a string without an end"),
    "word-for-string": (GOOD.replace('"x86_64-linux"', "s"), 's,"/bin', "expected a string, found 's'"),
    "words-for-strings": ("Derive([],[],[],s,s,[],[])", "s,s", "expected a string"),
    "mark-for-string": ('Derive([],[],[],"",",[],[])', '",[]', "a string without an end"),
    "escape-outside": (GOOD.replace(',"/bin/sh",', ',\\"/bin/sh\\",', 1), '\\"/bin', "expected a string"),
    "backslash-outside": (GOOD.replace('"/bin/sh",[', '"/bin/sh"\\,[', 1), "\\,[", "expected ','"),
    "output-of-three": (with_output("out", OUT, ""), ")],[(", "expected ','"),
    "output-of-five": (with_output("out", OUT, "", "", ""), ',"")],[(', "expected ')'"),
    "comma-last-in-list": (GOOD.replace('"é"]', '"é",]'), '],[("builder', "expected a string"),
    "comma-first-in-list": (GOOD.replace('["-c"', '[,"-c"'), ',"-c"', "expected a string"),
    "comma-missing": (GOOD.replace('"-c","é"', '"-c""é"'), '"é"', "expected ','"),
    "pair-of-one": (GOOD.replace('("out","")', '("out")'), ")])", "expected ','"),
    "list-for-string": (GOOD.replace('"x86_64-linux"', '["x86_64-linux"]'), '["x86', "expected a string"),
    "output-twice": (GOOD.replace(OUTPUT, f"{OUTPUT},{OUTPUT}"), len(f"Derive([{OUTPUT},("), "stands there twice"),
    "input-twice": (
        GOOD.replace('[("/nix', f'[("{INPUT}",["dev"]),("/nix'),
        len(f'Derive([{OUTPUT}],[("{INPUT}",["dev"]),('),
        "stands there twice",
    ),
    "source-twice": (
        GOOD.replace(f'["{SOURCE}"]', f'["{SOURCE}","{SOURCE}"]'),
        GOOD.index(f'"{SOURCE}"') + len(f'"{SOURCE}",'),
        "stands there twice",
    ),
    "variable-twice": (GOOD.replace('("out","")', '("odd","")'), '"odd","")', "the variable 'odd' stands there twice"),
    "output-without-name": (with_output("", OUT, "", ""), '"","/nix', "name is empty"),
    "output-name-with-quote": (with_output('o\\"t', OUT, "", ""), '"o\\"t"', "does not allow"),
    "output-path-elsewhere": (with_output("out", "/tmp/plain", "", ""), '"out"', "no store path"),
    "output-path-inside": (with_output("out", OUT + "/bin", "", ""), '"out"', "no store path"),
    "output-hash-without-algorithm": (with_output("out", OUT, "", HASH), '"out"', "no hash algorithm"),
    "output-algorithm-unknown": (with_output("out", OUT, "r:sha3", HASH), '"out"', "no hash algorithm that Nix knows"),
    "output-method-unknown": (with_output("out", OUT, "x:sha256", HASH), '"out"', "no hash algorithm that Nix knows"),
    "output-hash-too-short": (with_output("out", OUT, "r:sha256", HASH[:-2]), '"out"', "wrong length"),
    "output-hash-no-hex": (with_output("out", OUT, "r:sha256", "x" * 64), '"out"', "no sha256 digest"),
    "output-fixed-without-path": (with_output("out", "", "r:sha256", HASH), '"out"', "its hash gives /nix/store/"),
    "output-fixed-elsewhere": (with_output("out", OUT, "r:sha256", HASH), '"out"', "its hash gives /nix/store/"),
    "output-floating-with-path": (with_output("out", OUT, "r:sha256", ""), '"out"', "floating output has the path"),
    "output-impure-with-path": (with_output("out", OUT, "r:sha256", "impure"), '"out"', "impure output has the path"),
    "input-elsewhere": (GOOD.replace(INPUT, "/tmp/plain.drv"), '"/tmp', "no store path"),
    "input-two-in-one": (GOOD.replace(INPUT, f"{INPUT}\n{INPUT}"), f'"{INPUT}', "no store path"),
    "input-output-with-quote": (GOOD.replace('["out"]', '["o\\"ut"]'), '"o\\"', "does not escape here"),
    "source-relative": (GOOD.replace(SOURCE, "source.txt"), '"source.txt"', "no store path"),
    "source-digest-with-e": (GOOD.replace(SOURCE, SOURCE.replace("gb0w", "ebow")), '"/nix/store/ebow', "no store path"),
    "system-with-quote": (GOOD.replace("x86_64-", 'x86\\"'), '"x86\\"', "does not escape here"),
    "system-with-backslash": (GOOD.replace("x86_64-", "x86\\\\"), '"x86\\\\', "does not escape here"),
    # Positions count bytes: what stands before this fault has letters of two bytes, and one that is no UTF-8.
    "behind-latin1": (
        GOOD.encode().replace("é".encode(), b"\xe9").replace(b'("out","")])', b'("out",x)])'),
        "x)])",
        "expected a string, found 'x'",
    ),
}


def main() -> None:
    bad = Path(__file__).with_name("bad")
    bad.mkdir(exist_ok=True)
    faults = {}
    for name, (text, at, words) in BAD.items():
        data = text if isinstance(text, bytes) else text.encode()
        # -1 is the end, behind the last byte.
        position = data.index(at.encode()) if isinstance(at, str) else at % (len(data) + 1)
        (bad / f"{name}.drv").write_bytes(data)
        faults[f"{name}.drv"] = {"position": position, "message": words}
    (bad / "faults.json").write_text(json.dumps(faults, indent=1) + "\n")


if __name__ == "__main__":
    main()
