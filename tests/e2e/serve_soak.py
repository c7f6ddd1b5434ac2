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
from _server import (LONG, SANITIZED, Server, packet, payload, receive, reset,
                     wait_until)

SECONDS = 600 if LONG else 4
SEED = int(os.environ.get("WEIR_TEST_SEED", time.time_ns() % 1000000007))
THREADS = 4
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


test_churn.seconds = SECONDS + 60
test_churn_of_two_loops_with_little_memory.seconds = SECONDS + 60

if __name__ == "__main__":
    _server.main(sys.modules[__name__])
