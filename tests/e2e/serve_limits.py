# SPDX-License-Identifier: MIT
"""Clients that do harm, and resources that run out: the server lives on.

    python3 tests/e2e/serve_limits.py build/release [test_name ...]
"""

import socket
import sys
import threading
import time

import _server
from _server import (SANITIZED, Server, echo, ended, exchange, packet, payload,
                     receive, reset, wait_until)

MIB = 1 << 20


def push_until_blocked(client, data):
    """Sends until the server does not take any more; returns the bytes."""
    client.settimeout(0.2)
    sent = 0
    try:
        while True:
            sent += client.send(data)
    except (TimeoutError, socket.timeout):
        return sent


def test_client_that_never_reads():
    """Backpressure: it is no longer read from, and others are served."""
    data = packet(payload(16000)) * 16
    with Server() as server:
        server.serves()
        before = server.rss_bytes()
        deaf = []
        for _ in range(20):
            client = server.connect(receive_bytes=4096)
            push_until_blocked(client, data)
            deaf.append(client)
        with server.connect() as client:
            for i in range(200):
                echo(client, payload(1024, i))
        grown = server.rss_bytes() - before
        # 20 connections, each a quota of 64 KiB and one receive of 64 KiB.
        assert SANITIZED or grown < 8 * MIB, grown
        cpu = server.cpu_seconds()
        time.sleep(0.5)
        assert server.cpu_seconds() - cpu < 0.1, "the server spins"
        for client in deaf:
            client.close()
        server.end()
        assert server.figure("pauses of receiving, peer not reading") >= 20


def test_account_limit_is_strict():
    """Accounts: never above the limit, and everybody is served in the end."""
    data = packet(payload(16000)) * 16
    with Server("--account-limit", "1M", "--connection-limit", "256k",
                "--send-quota", "1M") as server:
        server.serves()
        deaf = []
        for _ in range(20):
            client = server.connect(receive_bytes=4096)
            try:
                push_until_blocked(client, data)
            except ConnectionError:
                pass  # it held most, and had to give way
            deaf.append(client)
        for client in deaf:
            client.close()
        with server.connect() as client:
            for i in range(50):
                echo(client, payload(1024, i))
        server.end()
        assert server.figure("pauses of receiving, account full") >= 1
        assert 0 < server.figure("most of them") <= MIB
        assert server.figure("bytes pinned, by accounts") == 0


def test_tiny_packets_never_read():
    """Small answers pin whole buffers: it is those that count."""
    with Server() as server:
        server.serves()
        before = server.rss_bytes()
        client = server.connect(receive_bytes=2048)
        client.settimeout(0.2)
        try:
            for _ in range(200000):
                client.sendall(packet(b""))
        except (TimeoutError, socket.timeout):
            pass
        server.serves()
        assert SANITIZED or server.rss_bytes() - before < 8 * MIB
        client.close()


def test_slow_reader_gets_all():
    """A pause is not a loss: everything comes once it is read."""
    data = b"".join(packet(payload(30000, i)) for i in range(500))
    with Server() as server, server.connect(receive_bytes=4096) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        time.sleep(0.5)
        assert receive(client, len(data)) == data
        sender.join()
        echo(client, b"still here")
        server.end()
        assert server.figure("pauses of receiving, peer not reading") >= 1


def test_deaf_client_is_closed_in_time():
    with Server("--stall-timeout", "1") as server:
        client = server.connect(receive_bytes=4096)
        push_until_blocked(client, packet(payload(16000)) * 16)
        client.settimeout(10)
        assert server.connections() == 1
        wait_until(lambda: server.connections() == 0)
        client.close()
        server.end()
        assert server.figure("closed: held memory without progress") == 1


def test_unfinished_packet_is_closed_in_time():
    with Server("--stall-timeout", "1") as server:
        idle = server.connect()
        with server.connect() as client:
            client.sendall(packet(payload(5000))[:3000])
            assert ended(client)
        echo(idle, b"holds nothing, may stay")
        idle.close()
        server.end()
        assert server.figure("closed: held memory without progress") == 1


def test_idle_is_closed_in_time():
    with Server("--idle-timeout", "1") as server:
        with server.connect() as client:
            for _ in range(8):
                echo(client, b"busy")
                time.sleep(0.2)
            assert ended(client)
        server.end()
        assert server.figure("closed: idle too long") == 1


def test_resets():
    """Connections that are reset in every state, many a second."""
    with Server() as server:
        steady = server.connect()
        for i in range(600):
            client = server.connect()
            if i % 4 == 1:
                client.sendall(packet(b"x" * 100))
            elif i % 4 == 2:
                client.sendall(packet(payload(50000))[:20000])
            elif i % 4 == 3:
                client.sendall(packet(payload(50000)) * 2)
            reset(client)
            if i % 50 == 0:
                echo(steady, payload(1000, i))
        steady.close()
        server.serves()
        wait_until(lambda: server.connections() == 0)


def test_descriptors_run_out():
    """Who comes too many is closed at once; later ones are served again."""
    for options in ((), ("--threads", "2")):
        with Server(*options, descriptors=64) as server:
            clients = []
            refused = 0
            for _ in range(100):
                try:
                    client = server.connect()
                    echo(client, b"hello")
                    clients.append(client)
                except (ConnectionError, AssertionError):
                    refused += 1
            assert 40 <= len(clients) <= 64, len(clients)
            assert refused == 100 - len(clients)
            cpu = server.cpu_seconds()
            time.sleep(0.5)
            assert server.cpu_seconds() - cpu < 0.1, "the server spins"
            for client in clients:
                echo(client, b"still served")
            for client in clients[:20]:
                client.close()
            time.sleep(0.2)
            for _ in range(10):
                server.serves()
            for client in clients:
                client.close()
            server.end()
            assert server.figure("closed without descriptor") >= 1
            assert "want of a descriptor" in server.errors, server.errors
            # Rate limited: one line a second and thread, not one each.
            assert server.errors.count("want of a descriptor") <= 20


def answer(client):
    """Echoed (True) or turned away (False); hanging is a failure."""
    try:
        return receive(client, 9) == packet(b"hello")
    except (ConnectionError, AssertionError):
        return False


def test_descriptors_run_out_at_once():
    """Two loops short of descriptors at the same moment: all are answered."""
    with Server("--threads", "2", descriptors=48) as server:
        for _ in range(25):
            clients = []
            for _ in range(120):
                try:
                    client = server.connect()
                    clients.append(client)
                    client.sendall(packet(b"hello"))
                except ConnectionError:
                    pass  # turned away so soon
            served = sum(answer(client) for client in clients)
            assert 10 <= served <= 48, served
            for client in clients:
                client.close()
            wait_until(lambda: server.connections() <= 0)
        server.end()
        assert server.figure("closed without descriptor") >= 25


def test_connection_limit():
    with Server("--connections-max", "5") as server:
        clients = [server.connect() for _ in range(5)]
        for client in clients:
            echo(client, b"in")
        for _ in range(10):
            try:
                with server.connect() as client:
                    assert ended(client)
            except ConnectionError:
                pass  # so soon
        clients.pop().close()
        wait_until(lambda: server.connections() == 4)
        server.serves()
        for client in clients:
            client.close()
        server.end()
        assert server.figure("refused connections") >= 10


def test_address_limit():
    """One address has its share; another is served beside it."""
    for threads in ("1", "2"):
        with Server("--address", "0.0.0.0", "--address-max", "20",
                    "--threads", threads) as server:
            for _ in range(3):
                clients = []
                refused = 0
                for i in range(120):
                    try:
                        client = socket.create_connection(
                            ("127.0.0.1", server.port), 10,
                            (f"127.0.0.{2 + i % 4}", 0))
                        echo(client, b"in")
                        clients.append(client)
                    except (ConnectionError, AssertionError):
                        refused += 1
                assert (len(clients), refused) == (80, 40), refused
                for client in clients:
                    echo(client, b"still")
                    client.close()
                wait_until(lambda: server.connections() == 0)
            server.end()
            assert server.figure("refused connections") == 120


def test_little_memory_serves_many():
    """Far more connections than buffers; each gets every byte, in turn."""
    with Server("--buffer-limit", "128k") as server:
        clients = [server.connect() for _ in range(300)]
        for turn in range(5):
            for i, client in enumerate(clients):
                client.sendall(packet(payload(1500, i + turn)))
            for i, client in enumerate(clients):
                expected = packet(payload(1500, i + turn))
                assert receive(client, len(expected)) == expected
        for client in clients:
            client.close()


def large_packets(limit, threads):
    data = b"".join(packet(payload(65532, i)) for i in range(8))
    failures = []

    def run(server):
        try:
            with server.connect() as client:
                client.settimeout(40)
                assert exchange(client, data) == data
        except Exception as error:  # reported by the main thread
            failures.append(error)

    with Server("--buffer-limit", limit, "--threads", threads) as server:
        runners = [threading.Thread(target=run, args=(server,))
                   for _ in range(24)]
        for runner in runners:
            runner.start()
        for runner in runners:
            runner.join()
        assert not failures, failures
        server.end()
        assert (server.figure("closed: peer closed") +
                server.figure("closed: loop stopped")) == 24, server.report


def test_little_memory_large_packets():
    """Many clients with packets of which the limit holds one or two."""
    for limit, threads in (("128k", "1"), ("192k", "1"), ("192k", "2")):
        large_packets(limit, threads)


def test_little_memory_hostile():
    """Clients pin all memory and stop; others are served after a while."""
    with Server("--buffer-limit", "128k") as server:
        bad = []
        for i in range(10):
            client = server.connect()
            client.sendall(packet(payload(65532))[:1500 + i * 4000])
            bad.append(client)
        time.sleep(0.2)
        started = time.monotonic()
        with server.connect() as client:
            client.settimeout(20)
            echo(client, payload(60000))
        assert time.monotonic() - started < 15
        server.serves()
        for client in bad:
            client.close()
        server.end()
        assert server.figure("closed: held memory without progress") > 0
        assert server.figure("waits for a buffer") > 0


def test_little_memory_dripping():
    """Clients pin all memory and look alive; others are served in turn."""
    stop = threading.Event()

    def begin(server):
        client = server.connect()
        client.sendall(packet(payload(1500))[:100])
        return client

    def drip(server):
        clients = []
        while not stop.wait(0.1):
            clients += [begin(server) for _ in range(48 - len(clients))]
            for client in list(clients):
                try:
                    client.send(b"x")
                except ConnectionError:
                    client.close()
                    clients.remove(client)
        for client in clients:
            client.close()

    with Server("--buffer-limit", "128k", "--hold-timeout", "700ms",
                "--stall-timeout", "0") as server:
        dripper = threading.Thread(target=drip, args=(server,))
        dripper.start()
        try:
            time.sleep(0.5)
            end = time.monotonic() + 3
            served = 0
            while served < 3 or time.monotonic() < end:
                with server.connect() as client:
                    echo(client, payload(1500, served))
                served += 1
        finally:
            stop.set()
            dripper.join()
        server.end()
        assert server.figure("closed: held memory too long for its bytes") > 0
        assert server.figure("waits for a buffer") > 0


def test_starved_server_sleeps():
    """Waiting for memory must not burn the processor."""
    with Server("--buffer-limit", "128k", "--stall-timeout", "0") as server:
        bad = []
        for _ in range(70):
            client = server.connect()
            client.sendall(packet(payload(65532))[:2044])
            bad.append(client)
        cpu = server.cpu_seconds()
        time.sleep(1)
        assert server.cpu_seconds() - cpu < (0.5 if SANITIZED else 0.15)
        server.serves()
        for client in bad:
            client.close()
        server.end()
        assert server.figure("waits for a buffer") > 0


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
