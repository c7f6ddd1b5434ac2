# SPDX-License-Identifier: MIT
"""`weir demo` in small: its figures, its faults, and that it cleans up.

    python3 tests/e2e/demo_run.py build/release [test_name ...]
"""

import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import _server
from _server import SANITIZED, weir_command, weir_path

SMALL = ("--connections", "100", "--rounds", "2", "--seconds", "60ms",
         "--warmup", "20ms", "--slow", "0")

METRICS = ("packets_per_second", "cpu_us_per_packet",
           "cpu_us_per_packet_without_ksoftirqd", "latency_mean_ns",
           "latency_p50_ns", "latency_p99_ns")

# A server that turns every 20th answer into another one.
WRONG_SERVER = """#!/usr/bin/env python3
import select, socket
listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
poll = select.epoll()
poll.register(listener, select.EPOLLIN)
clients, answers = {}, 0
while True:
    for number, _ in poll.poll():
        if number == listener.fileno():
            client, _ = listener.accept()
            clients[client.fileno()] = client
            poll.register(client, select.EPOLLIN)
            continue
        try:
            data = bytearray(clients[number].recv(65536))
            answers += 1
            if data and answers % 20 == 0:
                data[-1] ^= 1
            clients[number].sendall(data)
        except OSError:
            data = b""
        if not data:
            clients.pop(number).close()
"""


def demo(*arguments, **options):
    return subprocess.run(weir_command("demo", *arguments),
                          capture_output=True, text=True, timeout=55,
                          check=False, **options)


def demo_json(*arguments, status=0):
    done = demo(*SMALL, *arguments, "--json", "-")
    assert status is None or done.returncode == status, done
    return json.loads(done.stdout)


def rows(figures):
    return {row["name"]: row for row in figures["contenders"]}


def ran(row):
    """False for a contender this build lacks, which must say why."""
    if row["status"] == "not found":
        assert "built only where lib" in row["note"], row
        return False
    assert row["status"] == "ok", row
    return True


def children_of(pid):
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii") as file:
                fields = file.read().rpartition(")")[2].split()
            if entry.isdigit() and int(fields[1]) == pid:
                found.append(int(entry))
        except (OSError, IndexError):
            pass
    return found


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def check_counts(row):
    """System allocations per packet, exact since counted at rest."""
    if row["counted"] is None:
        assert "not counted" in row["count_note"], row
        return
    expected = {"weir": 0.0, "malloc": 2.0, "libuv": 2.0, "asio": 2.0,
                "weir-epoll": 0.0, "weir-uring": 0.0, "epoll": 1.0,
                "uring": 0.0}
    counted = row["counted"]
    assert counted["packets"] > 0
    # What a pool adds once in a run is not a cost of packets; and the window
    # of buffers lent to the kernel may be another at the end.
    window = 1024 if row["name"] == "malloc" else 0
    # A peer asks for some more where the bytes of a packet come in parts.
    exact = 0.1 if row["name"] in ("libuv", "asio") else 0.01
    assert abs(row["system_allocations_per_packet"] -
               expected[row["name"]]) < exact + window / counted["packets"], row


def test_json_holds_every_figure_of_the_table():
    figures = demo_json()
    assert figures["succeeded"] is True
    assert [row["name"] for row in figures["contenders"]] == [
        "weir", "malloc", "libuv", "asio"]
    for name, row in rows(figures).items():
        if not ran(row):
            continue
        assert row["connected"] == 100
        assert row["errors"]["total"] == 0 and row["mismatches"] == 0, row
        assert row["peak_rss_bytes"] > 100000
        for metric in METRICS:
            values = row["rounds"][metric]
            spread = row[metric]
            assert len(values) == 2 and spread["count"] == 2
            assert spread["low"] == min(values) > 0
            assert spread["high"] == max(values)
        for key in "p50", "p90", "p99", "p99_9", "max":
            assert row["latency_ns"][key] > 0
        check_counts(row)
        if name != "weir":
            assert row["ratio"]["of"] == "weir"
            for metric in METRICS:
                assert math.isfinite(row["ratio"][metric]["median"])
    machine = figures["machine"]
    assert machine["cpu"] and machine["kernel"].startswith("Linux")
    assert "demo" in figures["settings"]["command"]
    assert figures["published"]["pool_packets_per_second"] == 21000


def test_bare_servers_and_back_ends_play_when_named():
    folder = os.path.dirname(weir_path())
    bare = [name for name in ("epoll", "uring")
            if os.path.exists(os.path.join(folder, "weir-echo-" + name))]
    names = ["weir-epoll", "weir-uring", *bare]
    figures = demo_json("--contenders", ",".join(names), status=None)
    found = rows(figures)
    assert list(found) == names, found
    for name, row in found.items():
        if "uring" in name and row["status"] == "failed":
            continue  # io_uring is forbidden here, and it says so
        assert row["status"] == "ok" and row["mismatches"] == 0, row
        assert row["errors"]["total"] == 0, row
        assert all(0 <= share <= 1.2 for share in
                   row["rounds"]["others_share"]), row
        check_counts(row)
        if name != "weir-epoll":
            assert row["ratio"]["of"] == "weir-epoll", row


def test_slow_readers_have_a_round():
    """Whoever keeps what nobody reads, grows by it; weir by its quota."""
    figures = demo_json("--slow", "30", "--rounds", "1", "--no-count",
                        "--contenders", "weir,libuv", status=None)
    assert figures["settings"]["slow_readers"] == 30
    harm = {name: row["slow_readers"] for name, row in rows(figures).items()
            if row["status"] == "ok"}
    weir = harm["weir"]
    assert weir["packets_per_second_alone"] > 0, weir
    assert weir["kept"] > 0, weir
    grown = weir["memory_bytes_beside"] - weir["memory_bytes_alone"]
    # A quota of 64 KiB and what one pass brings, for each.
    assert SANITIZED or grown < 30 * 65536 * 2 + (8 << 20), weir
    if "libuv" in harm and not SANITIZED:
        libuv = harm["libuv"]
        assert libuv["memory_bytes_beside"] > 4 * grown, harm
    assert "slow_readers" not in rows(
        demo_json("--contenders", "weir", "--no-count"))["weir"]


def test_slow_readers_are_in_the_table():
    done = demo(*SMALL, "--slow", "5", "--rounds", "1", "--no-count",
                "--contenders", "weir")
    assert done.returncode == 0, done
    assert "5 clients never read" in done.stdout, done.stdout
    line = done.stdout.split("never read\n")[1].splitlines()[0]
    assert line.startswith("weir ") and line.count("MiB") == 2, line


def test_table_names_everything():
    done = demo(*SMALL)
    assert done.returncode == 0, done
    for text in ("weir ", "malloc ", "ratio weir / other", "p99.9",
                 "peak RSS", "15,000/s at 120 ms", "21,000/s at 90 ms",
                 "--active 1850"):
        assert text in done.stdout, (text, done.stdout)
    # Not a terminal: plain lines, no drawing over.
    assert "\r" not in done.stderr and "%" in done.stderr, done.stderr
    assert "\033" not in done.stdout + done.stderr


def test_active_is_a_part_of_the_connections():
    figures = demo_json("--active", "7", "--contenders", "weir", "--no-count")
    assert figures["settings"]["active"] == 7
    assert figures["settings"]["connections"] == 100
    assert rows(figures)["weir"]["connected"] == 100
    done = demo("--active", "7", "--connections", "5")
    assert done.returncode == 2, done


def test_missing_contenders_are_named():
    with tempfile.TemporaryDirectory() as empty:
        done = demo(*SMALL, "--directory", empty)
        figures = demo_json("--directory", empty)
    assert done.returncode == 0, done
    assert f"libuv   not in {empty}: run script/demo" in done.stdout
    assert "built only where libuv1-dev is installed" in done.stdout
    assert f"asio    not in {empty}: run script/demo" in done.stdout
    assert rows(figures)["libuv"]["status"] == "not found"
    assert rows(figures)["weir"]["status"] == "ok"
    assert "not counted: weir-count.so is not in" in done.stdout
    assert "--directory" in rows(figures)["weir"]["count_note"]


def test_a_program_alone_says_that_the_others_are_elsewhere():
    with tempfile.TemporaryDirectory() as folder:
        alone = os.path.join(folder, "weir")
        shutil.copy(weir_path(), alone)
        command = [alone if word == weir_path() else word
                   for word in weir_command("demo", *SMALL)]
        done = subprocess.run(command, capture_output=True, text=True,
                              timeout=55, check=False)
        where = f"not beside this program ({os.path.realpath(folder)}): run"
    assert done.returncode == 0, done
    assert "libuv   " + where in done.stdout, done.stdout
    assert "weir-count.so is " + where in done.stdout, done.stdout


def test_few_rounds_give_no_verdict():
    for rounds, pairs in ("1", "Of 1 pair "), ("5", "Of 5 pairs,"):
        done = demo(*SMALL, "--rounds", rounds, "--contenders", "weir,malloc",
                    "--no-count")
        assert done.returncode == 0, done
        assert done.stdout.count("too few rounds") == 3, done.stdout
        assert "within" not in done.stdout, done.stdout
        assert pairs in done.stdout, done.stdout
        assert ("1 round of" in done.stdout) == (rounds == "1"), done.stdout
        assert not any(line.endswith(" ")
                       for line in done.stdout.splitlines()), done.stdout
    ratio = rows(demo_json("--contenders", "weir,malloc", "--no-count"))[
        "malloc"]["ratio"]
    assert ratio["cpu_within_spread"] is None


def wrong_server(folder, text):
    path = os.path.join(folder, "weir-echo-libuv")
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(path, 0o755)


def test_a_wrong_server_fails_the_demo():
    with tempfile.TemporaryDirectory() as folder:
        wrong_server(folder, WRONG_SERVER)
        figures = demo_json("--directory", folder, "--contenders",
                            "weir,libuv", status=1)
    assert figures["succeeded"] is False
    assert rows(figures)["libuv"]["mismatches"] > 0
    assert rows(figures)["weir"]["mismatches"] == 0


def test_a_server_that_does_not_start_is_reported():
    with tempfile.TemporaryDirectory() as folder:
        for text, why in (("#!/bin/sh\necho its reason >&2\nexit 3\n",
                           "it ended at once"),
                          ("#!/bin/sh\necho hello\nsleep 60\n",
                           "its first line is not")):
            wrong_server(folder, text)
            done = demo(*SMALL, "--directory", folder, "--contenders",
                        "weir,libuv")
            assert done.returncode == 1, done
            assert why in done.stdout, done.stdout
            assert ("its reason" in done.stderr) == ("exit 3" in text)
            assert "weir " in done.stdout


def test_interrupt_kills_the_children():
    process = subprocess.Popen(
        weir_command("demo", "--connections", "50", "--rounds", "1000"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _server.wait_until(lambda: len(children_of(process.pid)) >= 4)
    time.sleep(0.5)
    children = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1, (out, err)
    assert "interrupted" in out, out
    assert not any(alive(child) for child in children)


def test_a_killed_demo_leaves_no_children():
    process = subprocess.Popen(
        weir_command("demo", "--connections", "50", "--rounds", "1000"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _server.wait_until(lambda: len(children_of(process.pid)) >= 4)
    children = children_of(process.pid)
    process.kill()
    process.wait()
    _server.wait_until(lambda: not any(alive(child) for child in children))


def test_too_few_descriptors_are_said():
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))

    done = demo(*SMALL, "--contenders", "weir", "--no-count",
                preexec_fn=limit)
    assert done.returncode == 0, done
    assert "allows 88 of 100 connections" in done.stderr, done.stderr
    assert "88 connections" in done.stdout, done.stdout


def test_chart_is_an_svg():
    if not shutil.which("gnuplot"):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "it's a chart.svg")
        done = demo(*SMALL, "--no-count", "--svg", path)
        assert done.returncode == 0, done
        with open(path, encoding="utf-8") as file:
            text = file.read()
    assert "<svg" in text and "peak RSS" in text and "weir" in text


def test_chart_without_gnuplot_says_so_at_once():
    with tempfile.TemporaryDirectory() as empty:
        started = time.monotonic()
        done = subprocess.run(
            [weir_path(), "demo", "--svg", os.path.join(empty, "x.svg")],
            capture_output=True, text=True, timeout=20, check=False,
            env={**os.environ, "PATH": empty})
    assert done.returncode == 1, done
    assert "install gnuplot-nox" in done.stderr
    assert time.monotonic() - started < 5


def test_output_that_cannot_be_written_says_so_at_once():
    started = time.monotonic()
    done = demo("--json", "/nonexistent/x.json")
    assert done.returncode == 1, done
    assert "cannot write /nonexistent/x.json" in done.stderr
    assert time.monotonic() - started < 5


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
