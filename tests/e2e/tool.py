# SPDX-License-Identifier: MIT
"""The command-line tool as such: help, faults, exit statuses, colour.

    python3 tests/e2e/tool.py build/release [test_name ...]
"""

import os
import pty
import re
import subprocess
import sys

import _server
from _server import weir_command

COMMANDS = "demo", "serve", "load", "bench", "symbolize"


def run(*arguments, **options):
    return subprocess.run(weir_command(*arguments), capture_output=True,
                          text=True, timeout=20, check=False, **options)


def test_version_is_that_of_the_header():
    header = os.path.join(os.path.dirname(__file__), "..", "..", "include",
                          "weir", "version.h")
    with open(header, encoding="ascii") as file:
        numbers = re.findall(r"#define WEIR_VERSION_(?:MAJOR|MINOR|PATCH) "
                             r"(\d+)", file.read())
    done = run("--version")
    assert done.stdout == f"weir {'.'.join(numbers)}\n", done
    assert done.returncode == 0


def test_every_command_has_help():
    overview = run("--help")
    assert overview.returncode == 0
    for command in COMMANDS:
        assert f"  {command} " in overview.stdout
        page = run(command, "--help")
        assert page.returncode == 0 and page.stderr == "", page
        assert page.stdout.startswith(f"usage: weir {command}")
        assert run("help", command).stdout == page.stdout
        for line in page.stdout.splitlines():
            assert len(line) < 80, line


def test_misspelt_names_are_guessed():
    for arguments, guess in (
            (("laod",), "'load'"),
            (("sevre",), "'serve'"),
            (("--hepl",), "'--help'"),
            (("--versoin",), "'--version'"),
            (("help", "dmeo"), "'demo'"),
            (("load", "--conections", "5"), "'--connections'"),
            (("demo", "--contenders", "wier"), "'weir'"),
            (("serve", "--potr", "5"), "'--port'"),
            (("serve", "--prot", "raw"), "'--protocol'")):
        done = run(*arguments)
        assert done.returncode == 2, done
        assert f"did you mean {guess}?" in done.stderr, done.stderr
        assert done.stdout == "", done.stdout


def test_no_command_is_a_fault():
    done = run()
    assert done.returncode == 2 and done.stderr.startswith("usage:"), done


def test_a_full_disk_is_not_success():
    if not os.path.exists("/dev/full"):
        return
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run(weir_command("--help"), stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=20,
                              check=False)
    assert done.returncode == 1, done
    assert "cannot write" in done.stderr


def terminal(*arguments, **environment):
    """What a command prints on a terminal."""
    try:
        master, slave = pty.openpty()
    except OSError as error:
        raise _server.Skip(error) from error
    process = subprocess.Popen(
        weir_command(*arguments), stdout=slave, stderr=slave,
        env={**os.environ, "TERM": "xterm", **environment})
    os.close(slave)
    parts = []
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    process.wait(timeout=20)
    os.close(master)
    return b"".join(parts)


def test_colour_only_on_a_terminal_and_without_no_color():
    # A free port nobody listens on: a short report with errors.
    command = "load", "--port", "1", "-c", "1"
    os.environ.pop("NO_COLOR", None)
    assert b"\033[31m" in terminal(*command)
    assert b"\033[31m" not in terminal(*command, NO_COLOR="1")
    assert b"\033[31m" not in terminal(*command, TERM="dumb")
    assert "\033" not in run(*command).stdout


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
