# SPDX-License-Identifier: MIT
"""The programs of examples/bugs say what their own comments say they do.

    python3 tests/e2e/bugs_run.py build/release [test_name ...]

Each has commands with their output in its first comment:

     *     $ WEIR_GUARD=full build/release/examples/bugs/leak
     *     weir: ...

Lines are joined, and 0x... is any address.  What a fault's line is followed by
(advice, stacks) need not be there; any other output must be whole.
"""

import glob
import os
import pty
import re
import subprocess
import sys

import _server
from _server import Skip, weir_command

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = sorted(glob.glob(os.path.join(HERE, "../../examples/bugs/*.c")))
BUILD = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "."


def words(text):
    return " ".join(text.split())


def commands(source):
    """Pairs of a command line and the output that is promised."""
    with open(source, encoding="utf-8") as file:
        comment = file.read().split("*/")[1]
    found, shown = [], None
    for line in comment.splitlines():
        text = line[6:] if line.startswith(" *     ") else None
        if text is not None and text.lstrip().startswith("$ "):
            shown = []
            found.append((text.lstrip()[2:], shown))
        elif text is not None and shown is not None:
            shown.append(text)
        else:
            shown = None
    return [(command, words(" ".join(lines))) for command, lines in found]


def output_pair():
    """A terminal, or where the system has none to give a pipe, and what has a
    program write its lines into that as they come."""
    try:
        return *pty.openpty(), []
    except OSError:
        if re.search("asan|tsan", os.environ.get("WEIR_CONFIG", "")):
            raise Skip("no terminal, and stdbuf is not for sanitizers")
        return *os.pipe(), ["stdbuf", "-oL"]


def run(command):
    """As typed at a terminal: the exit status and all that was written."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("WEIR_")}
    arguments = command.split()
    while "=" in arguments[0]:
        name, value = arguments.pop(0).split("=", 1)
        environment[name] = value
    prefix = "build/release/"
    assert arguments[0].startswith(prefix), command
    arguments[0] = os.path.join(BUILD, arguments[0][len(prefix):])
    if not os.path.exists(arguments[0]):
        raise Skip("WEIR_EXAMPLES is off")
    ours, theirs, by_lines = output_pair()
    # setarch for a sanitizer
    arguments = weir_command()[:-1] + by_lines + arguments
    with subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL,
                          stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        output = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                part = b""
            if not part:
                break
            output += part
        status = process.wait(timeout=30)
    os.close(ours)
    return status, words(output.decode())


def library_knows_guard():
    runner = os.path.join(BUILD, "tests/fault/fault_set")
    return subprocess.run([runner, "--knows", "D"], check=False).returncode == 0


def check_command(command, promised):
    status, output = run(command)
    pattern = re.escape(promised).replace(re.escape("0x..."), "0x[0-9a-f]+")
    fault = "weir: FAULT" in promised
    match = re.match if fault else re.fullmatch
    assert match(pattern, output), (
        f"{command}\n  says     {output}\n  promised {promised}")
    assert status == (-6 if fault else 0), (command, status)


def test_each_says_what_its_comment_says():
    guard = library_knows_guard()
    ran = 0
    assert len(SOURCES) == 8, SOURCES
    for source in SOURCES:
        promises = commands(source)
        name = os.path.basename(source)[:-2]
        assert any(command.endswith(f"/{name}") for command, _ in promises)
        assert any(command.endswith("mended") for command, _ in promises), name
        for command, promised in promises:
            if "WEIR_GUARD" in command and not guard:
                print(f"skipped, no such mode: {command}")
                continue
            check_command(command, promised)
            ran += 1
    print(f"{ran} commands")


def test_each_mended_program_is_silent_in_every_mode():
    for source in SOURCES:
        name = os.path.basename(source)[:-2]
        for mode in ("off", "sample:1", "full"):
            status, output = run(f"WEIR_GUARD={mode} build/release/"
                                 f"examples/bugs/{name} mended")
            assert status == 0 and "FAULT" not in output, (name, mode, output)


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
