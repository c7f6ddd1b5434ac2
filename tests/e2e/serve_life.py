# SPDX-License-Identifier: MIT
"""How `weir serve` starts and ends, and what it says.

    python3 tests/e2e/serve_life.py build/release [test_name ...]
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import _server
from _server import (BACKEND, Server, echo, packet, payload, receive, wait_until,
                     weir_command)


def run(*arguments):
    return subprocess.run(weir_command("serve", *arguments), timeout=20,
                          capture_output=True, text=True, check=False)


def test_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for threads in ("1", "2"):
            done = run("--port", str(port), "--threads", threads)
            assert done.returncode == 1, done
            assert f"port {port} of 127.0.0.1 is in use" in done.stderr
            assert done.stdout == "", done
            assert "leaks" not in done.stderr, done


def test_port_shared_by_another_server():
    """Two servers of several threads must not split the connections."""
    with Server("--threads", "2") as server:
        done = run("--port", str(server.port), "--threads", "2")
        assert done.returncode == 1, done
        assert "is in use" in done.stderr, done
        server.serves()


def test_port_again_at_once():
    with Server() as server:
        port = server.port
        server.serves()
        client = server.connect()
        echo(client, b"open at the end")
        server.end()
        client.close()
    with Server(port=port) as server:
        assert server.port == port
        server.serves()


def test_bad_options():
    for options, text in (
            (("--address", "example.invalid"), "is no address"),
            (("--address", "192.0.2.1"), "no address of this machine"),
            (("--port", "65536"), "port"),
            (("--threads", "0"), "threads"),
            (("--buffer-limit", "0"), "buffer-limit"),
            (("--buffer-limit", "64k"), "buffer-limit"),
            (("--buffer-limit", "128k", "--threads", "2"), "least 192k"),
            (("--memory", "malloc", "--buffer-limit", "1M"), "malloc"),
            (("--backend", "kqueue"), "backend"),
            (("--protocl", "raw"), "--protocol")):
        done = run("--port", "0", *options)
        assert done.returncode in (1, 2), (options, done)
        assert text in done.stderr, (options, done)
        assert "listening" not in done.stdout


def test_announces_backend():
    with Server("--backend", "auto") as server:
        server.end()
        assert "(auto: best of those that work" in server.errors, server.errors
        # The one not taken comes with its reason.
        assert ("backend io_uring (auto" in server.errors or
                "io_uring cannot be used" in server.errors), server.errors
    with Server("--backend", "epoll") as server:
        server.end()
        assert "backend epoll, " in server.errors, server.errors
    if BACKEND == "epoll":
        return
    # A part of it can be forbidden, and it says what it uses.
    with Server("--backend", "auto", "--without",
                "deferred,multishot-receive") as server:
        server.serves()
        server.end()
        line = server.errors.splitlines()[0]
        assert "deferred" not in line and "receive" not in line, line
        assert ("with buffer-ring,multishot-accept," in line or
                "backend epoll" in server.errors), server.errors


def drain(*options, number=signal.SIGTERM):
    """Answers on their way arrive although the server is told to end."""
    data = packet(payload(40000)) * 8
    # The client keeps its connection, so that the grace is used up.
    with Server("--grace", "2", *options) as server:
        idle = [server.connect() for _ in range(50)]
        client = server.connect(receive_bytes=4096)
        client.sendall(data[:200000])
        time.sleep(0.3)
        result = []

        def read_slowly():
            time.sleep(0.5)
            try:
                result.append(receive(client, 40004 * 2))
            except (AssertionError, ConnectionError) as error:
                result.append(error)

        reader = threading.Thread(target=read_slowly)
        reader.start()
        server.end(number)
        reader.join()
        assert result[0] == data[:40004 * 2], result[0]
        assert server.figure("closed: loop stopped") >= 50
        for other in idle:
            assert other.recv(1) == b""
            other.close()
        client.close()


def test_drain_on_sigterm():
    drain()


def test_drain_on_sigint():
    drain(number=signal.SIGINT)


def test_drain_with_malloc_and_threads():
    drain("--memory", "malloc", "--threads", "2")


def send_what_is_taken(client):
    """By a server whose answers nobody reads; where the system is short of
    memory for sockets it is little at a time, and five seconds are enough."""
    client.settimeout(0.3)
    deadline = time.monotonic() + 5
    try:
        while time.monotonic() < deadline:
            client.send(packet(payload(60000)))
    except (TimeoutError, socket.timeout):
        pass


def test_drain_ends_by_deadline():
    with Server("--grace", "500ms") as server:
        client = server.connect(receive_bytes=4096)
        send_what_is_taken(client)
        started = time.monotonic()
        server.end()
        took = time.monotonic() - started
        assert 0.4 <= took < 5, took
        client.close()


def test_second_signal_ends_at_once():
    with Server("--grace", "60") as server:
        client = server.connect(receive_bytes=4096)
        send_what_is_taken(client)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert server.process.poll() is None
        server.end(signal.SIGINT, seconds=5)
        client.close()


def test_figures_while_running():
    with Server() as server:
        server.serves()
        server.process.send_signal(signal.SIGUSR1)
        lines = []
        while True:
            line = server.process.stdout.readline()
            lines.append(line)
            if "net.operations" in line:
                break
        assert any("accepted connections" in line for line in lines), lines
        server.serves()


def test_figures_nobody_reads():
    """A full pipe costs reports, never service."""
    with Server() as server:
        pipe = server.process.stdout
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
        with server.connect() as client:
            for i in range(20):
                server.process.send_signal(signal.SIGUSR1)
                echo(client, payload(1000, i))
        server.serves()
        # What did fit is read, and the next report says what is missing.
        text = os.read(pipe.fileno(), 65536)
        assert b"accepted connections" in text, text
        assert b"cut short" not in text, text
        server.process.send_signal(signal.SIGUSR1)
        while b"cut short or lost because nobody" not in text:
            text += os.read(pipe.fileno(), 65536)


def check_json(text):
    figures = json.loads(text)
    assert figures["net"]["accepted"] == 1, figures
    assert figures["net"]["bytes_sent"] == 9, figures
    assert figures["net"]["closed"]["PEER"] == 1, figures
    assert "net.operations" in json.dumps(figures["memory"])
    assert figures["leaks"] == 0


def serve_once(server):
    with server.connect() as client:
        echo(client, b"12345")
    wait_until(lambda: server.connections() == 0)


def test_figures_as_json():
    with Server("--json", "-") as server:
        serve_once(server)
        server.process.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        server.report, errors = server.process.communicate(timeout=10)
    # Nothing but the object; words for people are elsewhere.
    check_json(server.report)
    assert errors.count("accepted connections") == 2, errors
    assert "\nleaks: none\n" in errors, errors
    assert server.process.returncode == 0


def test_figures_as_json_in_a_file():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "figures.json")
        with Server("--json", path) as server:
            serve_once(server)
        with open(path, encoding="utf-8") as file:
            check_json(file.read())
        path = os.path.join(folder, "no", "such", "figures.json")
        done = run("--port", "0", "--json", path)
    assert done.returncode == 1 and "cannot write" in done.stderr, done


def test_threads_serve():
    with Server("--threads", "2") as server:
        clients = [server.connect() for _ in range(60)]
        for turn in range(3):
            for i, client in enumerate(clients):
                echo(client, payload(500 * turn, i))
        for client in clients:
            client.close()


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
