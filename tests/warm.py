"""`sigrack` in children that are forked from a process which has imported everything: a real child in 20 ms instead of 200."""

import json
import os
import subprocess
import sys
import tempfile
from functools import cache

__all__ = ["warm_sigrack"]

_SERVER = """
import json, os, sys
import sigrack.cli, sigrack.cli.check, sigrack.cli.render, sigrack.cli.run

for line in sys.stdin:
    arguments, environment, out, err = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    for path, descriptor in ((os.devnull, 0), (out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_RDWR), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["sigrack", *arguments]
    sys.exit(sigrack.cli.main())
"""


@cache
def _server() -> "subprocess.Popen[str]":
    """Return the process that forks; it ends with its standard input, that is with the tests."""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", _SERVER], stdin=pipe, stdout=pipe, text=True)


def warm_sigrack(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run `sigrack ARGUMENTS` to its end."""
    server, words = _server(), [str(argument) for argument in arguments]
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        server.stdin.write(json.dumps([words, dict(os.environ), out.name, err.name]) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(words, code, out.read(), err.read())
