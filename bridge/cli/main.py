"""The commands. Each imports what it needs when it is called, so that the command starts fast."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from bridge import __version__
from bridge.formats.errors import BridgeError

__all__ = ["app", "main"]

app = typer.Typer(
    name="nixbridge",
    help="Nix for stages that are not deterministic: derivations in Python, many realizations, a matcher that picks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
derivation = typer.Typer(help="Read and write store derivations.", no_args_is_help=True)
hash_app = typer.Typer(help="Compute hashes as Nix does.", no_args_is_help=True)
nar_app = typer.Typer(help="Pack and unpack Nix archives.", no_args_is_help=True)
key = typer.Typer(help="Make the keys that sign binary caches.", no_args_is_help=True)
app.add_typer(derivation, name="derivation")
app.add_typer(hash_app, name="hash")
app.add_typer(nar_app, name="nar")
app.add_typer(key, name="key")

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="FILE.py[:STAGE] or package.module[:STAGE]; without :STAGE, all that no other stage uses.",
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", metavar="DIR", help="The store; else NIXBRIDGE_STORE, pyproject.toml, XDG_DATA_HOME."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BuilderOption = Annotated[
    str, typer.Option("--builder", metavar="auto|nix|local", help="Where deterministic stages are built.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.PARAM=VALUE", help="Another config value (JSON, else text); repeatable."),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"nixbridge {__version__}")
        raise typer.Exit


@app.command()
def realize(
    target: Target,
    jobs: Annotated[int | None, typer.Option("-j", "--jobs", min=1, help="Runs at once; as many as cores.")] = None,
    rebuild: Annotated[
        list[str] | None, typer.Option(metavar="STAGE", help="Make new realizations of a stage; repeatable.")
    ] = None,
    more: Annotated[
        list[str] | None, typer.Option(metavar="STAGE=COUNT", help="Make so many more realizations; repeatable.")
    ] = None,
    redo: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Make a realization again, by its seed; repeatable.")
    ] = None,
    previous: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="STAGE=ID", help="Make a realization that goes on from another."),
    ] = None,
    resource: Annotated[
        list[str] | None, typer.Option(metavar="NAME=AMOUNT", help="What this machine has, such as gpu=2; repeatable.")
    ] = None,
    builder: Annotated[
        str, typer.Option(metavar="auto|nix|local", help="Where deterministic stages are built.")
    ] = "auto",
    executor: Annotated[
        str,
        typer.Option(metavar="NAME", help="What runs Python stages: fork, dask, dask://HOST:PORT, MODULE:FACTORY."),
    ] = "fork",
    executor_cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where large objects pass through to an executor's workers.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
    keep_going: Annotated[
        bool, typer.Option("-k", "--keep-going", help="Go on with what does not need a stage that failed.")
    ] = False,
    print_logs: Annotated[bool, typer.Option("-L", "--print-build-logs", help="Print the builds' logs.")] = False,
    set_: SetOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Realize stages: run what is missing, choose, and print where the results lie.

    nixbridge realize stages.py:report
    """
    from .realizing import realize_command

    realize_command(
        target,
        jobs=jobs,
        rebuild=rebuild or [],
        more=more or [],
        redo=redo or [],
        previous=previous or [],
        resources=resource or [],
        builder=builder,
        executor=executor,
        executor_cache=executor_cache,
        dry_run=dry_run,
        keep_going=keep_going,
        print_logs=print_logs,
        settings=set_ or [],
        store=store,
        json=json,
    )


@app.command()
def check(
    target: Target,
    stage: Annotated[list[str] | None, typer.Option(metavar="STAGE", help="Only this stage; repeatable.")] = None,
    set_: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Run chosen realizations again, by the same seeds, and say which files differ; fails if some do."""
    from .checking import check_command

    check_command(target, stage or [], set_ or [], store, builder, json)


@app.command()
def adopt(
    old: Annotated[str, typer.Argument(metavar="ID|DRV", help="A realization, or a derivation with all of its own.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The stage that takes them over.")],
    why: Annotated[str, typer.Option(metavar="TEXT", help="What is recorded as the reason.")] = "",
    set_: SetOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Take realizations of an older derivation over, as after a rename that changed nothing.

    They are recorded as adopted, with who did it and why; the old records stay.
    """
    from .checking import adopt_command

    adopt_command(old, target, why, set_ or [], store, json)


@app.command()
def show(
    target: Target,
    set_: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show the stages of a plan: what each is, what it uses, and how many realizations there are."""
    from .looking import show_command

    show_command(target, set_ or [], store, builder, json)


@app.command()
def instantiate(
    target: Target,
    add: Annotated[bool, typer.Option("--add", help="Add the derivations to the Nix store as well.")] = False,
    set_: SetOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write the derivations of stages into the store and print their paths."""
    from .deriving import instantiate_command

    instantiate_command(target, add, set_ or [], store, json)


@derivation.command("show")
def derivation_show(
    target: Annotated[str, typer.Argument(metavar="TARGET|FILE.drv", help="Stages, or a .drv file or store path.")],
    recursive: Annotated[bool, typer.Option("-r", "--recursive", help="With all input derivations.")] = False,
    aterm: Annotated[bool, typer.Option("--aterm", help="Print the .drv itself, not JSON.")] = False,
    json_format: Annotated[
        str | None,
        typer.Option(metavar="2.8|2.15|2.18|2.23|2.30|3|4", help="The shape of JSON; what the installed Nix prints."),
    ] = None,
) -> None:
    """Show derivations as `nix derivation show` does, in the shape of any release."""
    from .deriving import show_derivation_command

    show_derivation_command(target, recursive, aterm, json_format)


@derivation.command("add")
def derivation_add(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON of any release, or a .drv; - is standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compute and check the paths only.")] = False,
    json: JsonOption = False,
) -> None:
    """Add derivations to the Nix store and print their paths.

    One derivation or many, in any order; outputs without a path get the computed one.
    """
    from .adding import add_derivation_command

    add_derivation_command(file, dry_run, json)


DerivationArgument = Annotated[
    str, typer.Argument(metavar="TARGET|FILE.drv", help="A stage, or a .drv file or store path.")
]


@derivation.command("diff")
def derivation_diff(
    before: DerivationArgument,
    after: DerivationArgument,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if they differ.")] = False,
    json: JsonOption = False,
) -> None:
    """Say what differs between two derivations and, through their inputs, why."""
    from .closures import diff_command

    diff_command(before, after, exit_code, json)


@derivation.command("graph")
def derivation_graph(
    target: Annotated[str, typer.Argument(metavar="TARGET|FILE.drv", help="Stages, or a .drv file or store path.")],
    json: JsonOption = False,
) -> None:
    """Print the graph of all input derivations: in the dot language of Graphviz, or as JSON."""
    from .closures import graph_command

    graph_command(target, json)


@derivation.command("why")
def derivation_why(
    start: DerivationArgument,
    end: Annotated[
        str, typer.Argument(metavar="TARGET|FILE.drv|NAME|OUTPUT", help="An input, however deep; its name or output.")
    ],
    every: Annotated[bool, typer.Option("--all", help="All shortest paths, not one.")] = False,
    json: JsonOption = False,
) -> None:
    """Say why one derivation needs another: the shortest path through the inputs."""
    from .closures import why_command

    why_command(start, end, every, json)


@app.command()
def path(
    target: Target,
    set_: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print where realized stages lie; fails if one is not realized."""
    from .looking import path_command

    path_command(target, set_ or [], store, builder, json)


@app.command()
def ls(
    target: Annotated[str | None, typer.Argument(metavar="[TARGET]", help="A target, or nothing: the store.")] = None,
    set_: SetOption = None,
    builder: BuilderOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List realizations: of a target's stages, or all in the store."""
    from .looking import ls_command

    ls_command(target, set_ or [], store, builder, json)


@app.command()
def log(
    target: Annotated[str, typer.Argument(metavar="TARGET|ID", help="A target, or the id of a realization.")],
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Print the log of a stage's chosen realization, or of the realization with an id."""
    from .looking import log_command

    log_command(target, store, json)


@app.command()
def verify(store: StoreOption = None, json: JsonOption = False) -> None:
    """Check every object and record of the store."""
    from .looking import verify_command

    verify_command(store, json)


@hash_app.command("path")
def hash_path(
    file: Annotated[Path, typer.Argument(metavar="PATH", help="A file or folder.")],
    kind: Annotated[str, typer.Option("--type", metavar="nar|flat|text|git", help="What is hashed.")] = "nar",
    algorithm: Annotated[str, typer.Option("--algo", metavar="md5|sha1|sha256|sha512")] = "sha256",
    base: Annotated[str, typer.Option("--base", metavar="sri|nix32|base16|base64")] = "sri",
    modulo: Annotated[
        str | None, typer.Option(metavar="STORE-PATH", help="Blank this path's digest: for what refers to itself.")
    ] = None,
    nix: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Whose rule --modulo follows; the installed Nix's.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print the hash of a file or folder, as `nix hash path` does."""
    from .hashing import hash_path_command

    hash_path_command(file, kind, algorithm, base, json, modulo, nix)


@hash_app.command("file")
def hash_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file.")],
    algorithm: Annotated[str, typer.Option("--algo", metavar="md5|sha1|sha256|sha512")] = "sha256",
    base: Annotated[str, typer.Option("--base", metavar="sri|nix32|base16|base64")] = "sri",
    json: JsonOption = False,
) -> None:
    """Print the hash of a file's contents, as `nix hash file` does."""
    from .hashing import hash_path_command

    hash_path_command(file, "flat", algorithm, base, json)


@hash_app.command("convert")
def hash_convert(
    hashes: Annotated[list[str], typer.Argument(metavar="HASH…", help="In any base.")],
    to: Annotated[str, typer.Option("--to", metavar="sri|nix32|base16|base64")] = "sri",
    algorithm: Annotated[
        str | None, typer.Option("--algo", metavar="md5|sha1|sha256|sha512", help="Of a hash that does not say it.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print hashes in another base, as `nix hash convert` does."""
    from .hashing import convert_command

    convert_command(hashes, to, algorithm, json)


@app.command("store-path")
def store_path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the object.")],
    content: Annotated[str, typer.Argument(metavar="HASH", help="Of its contents, with its algorithm, such as SRI.")],
    method: Annotated[str, typer.Option(metavar="nar|flat|text|git", help="How it was hashed.")] = "nar",
    reference: Annotated[list[str] | None, typer.Option(metavar="PATH", help="A store path; repeatable.")] = None,
    self_reference: Annotated[bool, typer.Option("--self", help="Whether it refers to itself.")] = False,
    json: JsonOption = False,
) -> None:
    """Compute the store path of a content-addressed object."""
    from .hashing import store_path_command

    store_path_command(name, content, method, reference or [], self_reference, json)


Archive = Annotated[str, typer.Argument(metavar="FILE|-", help="An archive; - is standard input.")]


@nar_app.command("pack")
def nar_pack(path: Annotated[Path, typer.Argument(metavar="PATH", help="A file or folder.")]) -> None:
    """Write the archive of a path to standard output, as `nix nar pack` does."""
    from .archives import pack_command

    pack_command(path)


@nar_app.command("unpack")
def nar_unpack(file: Archive, target: Annotated[Path, typer.Argument(metavar="PATH", help="Where to.")]) -> None:
    """Lay an archive down at a path that does not exist yet."""
    from .archives import unpack_command

    unpack_command(file, target)


@nar_app.command("ls")
def nar_ls(file: Archive, json: JsonOption = False) -> None:
    """List an archive; with --json as the .ls files of binary caches."""
    from .archives import ls_nar_command

    ls_nar_command(file, json)


@nar_app.command("cat")
def nar_cat(file: Archive, path: Annotated[str, typer.Argument(metavar="PATH", help="Inside the archive.")]) -> None:
    """Print one file of an archive."""
    from .archives import cat_command

    cat_command(file, path)


@key.command("generate")
def key_generate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as cache.example.org-1.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the secret key goes.")],
) -> None:
    """Make a key pair: the secret key into a file, the public key to standard output."""
    from .keys import generate_command

    generate_command(name, file)


@key.command("public")
def key_public(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A secret key; - is standard input.")],
) -> None:
    """Print the public key of a secret key."""
    from .keys import public_command

    public_command(file)


@app.command()
def doctor(store: StoreOption = None, json: JsonOption = False) -> None:
    """Say what is here: Nix and its daemon, sandbox, features, the store, the disk."""
    from .doctor import doctor_command

    doctor_command(store, json)


def main() -> NoReturn:
    """Run the command line; errors of the user's become one message and exit status 1."""
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)
    _tolerate_any_text()
    try:
        try:
            app(prog_name="nixbridge")
        finally:
            _flush()
    except BridgeError as error:
        from .render import print_error

        print_error(error)
        sys.exit(1)
    except _Ended as ended:
        what = "interrupted" if ended.signal == signal.SIGINT else "terminated"
        print(f"nixbridge: {what}; the same command goes on from here", file=sys.stderr)
        sys.exit(128 + ended.signal)
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does.
        _drop(1)
        sys.exit(1)
    except OSError as error:
        _drop(1)
        print(f"error: the output can not be written: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _tolerate_any_text() -> None:
    """Print paths that are no text as their bytes, and what the terminal can not show as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            unicode = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if unicode else "backslashreplace")


def _flush() -> None:
    """Write out what is left; nobody reading the progress is no fault."""
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            _drop(2)
    if sys.stdout is not None:
        sys.stdout.flush()


def _drop(descriptor: int) -> None:
    """Have nothing left to be written there when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class _Ended(BaseException):
    """A signal asked us to end; not KeyboardInterrupt, which Typer takes for its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise _Ended(number)
