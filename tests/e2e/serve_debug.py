# SPDX-License-Identifier: MIT
"""`weir serve` under the debug menu: a server that is correct notices nothing of
what only looks, and one whose requests for memory fail loses the connection
concerned and nothing else.

    python3 tests/e2e/serve_debug.py build/release [test_name ...]
"""

import os
import sys

import _server
from _server import Server, packet, payload, receive

SIZES = [0, 3, 60, 511, 2045, 8188, 32764]


class Menu:
    """A server with that on its menu, whose end is checked as ever."""

    def __init__(self, menu, *options):
        os.environ["WEIR_DEBUG"] = menu
        try:
            self.server = Server(*options)
        finally:
            del os.environ["WEIR_DEBUG"]
        self.menu = menu

    def __enter__(self):
        return self.server.__enter__()

    def __exit__(self, kind, value, trace):
        self.server.__exit__(kind, value, trace)
        if kind is None:
            word = self.menu.partition(",")[0]
            assert f"debug menu: {word}" in self.server.errors
            assert "FAULT" not in self.server.errors, self.server.errors


def visit(server):
    """How many packets come back, as they were, before the connection ends."""
    count = 0
    try:
        with server.connect() as client:
            for size in SIZES:
                data = packet(payload(size, count))
                client.sendall(data)
                try:
                    back = receive(client, len(data))
                except AssertionError:
                    return count  # it ended in the middle
                assert back == data, size
                count += 1
    except (ConnectionError, BrokenPipeError):
        pass
    return count


def notices_nothing(menu):
    with Menu(menu) as server:
        for _ in range(3):
            assert visit(server) == len(SIZES)


def test_what_looks_finds_nothing():
    notices_nothing("poison,tag,caller,integrity")


def test_late_reuse_and_no_caches():
    notices_nothing("cold-first,no-cache,poison")


def test_each_object_of_malloc():
    notices_nothing("pass-through")


def test_each_request_may_fail():
    # From the first that a connection makes, one after the other, to what the
    # fourth one makes; what fails once costs one connection at most.
    failed = 0
    for number in range(1, 65, 5):
        with Menu(f"fail-nth:{number}") as server:
            whole = [visit(server) == len(SIZES) for _ in range(4)]
            assert whole.count(False) <= 1, (number, whole)
            assert visit(server) == len(SIZES), number
        failed += f"request {number}, of " in server.errors
    assert failed > 5, failed


def test_many_fail_and_the_server_goes_on():
    with Menu("fail:5%,seed:11") as server:
        counts = [visit(server) for _ in range(60)]
    assert min(counts) < len(SIZES), counts
    assert max(counts) > 0, counts


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
