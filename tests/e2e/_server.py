# SPDX-License-Identifier: MIT
"""Runs `weir serve` for a test and talks to it; standard library only.

A test program is a module whose functions named test_* are called in turn,
each with a time limit; it is given the build directory as its argument and
finds the tool there, or at $WEIR.  A check that fails raises AssertionError.
"""

import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

CONFIG = os.environ.get("WEIR_CONFIG", "")
BACKEND = os.environ.get("WEIR_TEST_BACKEND", "")
LONG = "WEIR_TEST_LONG" in os.environ
SANITIZED = "asan" in CONFIG or "tsan" in CONFIG
TEST_SECONDS = 60


def weir_path():
    path = os.environ.get("WEIR")
    if not path:
        path = os.path.join(sys.argv[1] if len(sys.argv) > 1 else ".", "weir")
    return os.path.abspath(path)


def weir_command(*arguments):
    # ThreadSanitizer of older compilers needs the classic address layout.
    if "tsan" in CONFIG and shutil.which("setarch"):
        probe = subprocess.run(["setarch", "-R", "true"],
                               stderr=subprocess.DEVNULL)
        if probe.returncode == 0:
            return ["setarch", "-R", weir_path(), *arguments]
    return [weir_path(), *arguments]


class Server:
    """A server on a free port; leaving the `with` block checks its end."""

    def __init__(self, *options, descriptors=None, port=0):
        def limit():
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE,
                                   (descriptors, descriptors))

        if BACKEND and "--backend" not in options:
            options += ("--backend", BACKEND)
        self.process = subprocess.Popen(
            weir_command("serve", "--port", str(port), *options),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=limit)
        line = self.process.stdout.readline()
        match = re.fullmatch(r"listening on (.+):(\d+)\n", line)
        if not match:
            out, err = self.process.communicate(timeout=10)
            raise AssertionError(f"no listening line: {line!r} {out} {err}")
        self.address = match.group(1).strip("[]")
        self.port = int(match.group(2))
        self.report = None
        self.errors = None
        self.own_descriptors = self.descriptors()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.process.kill()
            out, err = self.process.communicate()
            sys.stderr.write(out + err)
        elif self.report is None:
            self.end()

    def end(self, number=signal.SIGTERM, seconds=20):
        """Ends the server and checks that nothing leaked."""
        self.process.send_signal(number)
        self.report, self.errors = self.process.communicate(timeout=seconds)
        assert self.process.returncode == 0, (self.process.returncode,
                                              self.report, self.errors)
        assert "\nleaks: none\n" in self.report, self.report
        assert self.figure("open connections") == 0
        assert self.figure("sends on their way") == 0
        return self.report

    def figure(self, name):
        """A number of the report; 0 where it is not mentioned."""
        match = re.search(rf"^ *{re.escape(name)} +([\d,]+)$", self.report,
                          re.MULTILINE)
        return int(match.group(1).replace(",", "")) if match else 0

    def connect(self, receive_bytes=None, send_bytes=None):
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        client = socket.socket(family)
        client.settimeout(15)
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                              receive_bytes)
        if send_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
        client.connect((self.address, self.port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            pages = int(file.read().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def connections(self):
        return self.descriptors() - self.own_descriptors

    def serves(self):
        """One packet on a new connection."""
        with self.connect() as client:
            echo(client, b"alive")


def packet(payload):
    return struct.pack(">I", len(payload)) + payload


def payload(size, salt=0):
    """Bytes that show a shift, a swap or a stale buffer."""
    block = bytes((i * 31 + i // 256 + salt * 17) & 255 for i in range(4096))
    return (block * (size // 4096 + 1))[:size]


def receive(client, size):
    parts = []
    while size > 0:
        part = client.recv(min(size, 1 << 20))
        if not part:
            raise AssertionError(f"stream ended, {size} bytes missing")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def echo(client, data):
    client.sendall(packet(data))
    assert receive(client, 4 + len(data)) == packet(data)


def exchange(client, data):
    """Sends all and receives as much, at the same time."""
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    back = receive(client, len(data))
    sender.join()
    return back


def ended(client):
    """True when the server closed or reset the connection."""
    try:
        while True:
            if not client.recv(65536):
                return True
    except ConnectionError:
        return True
    except socket.timeout:
        return False


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                      struct.pack("ii", 1, 0))
    client.close()


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("the condition did not come true in time")


class Skip(Exception):
    """What a test needs and this machine does not have."""


def main(module):
    """Runs the tests of a module; the exit status says whether all passed."""
    def too_long(_number, _frame):
        raise AssertionError("took too long")

    signal.signal(signal.SIGALRM, too_long)
    failed = 0
    only = sys.argv[2:]
    tests = [(name, test) for name, test in vars(module).items()
             if name.startswith("test_") and (not only or name in only)]
    assert tests, "no such test"
    for name, test in tests:
        started = time.monotonic()
        signal.alarm(getattr(test, "seconds", TEST_SECONDS))
        try:
            test()
            verdict = "ok"
        except Skip as reason:
            verdict = f"skip ({reason})"
        except Exception:  # each test reports by itself
            traceback.print_exc()
            verdict = "FAILED"
            failed += 1
        signal.alarm(0)
        print(f"{verdict:6} {name}  {time.monotonic() - started:.2f} s",
              flush=True)
    sys.exit(1 if failed else 0)
