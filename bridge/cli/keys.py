"""`key generate|public`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from bridge.formats.signing import SecretKey, generate
from bridge.stages.errors import TargetError

__all__ = ["generate_command", "public_command"]


def generate_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as cache.example.org-1.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the secret key goes.")],
) -> None:
    """Make a key pair: the secret key into a file, the public key to standard output.

    nixbridge key generate cache.example.org-1 secret.key > public.key
    """
    key = generate(name)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise TargetError(f"{file} can not be written: {error.strerror}") from error
    with open(descriptor, "w") as opened:
        opened.write(key.to_text())
    print(key.public)


def public_command(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A secret key; - is standard input.")],
) -> None:
    """Print the public key of a secret key.

    nixbridge key public secret.key
    """
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise TargetError(f"{file} can not be read: {error.strerror}") from error
    print(SecretKey.parse(data.decode("utf-8", "surrogateescape")).public)
