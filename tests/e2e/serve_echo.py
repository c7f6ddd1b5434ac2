# SPDX-License-Identifier: MIT
"""What comes back from `weir serve`, byte for byte, and what ends a connection.

    python3 tests/e2e/serve_echo.py build/release [test_name ...]
"""

import random
import socket
import struct
import sys
import time

import _server
from _server import Server, echo, ended, exchange, packet, payload, receive

SIZES = [0, 1, 3, 4, 60, 64, 511, 1024, 2043, 2044, 2045, 8188, 8192, 32764,
         65531, 65532]


def each_size(*options):
    with Server(*options) as server, server.connect() as client:
        for salt, size in enumerate(SIZES):
            echo(client, payload(size, salt))


def test_each_size():
    each_size()


def test_each_size_with_malloc():
    each_size("--memory", "malloc")


def test_each_size_with_little_memory():
    each_size("--buffer-limit", "128k")


def test_ipv6():
    if not socket.has_ipv6:
        return
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        print("       (no IPv6 here)")
        return
    each_size("--address", "::1")


def test_byte_at_a_time():
    data = b"".join(packet(payload(size, size)) for size in (0, 1, 3, 4, 300))
    with Server() as server, server.connect() as client:
        for value in data:
            client.sendall(bytes([value]))
            time.sleep(0.0005)
        assert receive(client, len(data)) == data


def test_coalesced():
    rng = random.Random(7)
    sizes = [rng.choice(SIZES) for _ in range(200)]
    data = b"".join(packet(payload(size, i)) for i, size in enumerate(sizes))
    with Server() as server, server.connect() as client:
        assert exchange(client, data) == data


def test_cut_anywhere():
    """Packets cut at every offset around their header and their end."""
    data = packet(payload(5000, 1)) + packet(b"xyz") + packet(payload(70, 2))
    cuts = [1, 2, 3, 4, 5, 6, 2047, 2048, 2049, 5003, 5004, 5005, 5007, 5010,
            5011, 5012, 5013, 5014, 5015, 5016, len(data) - 1]
    with Server() as server:
        for cut in cuts:
            with server.connect() as client:
                client.sendall(data[:cut])
                time.sleep(0.003)
                client.sendall(data[cut:])
                assert receive(client, len(data)) == data, cut


def test_random_pieces():
    """Many connections at once, each a stream in random pieces."""
    seed = int(time.time())
    print(f"       seed {seed}")
    rng = random.Random(seed)
    with Server("--threads", "2") as server:
        clients = []
        for i in range(20):
            data = b"".join(packet(payload(rng.randrange(0, 9000), i + n))
                            for n in range(20))
            clients.append([server.connect(), data, 0, b""])
        while any(len(back) < len(data) for _, data, _, back in clients):
            for state in clients:
                client, data, sent, back = state
                if sent < len(data):
                    step = rng.choice([1, 3, 4, 100, 2048, 5000, 70000])
                    piece = data[sent:sent + step]
                    client.sendall(piece)
                    state[2] += len(piece)
                client.settimeout(0.001)
                try:
                    state[3] = back + client.recv(1 << 20)
                except (TimeoutError, socket.timeout):
                    pass
                client.settimeout(15)
        for client, data, _, back in clients:
            assert back == data
            client.close()


def test_raw():
    with Server("--protocol", "raw") as server, server.connect() as client:
        data = payload(3_000_000)
        assert exchange(client, data) == data
        client.sendall(b"\xff\xff\xff\xff")
        assert receive(client, 4) == b"\xff\xff\xff\xff"


def test_raw_with_malloc():
    with Server("--protocol", "raw", "--memory", "malloc") as server:
        with server.connect() as client:
            data = payload(3_000_000)
            assert exchange(client, data) == data


def test_oversized_length_closes():
    with Server() as server:
        for length in (65533, 65536, 0x7fffffff, 0x80000000, 0xffffffff):
            with server.connect() as client:
                echo(client, b"good")
                client.sendall(struct.pack(">I", length))
                assert ended(client), length
        # What came before it is answered.
        with server.connect() as client:
            client.sendall(packet(b"first") + b"\xff\xff\xff\xff")
            assert receive(client, 9) == packet(b"first")
            assert ended(client)
        server.serves()
        server.end()
        assert server.figure("closed: malformed input") == 6, server.report


def test_garbage():
    rng = random.Random(11)
    with Server() as server:
        for _ in range(50):
            with server.connect() as client:
                try:
                    client.sendall(b"\xff" + rng.randbytes(5000))
                except ConnectionError:
                    pass
                assert ended(client)
        server.serves()
        server.end()
        assert server.figure("closed: malformed input") == 50, server.report


def test_half_close_is_answered():
    """A client that has said all it will say still gets its answers."""
    data = b"".join(packet(payload(60000, i)) for i in range(30))
    with Server() as server, server.connect(receive_bytes=8192) as client:
        client.settimeout(30)
        import threading
        def send():
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        assert receive(client, len(data)) == data
        assert client.recv(1) == b""
        sender.join()
        server.end()
        assert server.figure("closed: peer closed") == 1, server.report


def test_half_packet_then_close():
    with Server() as server:
        for cut in (1, 3, 4, 5, 500, 40000):
            with server.connect() as client:
                client.sendall(packet(payload(60000))[:cut])
                client.shutdown(socket.SHUT_WR)
                assert ended(client)
        server.serves()


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
