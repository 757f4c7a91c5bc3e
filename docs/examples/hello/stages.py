"""GNU hello from source: fetched, configured, compiled, run.

    nixbridge realize docs/examples/hello/stages.py

Here with this machine's compiler, so by the local builder. With nixpkgs, Nix builds it in its sandbox:

    from bridge import flake
    tools = [flake(f"nixpkgs#{name}") for name in ("coreutils", "gnutar", "gzip", "gnumake", "gcc", "gnused",
                                                   "gnugrep", "gawk", "diffutils", "findutils")]
    hello = shell(BUILD, tarball=tarball, tools=tools, shell=flake("nixpkgs#bash") / "bin/bash")
"""

from pathlib import Path

from bridge import fetchurl, out, shell

# A copy beside this file serves without a network; which mirror gave the file has no part in its store path.
tarball = fetchurl(
    [
        f"file://{Path(__file__).with_name('hello-2.10.tar.gz')}",
        "https://ftpmirror.gnu.org/hello/hello-2.10.tar.gz",
        "https://ftp.gnu.org/gnu/hello/hello-2.10.tar.gz",
    ],
    hash="sha256:31e066137a962676e89f69d1b65382de95a7ef7d914b8cb956f41ea72e0f516b",
    name="hello-2.10.tar.gz",
)

BUILD = """
    tar -xzf "$tarball"
    cd hello-2.10
    ./configure --prefix="$out" --disable-nls
    make
    make install
"""

hello = shell(BUILD, tarball=tarball, program=out("bin/hello"), builder="local")

greeting = shell(
    '"$hello/bin/hello" --greeting="Hello from $hello" | tee "$text"',
    hello=hello,
    text=out("greeting.txt"),
    builder="local",
)
