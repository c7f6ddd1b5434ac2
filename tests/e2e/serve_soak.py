# SPDX-License-Identifier: MIT
"""A server under churn for a while: every byte is right, and nothing grows.

    python3 tests/e2e/serve_soak.py build/release [test_name ...]

A few seconds as a rule; ten minutes with script/test --long.  Clients come,
exchange packets of random sizes in random pieces, and go in every way there is;
some never read.  The seed is printed, and WEIR_TEST_SEED repeats it.
"""

import os
import random
import socket
import sys
import threading
import time

import _server
from _server import (LONG, SANITIZED, Server, Skip, packet, payload, receive,
                     reset, wait_until)

SECONDS = 600 if LONG else 4
SEED = int(os.environ.get("WEIR_TEST_SEED", time.time_ns() % 1000000007))
THREADS = 4
BURST = 40
MIB = 1 << 20


def talk(client, rng):
    """Some packets, several at a time, cut anywhere."""
    for _ in range(rng.randrange(1, 20)):
        sizes = [rng.choice((0, 1, 100, 1024, 1024, 1024, 5000, 60000))
                 for _ in range(rng.randrange(1, 6))]
        data = b"".join(packet(payload(size, rng.randrange(256)))
                        for size in sizes)
        at = 0
        while at < len(data):
            piece = rng.randrange(1, len(data) - at + 1)
            client.sendall(data[at:at + piece])
            at += piece
        back = receive(client, len(data))
        if back != data:
            raise AssertionError(f"{sizes}: not what was sent")


def leave(client, rng):
    """By an end, a reset, half an end, or in the middle of a packet."""
    way = rng.randrange(5)
    if way == 0:
        reset(client)
    elif way == 1:
        client.sendall(packet(payload(3000))[:rng.randrange(1, 3000)])
        client.close()
    elif way == 2:
        client.sendall(packet(payload(3000)))
        client.shutdown(socket.SHUT_WR)
        assert receive(client, 3004) == packet(payload(3000))
        assert client.recv(1) == b""
        client.close()
    elif way == 3:
        client.settimeout(0.02)
        try:
            while True:
                client.sendall(packet(payload(16000)))
        except socket.timeout:
            pass
        reset(client)
    else:
        client.close()


class Churn:
    """Threads that do so until the time is over."""

    def __init__(self, server, seconds):
        self.server = server
        self.end = time.monotonic() + seconds
        self.errors = []
        self.visits = 0
        self.threads = [threading.Thread(target=self.run, args=(i,))
                        for i in range(THREADS)]

    def run(self, index):
        rng = random.Random(SEED * THREADS + index)
        try:
            while time.monotonic() < self.end and not self.errors:
                client = self.server.connect()
                talk(client, rng)
                leave(client, rng)
                self.visits += 1
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(error)

    def go(self):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        assert not self.errors, repr(self.errors)


def soak(*options):
    print(f"       seed {SEED}", flush=True)
    with Server("--packet-timeout", "30", *options) as server:
        first = Churn(server, SECONDS / 5)
        first.go()
        before = server.rss_bytes()
        second = Churn(server, SECONDS * 4 / 5)
        second.go()
        grown = server.rss_bytes() - before
        assert second.visits > 0
        wait_until(lambda: server.connections() == 0, 30)
        # Four times as much of the same must not need more.
        assert SANITIZED or grown < 8 * MIB, grown
        server.end()


def test_churn():
    soak()


def test_churn_of_two_loops_with_little_memory():
    soak("--threads", "2", "--buffer-limit", "512k")


def test_memory_of_a_burst_goes_back():
    """By the engine itself, while it serves; the seconds are decay's."""
    if SANITIZED:
        raise Skip("a sanitizer keeps memory")
    os.environ["WEIR_DECAY"] = "400"
    try:
        with Server() as server:
            burst_and_back(server)
            server.end()
    finally:
        del os.environ["WEIR_DECAY"]


def anonymous_bytes(server):
    """What of its memory is no file's."""
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def burst_and_back(server):
    good = [server.connect() for _ in range(20)]

    def echo():
        for client in good:
            client.sendall(packet(payload(1024)))
        for client in good:
            assert receive(client, 1028) == packet(payload(1024))

    # As it is while it waits below, and not as it began.
    for _ in range(40):
        echo()
        time.sleep(0.02)
    before = anonymous_bytes(server)
    limit = before * 1.25 + MIB / 2
    slow = [server.connect(receive_bytes=4096) for _ in range(BURST)]
    piece = packet(payload(1024)) * 64
    at = [0] * BURST

    def is_full():
        """They send and do not read, until the server holds a lot."""
        for i, client in enumerate(slow):
            client.setblocking(False)
            try:
                at[i] += client.send(piece[at[i] % len(piece):])
            except BlockingIOError:
                pass
        return anonymous_bytes(server) > limit + MIB
    wait_until(is_full, 40)
    for client in slow:
        client.close()

    def is_back():
        echo()
        return anonymous_bytes(server) <= limit
    wait_until(is_back, 50)
    for client in good:
        client.close()


test_churn.seconds = SECONDS + 60
test_churn_of_two_loops_with_little_memory.seconds = SECONDS + 60

if __name__ == "__main__":
    _server.main(sys.modules[__name__])
