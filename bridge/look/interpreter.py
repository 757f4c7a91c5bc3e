"""The process that runs a document's Python blocks: one after the other, in one namespace, the last value shown.

It is started by its path and imports the standard library only. Each request is a line of JSON on standard input:

    {"code": text, "file": a module with all code so far, "line": of the code in it, "output": file for what it prints}

and each answer one on standard output: {} or {"error": one line, "line": number or null}.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import traceback
from typing import Any


def run(code: str, file: str, line: int, names: dict[str, Any]) -> None:
    """Run a block; where its last statement is an expression, print its value."""
    # So its lines are the module's, where tracebacks and stages look for them.
    tree = ast.parse("\n" * (line - 1) + code, file)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, file, "exec"), names)
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), file, "eval"), names)
        if value is not None:
            print(repr(value))


def failure(error: BaseException, file: str) -> dict[str, Any]:
    """Print a traceback from the module's frame on; say where in it it was."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)
    for one in getattr(error, "failures", ()):
        print(f"  {one}")
    lines = [frame.lineno for frame in traceback.extract_tb(trace) if frame.filename == file]
    at = error.lineno if isinstance(error, SyntaxError) and error.filename == file else None
    text = "".join(traceback.format_exception_only(type(error), error)).splitlines()[-1]
    return {"error": text, "line": lines[-1] if lines else at}


def main() -> None:
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Modules of the folder, as in an interactive Python; not those beside this file.
    sys.path[0] = ""
    names: dict[str, Any] = {"__name__": "__main__"}
    for request in map(json.loads, requests):
        output = os.open(request["output"], os.O_WRONLY | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        file, answer = request["file"], {}
        try:
            run(request["code"], file, request["line"], names)
        except (Exception, SystemExit) as error:
            answer = failure(error, file)
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
