# SPDX-License-Identifier: MIT
"""The modes of `weir load` that do harm: what they do, and what they find.

    python3 tests/e2e/load_modes.py build/release [test_name ...]

Against `weir serve` over each back end: it throttles or closes, says why, and
lives on.  Against servers of a few lines that forget, ignore or invent: a mode
that never finds fault has not been tested.
"""

import json
import select
import sys
import time

import _server
from _server import SANITIZED, Server
from load_run import Echo, honest, load, load_json

MIB = 1 << 20


def backends():
    """Those that work here."""
    for backend in "epoll", "io_uring":
        try:
            with Server("--backend", backend):
                pass
        except AssertionError as failed:
            if backend == "epoll" or not any(
                    reason in str(failed)
                    for reason in ("not permitted", "not implemented")):
                raise
            continue
        yield backend


def mode(name, *arguments, port, status=0):
    return load_json("--mode", name, *arguments, port=port, status=status)


def test_idle_connections_are_served_when_they_wake():
    for backend in backends():
        with Server("--backend", backend) as server:
            figures = mode("idle", "-c", "300", "-t", "300ms",
                           port=server.port)
        assert figures["connected"] == figures["open"] == 300, figures
        assert figures["recovered"] == 300 and figures["good"], figures
        assert figures["sent_bytes"] == 0, figures


def test_idle_connections_closed_by_a_server_are_counted():
    for backend in backends():
        with Server("--backend", backend, "--idle-timeout", "300ms") as server:
            figures = mode("idle", "-c", "50", "-t", "3", port=server.port)
            assert figures["closed"] == 50 and figures["open"] == 0, figures
            assert 250e6 < figures["first_closed_ns"] < 2.5e9, figures
            server.end()
            assert server.figure("closed: idle too long") == 50


def slow_readers(backend):
    """Pauses that the server made for them."""
    with Server("--backend", backend) as server:
        server.serves()
        before = server.rss_bytes()
        figures = mode("slow-reader", "-c", "12", "-t", "1",
                       "--timeout", "20", port=server.port)
        grown = server.rss_bytes() - before
        server.end()
    assert figures["throttled"] == figures["open"] == 12, figures
    assert figures["recovered"] == 12, figures
    assert figures["sent_bytes"] > 12 * 64 * 1024, figures
    # A quota of 64 KiB and what one pass may bring, for each.
    assert SANITIZED or grown < 8 * MIB, (backend, grown)
    return server.figure("pauses of receiving, peer not reading")


def test_slow_readers_are_throttled_and_lose_nothing():
    for backend in backends():
        # All may be stuck before a busy server reads what they sent, or
        # where others have used up the kernel's memory for sockets.
        assert any(slow_readers(backend) > 0 for attempt in range(5)), backend


def test_slow_readers_stop_at_what_they_were_to_send():
    with Server() as server:
        figures = mode("slow-reader", "-c", "5", "-t", "300ms", "--bytes",
                       "100k", port=server.port)
    assert figures["sent_bytes"] == 5 * 102400, figures
    assert figures["most_bytes_by_one"] == 102400, figures
    # The last packet was cut there, and finished afterwards.
    assert figures["throttled"] == 0 and figures["recovered"] == 5, figures


def test_slow_readers_give_way_in_time():
    for backend in backends():
        with Server("--backend", backend, "--stall-timeout", "1") as server:
            figures = mode("slow-reader", "-c", "4", "-t", "10",
                           port=server.port)
            assert figures["closed"] + figures["reset"] == 4, figures
            assert figures["elapsed_ns"] < 9e9, "it ends when all are gone"
            server.end()
            assert server.figure("closed: held memory without progress") == 4


def test_half_open_packets_may_be_finished():
    for backend in backends():
        with Server("--backend", backend) as server:
            for size in "0", "1", "1024", "65532":
                figures = mode("half-open", "-c", "40", "-s", size, "-t",
                               "200ms", port=server.port)
                assert figures["recovered"] == 40, (size, figures)
                assert 0 < figures["sent_bytes"] < 40 * (int(size) + 4)


def test_half_open_packets_are_closed_in_time():
    for backend in backends():
        with Server("--backend", backend, "--stall-timeout", "500ms") as server:
            figures = mode("half-open", "-c", "40", "-t", "10",
                           port=server.port)
            assert figures["closed"] + figures["reset"] == 40, figures
            server.end()
            assert server.figure("closed: held memory without progress") == 40


def test_garbage_is_answered_closed_or_borne():
    for backend in backends():
        with Server("--backend", backend) as server:
            figures = mode("garbage", "-c", "40", "-t", "500ms", "--seed",
                           "7", port=server.port)
            kinds = figures["kinds"]
            for name in "empty", "largest", "bytewise":
                kind = kinds[name]
                assert kind["answered"] == kind["played"] > 0, (name, kinds)
            closed = 0
            for name in "beyond", "negative", "random":
                kind = kinds[name]
                assert kind["closed"] == kind["played"] > 0, (name, kinds)
                closed += kind["closed"]
            for name in "cut", "knock":
                assert kinds[name]["played"] > 0, kinds
            assert figures["good"] and figures["newcomer_ns"] > 0, figures
            server.end()
            assert server.figure("closed: malformed input") == closed


def test_bursts():
    for backend in backends():
        with Server("--backend", backend) as server:
            figures = mode("burst", "-c", "60", "-m", "50", "-d", "4", "-t",
                           "600ms", "--pause", "100ms", port=server.port)
        assert figures["bursts"] >= 2, figures
        assert figures["packets"] == figures["bursts"] * 50 * 4, figures
        assert figures["burst_ns"]["count"] == figures["bursts"], figures
        assert figures["errors"]["total"] == 0, figures
        # The pauses are no part of the time the packets took.
        assert figures["elapsed_ns"] < 600e6, figures


def test_the_text_says_what_the_json_says():
    with Server() as server:
        done = load("--mode", "half-open", "-c", "9", "-t", "100ms",
                    port=server.port)
        assert done.returncode == 0, done
        assert "half-open, 9 connections" in done.stdout, done.stdout
        assert "recovered   9 " in done.stdout, done.stdout
        assert "serves a newcomer in" in done.stdout, done.stdout
        done = load("--mode", "garbage", "-c", "9", "-t", "100ms",
                    port=server.port)
        assert "lengths of 0xffffffff" in done.stdout, done.stdout


class Choir(Echo):
    """Hands what one client says to all of them, the way @alter has it."""

    def __init__(self, alter=lambda _number, data: data):
        super().__init__(None)
        self.alter = alter

    def loop(self):
        poll = select.epoll()
        poll.register(self.listener, select.EPOLLIN)
        clients = {}
        while not self.stopping.is_set():
            for number, _ in poll.poll(0.05):
                if number == self.listener.fileno():
                    client, _ = self.listener.accept()
                    clients[client.fileno()] = client
                    poll.register(client, select.EPOLLIN)
                    continue
                try:
                    data = clients[number].recv(65536)
                except ConnectionError:
                    data = b""
                if not data:
                    clients.pop(number).close()
                    continue
                for place, client in enumerate(list(clients.values())):
                    try:
                        client.sendall(self.alter(place, data))
                    except ConnectionError:
                        pass
        for client in clients.values():
            client.close()


def test_broadcasts_are_heard_by_all():
    with Choir() as server:
        figures = mode("broadcast", "-c", "20", "-t", "300ms",
                       port=server.port)
    assert figures["packets"] > 0 and figures["good"], figures
    assert figures["delivered"] == figures["packets"] * 19, figures
    assert figures["last_heard_ns"]["count"] == figures["packets"], figures
    with Choir() as server:
        done = load("--mode", "broadcast", "-c", "3", "-t", "100ms",
                    port=server.port)
    assert done.returncode == 0 and " to all, " in done.stdout, done


def test_broadcasts_of_the_server():
    for backend in backends():
        with Server("--backend", backend, "--broadcast", "close",
                    "--threads", "2") as server:
            # Who is connected may not be a member yet: on a busy machine the
            # second loop accepts later than the first packet comes.
            for _ in range(5):
                done = load("--mode", "broadcast", "-c", "50", "-t", "300ms",
                            "--json", "-", port=server.port)
                if done.returncode == 0:
                    break
            figures = json.loads(done.stdout)
            server.end()
        assert figures["packets"] > 0 and figures["good"], figures
        assert figures["delivered"] == figures["packets"] * 49, figures


def test_broadcasts_that_miss_somebody():
    def deaf(place, data):
        return b"" if place == 2 else data

    with Choir(deaf) as server:
        figures = mode("broadcast", "-c", "5", "-t", "1", "--timeout",
                       "300ms", port=server.port, status=1)
    assert figures["unanswered"] == 1 and figures["packets"] == 0, figures


def test_broadcasts_with_a_wrong_byte():
    flipped = []

    def flip(place, data):
        if place != 1 or flipped:
            return data
        flipped.append(place)
        return data[:-1] + bytes([data[-1] ^ 1])

    with Choir(flip) as server:
        figures = mode("broadcast", "-c", "4", "-t", "100ms", "--timeout",
                       "300ms", port=server.port, status=1)
    assert figures["mismatches"] == 1 and not figures["good"], figures
    assert figures["open"] == 2, figures


def test_broadcasts_that_are_told_twice():
    with Choir(lambda place, data: data * 2 if place == 0 else data) as server:
        figures = mode("broadcast", "-c", "4", "-t", "100ms", "--timeout",
                       "300ms", port=server.port, status=1)
    assert figures["mismatches"] >= 1, figures


# ---- servers with faults ---------------------------------------------------


def test_a_server_that_throttles_by_forgetting():
    kept = {}

    def forget(index, _before, data):
        part = data[:max(0, 50000 - kept.get(index, 0))]
        kept[index] = kept.get(index, 0) + len(data)
        return part

    with Echo(forget) as server:
        figures = mode("slow-reader", "-c", "3", "-t", "300ms", "--bytes",
                       "200k", "--timeout", "500ms", port=server.port,
                       status=1)
    assert figures["unanswered"] == 3 and figures["recovered"] == 0, figures


def test_a_server_that_returns_a_wrong_byte_later():
    def flip(_index, before, data):
        return data if before == 0 else b"?" * len(data)

    with Echo(flip) as server:
        figures = mode("slow-reader", "-c", "3", "-t", "300ms", "--bytes",
                       "300k", "--timeout", "1", port=server.port, status=1)
    assert figures["mismatches"] == 3, figures


def test_a_server_that_echoes_garbage():
    with Echo(honest) as server:
        figures = mode("garbage", "-c", "8", "-t", "200ms", port=server.port,
                       status=1)
    assert figures["mismatches"] > 0 and not figures["good"], figures


def test_a_server_that_waits_for_4_gib():
    def wait(_index, before, data):
        return data if before == 0 and data[:2] == b"\0\0" else b""

    with Echo(wait) as server:
        figures = mode("garbage", "-c", "8", "-t", "100ms", "--timeout",
                       "300ms", port=server.port, status=1)
    assert figures["kinds"]["negative"]["ignored"] > 0, figures


def test_a_server_that_serves_no_newcomer():
    started = time.monotonic()

    def tired(_index, before, data):
        late = time.monotonic() - started > 1
        return None if late and before == 0 else data

    with Echo(tired) as server:
        figures = mode("half-open", "-c", "5", "-t", "1.5", port=server.port,
                       status=1)
    assert figures["recovered"] == 5, figures
    assert figures["newcomer_ns"] == 0 and not figures["good"], figures


def test_nobody_listening():
    done = load("--mode", "idle", "-c", "5", "-t", "100ms", port=1)
    assert done.returncode == 1, done
    assert "nobody listens there" in done.stderr, done


def test_what_makes_no_sense_is_refused():
    for arguments, word in (
            (("--mode", "idle", "--rate", "5"), "--rate"),
            (("--mode", "burst", "-n", "5"), "--packets"),
            (("--mode", "garbage", "-m", "5"), "--active"),
            (("--mode", "garbage", "--protocol", "raw"), "packets"),
            (("--mode", "half-open", "--protocol", "raw"), "packets"),
            (("--mode", "broadcast", "-c", "1"), "listener"),
            (("--mode", "broadcast", "-s", "4"), "8 bytes"),
            (("--mode", "slow"), "slow-reader")):
        done = load(*arguments)
        assert done.returncode == 2, done
        assert word in done.stderr, done.stderr
    help_page = load("--help").stdout
    for name in ("idle", "slow-reader", "burst", "broadcast", "half-open",
                 "garbage"):
        assert name in help_page, help_page


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
