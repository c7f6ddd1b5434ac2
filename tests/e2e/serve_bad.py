# SPDX-License-Identifier: MIT
"""Input and peers that are bad: told why, counted, and nobody else is harmed.

    python3 tests/e2e/serve_bad.py build/release [test_name ...]
"""

import socket
import struct
import sys
import threading
import time

import _server
from _server import (SANITIZED, Server, echo, ended, packet, payload, receive,
                     reset, wait_until)

LARGEST = 65532


class Steady:
    """A client that behaves, beside those that do not."""

    def __init__(self, server):
        self.client = server.connect()
        self.stop = threading.Event()
        self.echoes = 0
        self.longest = 0.0
        self.error = None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            while not self.stop.is_set():
                begun = time.monotonic()
                echo(self.client, payload(1024, self.echoes))
                self.longest = max(self.longest, time.monotonic() - begun)
                self.echoes += 1
                time.sleep(0.002)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.stop.set()
        self.thread.join()
        self.client.close()
        if kind is None:
            assert self.error is None, repr(self.error)
            assert self.echoes >= 10, self.echoes
            assert self.longest < 5, self.longest


def test_length_at_its_ends():
    """Nothing and the most are packets; the least beyond is none."""
    with Server() as server:
        with server.connect() as client:
            for size in (0, LARGEST, 0, 1, LARGEST, LARGEST - 1, 0):
                echo(client, payload(size, size))
            # Many of nothing in one piece.
            client.sendall(packet(b"") * 5000)
            assert receive(client, 20000) == packet(b"") * 5000
        for length in (LARGEST + 1, 0x7fffffff, 0x80000000, 0xffffffff):
            with server.connect() as client:
                for byte in struct.pack(">I", length):
                    client.sendall(bytes([byte]))
                    time.sleep(0.002)
                assert ended(client), length
        server.end()
        assert server.figure("closed: malformed input") == 4, server.report


def test_largest_packet_byte_at_a_time():
    data = packet(payload(3000))
    with Server() as server, server.connect() as client:
        for i, byte in enumerate(data):
            client.sendall(bytes([byte]))
            if i % 500 == 0:
                time.sleep(0.01)
        assert receive(client, len(data)) == data


def test_dripped_packet_is_closed_in_time():
    """A byte now and then is progress; the packet has to end all the same."""
    with Server("--packet-timeout", "600ms") as server:
        with Steady(server), server.connect() as client:
            begun = time.monotonic()
            client.settimeout(0.05)
            client.sendall(packet(payload(60000))[:100])
            closed = False
            while not closed and time.monotonic() - begun < 20:
                try:
                    client.sendall(b"x")
                    closed = client.recv(1) == b""
                except socket.timeout:
                    pass
                except ConnectionError:
                    closed = True
            assert closed and time.monotonic() - begun >= 0.6
        server.end()
        assert server.figure("closed: packet not complete in time") == 1, \
            server.report


def test_storm_of_connections():
    """As many as come at once, again and again, with nothing to say."""
    with Server() as server:
        with Steady(server):
            for _ in range(8):
                crowd = []
                for _ in range(250):
                    client = socket.socket()
                    client.setblocking(False)
                    client.connect_ex((server.address, server.port))
                    crowd.append(client)
                for i, client in enumerate(crowd):
                    if i % 2:
                        reset(client)
                    else:
                        client.close()
        server.serves()
        wait_until(lambda: server.connections() == 0)
        server.end()
        assert server.figure("accepted connections") >= 1000, server.report


def test_a_thousand_resets_a_second():
    """In the middle of a packet, of an answer, or of nothing."""
    most = 300 if SANITIZED else 2000
    unfinished = packet(payload(5000))[:3000]
    unread = packet(payload(20000))
    with Server() as server:
        with Steady(server):
            begun = time.monotonic()
            for i in range(most):
                client = server.connect()
                if i % 3 == 1:
                    client.sendall(unfinished)
                elif i % 3 == 2:
                    client.sendall(unread)
                reset(client)
                # No faster than the rate the test is named for.
                ahead = begun + i / 1000 - time.monotonic()
                if ahead > 0.01:
                    time.sleep(ahead)
        server.serves()
        wait_until(lambda: server.connections() == 0)
        server.end()
        assert server.figure("closed: reset by peer") >= most / 4, \
            server.report


def test_many_that_never_read_nor_finish():
    """All the ways to hold on, at once: throttled, then closed in time."""
    with Server("--stall-timeout", "1", "--packet-timeout", "2") as server:
        server.serves()
        with Steady(server):
            bad = []
            flood = packet(payload(16000)) * 16
            for i in range(40):
                client = server.connect(receive_bytes=4096)
                client.settimeout(0.05)
                try:
                    if i % 8 == 0:
                        while True:
                            client.sendall(flood)
                    else:
                        client.sendall(packet(payload(9000))[:5000])
                except (socket.timeout, ConnectionError):
                    pass
                bad.append(client)
            wait_until(lambda: server.connections() <= 1, 30)
            for client in bad:
                client.close()
        server.end()
        assert server.figure("closed: held memory without progress") == 40, \
            server.report


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
