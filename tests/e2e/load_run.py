# SPDX-License-Identifier: MIT
"""What `weir load` measures and catches, against servers of this file.

    python3 tests/e2e/load_run.py build/release [test_name ...]

The servers are a few lines of Python: some are wrong on purpose, since a
verifier that never fails a server has not been tested.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import _server
from _server import Server, weir_command


def load(*arguments, port=None, seconds=50):
    command = weir_command("load", *arguments)
    if port is not None:
        command += ["--port", str(port)]
    return subprocess.run(command, capture_output=True, text=True,
                          timeout=seconds, check=False)


def load_json(*arguments, port, status=0):
    done = load(*arguments, "--json", "-", port=port)
    assert done.returncode == status, done
    return json.loads(done.stdout)


class Echo:
    """An echo server whose answers pass through a function.

    @answer gets the connection's number, the bytes it received before, and
    new bytes; what it returns is sent; None closes the connection.
    """

    def __init__(self, answer):
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.listener.getsockname()[1]
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(10)
        self.listener.close()

    def loop(self):
        poll = select.epoll()
        poll.register(self.listener, select.EPOLLIN)
        clients = {}
        while not self.stopping.is_set():
            for number, _ in poll.poll(0.05):
                if number == self.listener.fileno():
                    client, _ = self.listener.accept()
                    clients[client.fileno()] = [client, len(clients), 0]
                    poll.register(client, select.EPOLLIN)
                else:
                    self.receive(poll, clients, number)
        for client, _, _ in clients.values():
            client.close()

    def receive(self, poll, clients, number):
        entry = clients[number]
        client, index, before = entry
        try:
            data = client.recv(65536)
            entry[2] += len(data)
            answer = self.answer(index, before, data) if data else None
            if answer is not None:
                client.sendall(answer)
                return
        except ConnectionError:
            pass
        # Closing is not enough while a process that the main thread is just
        # starting holds a copy of the descriptor.
        poll.unregister(number)
        del clients[number]
        client.close()


def honest(_index, _before, data):
    return data


def flip_at(position):
    """Flips one bit at a position of each connection's stream."""
    def answer(_index, before, data):
        if before <= position < before + len(data):
            data = bytearray(data)
            data[position - before] ^= 0x10
        return bytes(data)
    return answer


def test_honest_server_has_no_errors():
    with Echo(honest) as server:
        for protocol in "packet", "raw":
            figures = load_json("-n", "5000", "-c", "20", "-d", "4",
                                "--protocol", protocol, port=server.port)
            assert figures["packets"] == 5000
            assert figures["errors"]["total"] == 0
            assert figures["mismatches"] == 0
            assert figures["latency_ns"]["count"] == 5000
            assert figures["connected"] == 20


def test_one_flipped_bit_is_one_mismatch():
    # In the length, in the mark, in the payload, at its last byte.
    for position in 1 * 1028 + 2, 2 * 1028 + 6, 3 * 1028 + 500, 4 * 1028 - 1:
        with Echo(flip_at(position)) as server:
            done = load("-n", "100", "-c", "1", port=server.port)
        assert done.returncode == 1, done
        assert "mismatches  1\n" in done.stdout, done.stdout
        packet, byte = divmod(position, 1028)
        assert f"packet {packet}, byte {byte}: " in done.stdout, done.stdout


def test_without_verify_a_flipped_bit_is_not_looked_for():
    with Echo(flip_at(500)) as server:
        done = load("-n", "100", "-c", "1", "--no-verify", port=server.port)
    assert done.returncode == 0, done
    assert "not looked for" in done.stdout


def test_answers_of_another_packet_are_mismatches():
    held = {}

    def late(index, _before, data):
        """Returns the packet before, the way a recycled buffer would."""
        answer, held[index] = held.get(index, data), data
        return answer

    with Echo(late) as server:
        figures = load_json("-n", "50", "-c", "1", port=server.port, status=1)
    # The first packet is the connect's own and right.
    assert figures["mismatches"] >= 49, figures


def test_bytes_nobody_asked_for_are_an_error():
    with Echo(lambda _i, _b, data: data + b"!") as server:
        figures = load_json("-n", "50", "-c", "4", "--timeout", "1",
                            port=server.port, status=1)
    assert figures["errors"]["unasked"] > 0, figures


def test_closed_connections_are_counted():
    def close_late(_index, before, data):
        return data if before < 20 * 1028 else None

    with Echo(close_late) as server:
        figures = load_json("-t", "20", "-c", "8", "-w", "0",
                            port=server.port, status=1)
    assert figures["errors"]["closed"] + figures["errors"]["reset"] == 8
    # It ends when nobody is left, not after 20 s.
    assert figures["elapsed_ns"] < 10e9


def test_a_server_that_closes_at_once_may_speak_something_else():
    with Echo(lambda *_: None) as server:
        done = load("-t", "1", "-c", "3", port=server.port)
    assert done.returncode == 1, done
    assert "does it speak this --protocol?" in done.stderr, done
    assert "nothing was measured" in done.stdout, done.stdout


def test_silence_ends_with_a_clear_error():
    with Echo(lambda *_: b"") as server:
        started = time.monotonic()
        done = load("-t", "30", "-c", "3", "--timeout", "500ms",
                    port=server.port)
    assert done.returncode == 1
    assert "does not answer" in done.stderr, done
    assert time.monotonic() - started < 10


def test_a_server_that_falls_silent_is_unanswered():
    def answer(_index, before, data):
        return data if before < 10 * 1028 else b""

    with Echo(answer) as server:
        figures = load_json("-n", "1000", "-c", "5", "--timeout", "500ms",
                            port=server.port, status=1)
    assert figures["errors"]["unanswered"] == 5, figures


def test_nobody_listening():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # taken, and nobody accepts
        port = free.getsockname()[1]
        done = load("-c", "50", port=port)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}: nothing was measured\n" in done.stdout, done
    assert "latency" not in done.stdout, done.stdout
    assert "50 connections refused" in done.stdout, done.stdout
    assert "nobody listens there" in done.stderr


def test_open_loop_counts_from_the_due_time():
    # The server sleeps 0.5 s once: packets due meanwhile must show it, which
    # a tool that waits for answers before sending would hide.
    slept = []

    def sleepy(_index, before, data):
        if before > 5 * 1028 and not slept:
            slept.append(True)
            time.sleep(0.5)
        return data

    with Echo(sleepy) as server:
        figures = load_json("-r", "1000", "-c", "10", "-t", "2", "-w", "0",
                            port=server.port)
    assert slept
    latency = figures["latency_ns"]
    # A quarter of the window was asleep: p90 sees at least 0.2 s of it.
    assert latency["p90"] > 150e6, latency
    assert 1900 <= latency["count"] <= 2001, latency


def test_open_loop_keeps_its_rate():
    with Echo(honest) as server:
        figures = load_json("-r", "2000", "-c", "7", "-t", "1.5",
                            port=server.port)
    assert 1800 < figures["packets_per_second"] < 2100, figures


def test_idle_connections_stay_connected():
    with Echo(honest) as server:
        figures = load_json("-c", "200", "-m", "3", "-n", "300",
                            port=server.port)
    assert figures["connected"] == 200
    assert figures["errors"]["total"] == 0


def test_sizes_at_their_limits():
    with Echo(honest) as server:
        for size in "0", "1", "7", "8", "9", "65532":
            figures = load_json("-s", size, "-n", "100", "-c", "3", "-d", "3",
                                port=server.port)
            assert figures["packets"] == 100, figures
            assert figures["mismatches"] == 0, figures
        done = load("-s", "65533", port=server.port)
        assert done.returncode == 2 and "65532" in done.stderr, done
        done = load("-s", "0", "--protocol", "raw", port=server.port)
        assert done.returncode == 2, done


def test_interrupt_still_reports():
    with Echo(honest) as server:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "out.json")
            process = subprocess.Popen(
                weir_command("load", "-t", "0", "-c", "5", "-w", "0",
                             "--port", str(server.port), "--json", path),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)
            assert process.returncode == 0, (out, err)
            assert "(interrupted)" in out
            with open(path, encoding="utf-8") as file:
                figures = json.load(file)
    assert figures["interrupted"] and figures["packets"] > 0


def test_descriptors_that_do_not_suffice_are_said():
    import resource

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

    with Echo(honest) as server:
        done = subprocess.run(
            weir_command("load", "-c", "500", "-n", "100", "--port",
                         str(server.port)),
            capture_output=True, text=True, timeout=30, preexec_fn=limit,
            check=False)
    assert done.returncode == 0, done
    assert "allows 68 of 500 connections" in done.stderr, done.stderr
    assert "68 connections" in done.stdout, done.stdout


def test_other_machines_are_refused():
    for address in "192.0.2.1", "2001:db8::1", "0.0.0.0":
        done = load("--address", address)
        assert done.returncode == 2, done
        assert "--allow-remote" in done.stderr, done.stderr
    done = load("--address", "example.com")
    assert done.returncode == 2 and "is no address" in done.stderr, done


def time_wait(port):
    """The TIME_WAIT entries that name a port, as (local, remote) pairs."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        fields = [line.split() for line in file][1:]
    return {(entry[1], entry[2]) for entry in fields
            if entry[3] == "06" and f":{port:04X}" in entry[1] + entry[2]}


def test_nothing_is_left_in_time_wait():
    with Echo(honest) as server:
        # A free port may still be the other end of somebody else's past.
        before = time_wait(server.port)
        for _ in range(3):
            load_json("-c", "300", "-n", "600", port=server.port)
        left = time_wait(server.port) - before
    assert not left, left


def test_weir_serve_under_load():
    for options in (), ("--memory", "malloc"), ("--threads", "2"):
        with Server(*options) as server:
            figures = load_json("-c", "500", "-d", "3", "-n", "20000",
                                port=server.port)
            assert figures["packets"] == 20000
            assert figures["errors"]["total"] == 0
            assert figures["mismatches"] == 0
    with Server("--protocol", "raw") as server:
        figures = load_json("-c", "50", "-n", "2000", "--protocol", "raw",
                            port=server.port)
        assert figures["mismatches"] == 0


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
