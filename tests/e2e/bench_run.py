# SPDX-License-Identifier: MIT
"""`weir bench` in small: rows, faults, missing opponents, a slowed one.

    python3 tests/e2e/bench_run.py build/release [test_name ...]
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

import _server
from _server import Skip, weir_command, weir_path

KEYS = ["suite", "case", "peer", "metric", "value", "unit", "spread",
        "rounds"]
SMALL = ("--time", "4ms", "--quick")


def bench(*arguments, **options):
    return subprocess.run(weir_command("bench", *arguments),
                          capture_output=True, text=True, timeout=55,
                          check=False, **options)


def workers(*names):
    """The workers are built in the release preset only."""
    folder = os.path.join(os.path.dirname(weir_path()), "bench")
    for name in names:
        if not os.access(os.path.join(folder, "weir-bench-" + name), os.X_OK):
            raise Skip(f"no worker for {name} in this configuration")


def rows_of(text):
    rows = []
    for line in text.splitlines():
        row = json.loads(line)
        assert list(row) == KEYS, line
        assert isinstance(row["value"], (int, float)), line
        assert isinstance(row["spread"], (int, float)), line
        assert isinstance(row["rounds"], int), line
        rows.append(row)
    return rows


def measure(*arguments, status=0):
    done = bench(*SMALL, *arguments, "--json", "-")
    assert done.returncode == status, (
        done.stderr, [line for line in done.stdout.splitlines()
                      if '"failed"' in line])
    return rows_of(done.stdout)


def pick(rows, **wanted):
    return [row for row in rows
            if all(row[key] == value for key, value in wanted.items())]


def value(rows, **wanted):
    found = pick(rows, **wanted)
    assert len(found) == 1, (wanted, found)
    return found[0]["value"]


def fake_worker(folder, name, script):
    os.makedirs(os.path.join(folder, "bench"), exist_ok=True)
    path = os.path.join(folder, "bench", "weir-bench-" + name)
    with open(path, "w", encoding="ascii") as file:
        file.write("#!/bin/sh\n" + script)
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)


def test_quick_gives_a_row_for_every_figure():
    workers("glibc", "mutex", "weir")
    rows = measure("pair", "--peers", "glibc,mutex,weir", "--rounds", "2")
    for peer in "glibc", "mutex", "weir":
        for name in "64", "256":
            row, = pick(rows, suite="pair", case=name, peer=peer,
                        metric="ns_op")
            assert 0.2 < row["value"] < 1e6 and row["unit"] == "ns", row
            assert row["rounds"] == 2 and row["spread"] >= 0, row
    # Only who serves every size plays mixed ones.
    assert pick(rows, case="mixed", peer="glibc", metric="ns_op")
    assert not pick(rows, case="mixed", peer="mutex")
    ratio = value(rows, case="64", peer="mutex", metric="ns_op_over_weir")
    assert 0 < ratio < 1e4
    about = {row["metric"] for row in pick(rows, suite="about")}
    assert {"command", "cpu", "kernel", "compiler", "version"} <= about
    assert pick(rows, suite="about", metric="version", peer="glibc")


def test_every_suite_plays():
    workers("weir-batch", "glibc")
    rows = measure("--peers", "glibc,weir-batch", "--rounds", "1", "--time",
                   "1ms")
    metrics = {"pair": "ns_op", "burst": "ns_op", "random": "ns_op",
               "handoff": "ns_op", "oversub": "cpu_ns_op",
               "scaling": "mops_s", "buffers": "us_100k", "tail": "p99_ns",
               "fragmentation": "rss_ratio", "decay": "rss_growth",
               "table": "waste_ratio"}
    assert pick(rows, suite="region", metric="ns_op", peer="glibc")
    assert not pick(rows, suite="region", peer="weir-batch")
    for suite, metric in metrics.items():
        for peer in "glibc", "weir-batch":
            found = pick(rows, suite=suite, metric=metric, peer=peer)
            assert found and all(row["value"] > 0 for row in found), (
                suite, peer, pick(rows, suite=suite, peer=peer))
    # Nobody fits live bytes into less memory than they have.
    for row in pick(rows, suite="fragmentation", metric="rss_ratio"):
        assert row["value"] > 0.95, row
    assert value(rows, suite="buffers", case="8192/touch", peer="glibc",
                 metric="failures") == 0


def test_regions_are_compared_with_regions():
    peers = "weir-region", "weir-limited", "weir-plain", "glibc", "harness"
    workers(*peers)
    rows = measure("region", "--peers", ",".join(peers), "--rounds", "2",
                   "--time", "4ms")
    taken = {}  # the product of all cases: one disturbed case is nothing to it
    for load in "request", "request-reset", "small", "tiny", "fastpath":
        for live in 1, 64, 1000:
            case = f"{load}/{live}"
            for peer in peers:
                ns = value(rows, case=case, peer=peer, metric="ns_op")
                assert ns > 0
                taken[peer] = taken.get(peer, 1) * ns
        assert value(rows, case=f"{load}/1", peer="glibc",
                     metric="ns_op_over_weir-region") > 1, load
    # A pointer that moves is the floor of everybody.
    assert taken["glibc"] > taken["harness"]
    # All memory is written, so at least that much is resident.
    for case in "request", "small", "tiny":
        for peer in "weir-region", "glibc":
            ratio = value(rows, case=case, peer=peer, metric="rss_ratio")
            assert 0.99 < ratio < 20, (case, peer, ratio)
    assert pick(rows, case="spike", peer="weir-region", metric="rss_ratio")
    assert not pick(rows, case="spike", peer="harness")


def test_a_slowed_opponent_comes_out_slower():
    workers("glibc", "slow", "weir")
    rows = measure("pair", "random", "--peers", "glibc,slow,weir",
                   "--rounds", "5")
    for suite in "pair", "random":
        plain = value(rows, suite=suite, case="64", peer="glibc",
                      metric="ns_op")
        slowed = value(rows, suite=suite, case="64", peer="slow",
                       metric="ns_op")
        # 1000 turns of a loop through memory are 1000 cycles at the least;
        # a machine that others use makes malloc slow, but not by as much.
        assert slowed > plain + 100, (suite, plain, slowed)
        assert (value(rows, suite=suite, case="64", peer="slow",
                      metric="ns_op_over_weir") >
                value(rows, suite=suite, case="64", peer="glibc",
                      metric="ns_op_over_weir"))


def test_missing_opponents_are_named():
    with tempfile.TemporaryDirectory() as folder:
        fake_worker(folder, "glibc", "echo version glibc 9\n"
                    "echo 64 ns_op 2.5 ns\n")
        command = ("pair", "--peers", "glibc,jemalloc,rte", "--directory",
                   folder, *SMALL)
        done = bench(*command)
        rows = rows_of(bench(*command, "--json", "-").stdout)
    assert done.returncode == 0, done
    assert "jemalloc         missing: " in done.stdout, done.stdout
    assert "install libjemalloc2 and run script/bench" in done.stdout
    assert "rte              missing: " in done.stdout
    assert pick(rows, peer="rte", metric="missing"), rows
    assert value(rows, peer="glibc", metric="ns_op") == 2.5


def test_a_run_that_measures_nothing_has_failed():
    with tempfile.TemporaryDirectory() as folder:
        done = bench("pair", "--peers", "glibc,weir", "--directory", folder,
                     *SMALL)
    assert done.returncode == 1, done
    assert "nothing was measured" in done.stderr, done.stderr
    assert "glibc            missing: " in done.stdout, done.stdout


def test_what_a_worker_cannot_play_is_said():
    with tempfile.TemporaryDirectory() as folder:
        fake_worker(folder, "glibc", "echo skip not on Mondays\n")
        fake_worker(folder, "mutex", "echo its reason >&2; exit 3\n")
        fake_worker(folder, "tbb", "echo 64 ns_op\n")
        fake_worker(folder, "ck", "echo 64 ns_op 1 ns; kill -9 $$\n")
        done = bench("pair", "--peers", "glibc,mutex,tbb,ck", "--directory",
                     folder, *SMALL)
    assert done.returncode == 1, done
    for text in ("skipped: not on Mondays", "failed: status 3: its reason",
                 "failed: said '64 ns_op', which is no figure",
                 "failed: died of signal 9"):
        assert text in done.stdout, (text, done.stdout)


def test_medians_and_ratios_are_those_of_the_rounds():
    with tempfile.TemporaryDirectory() as folder:
        turn = os.path.join(folder, "turn")
        # 1, 2, 9 against 2, 8, 9: ratios 2, 4, 1; median 2 and not 8/2.
        for name, values in ("weir", "1 2 9"), ("mutex", "2 8 9"):
            fake_worker(folder, name, f"""
set -- {values}
for i in $(cat {turn}{name} 2>/dev/null); do shift; done
echo x >>{turn}{name}
echo 64 ns_op $1 ns
""")
        rows = rows_of(bench("pair", "--peers", "weir,mutex", "--rounds", "3",
                             "--directory", folder, "--json", "-").stdout)
    row, = pick(rows, peer="mutex", metric="ns_op")
    assert (row["value"], row["spread"], row["rounds"]) == (8, 6, 3), row
    row, = pick(rows, peer="mutex", metric="ns_op_over_weir")
    assert (row["value"], row["spread"], row["rounds"]) == (2, 2, 3), row


def test_a_worker_that_hangs_is_ended():
    with tempfile.TemporaryDirectory() as folder:
        # Its grandchild keeps the pipe open; the group is ended, too.
        fake_worker(folder, "glibc", "sleep 50 & sleep 50\n")
        fake_worker(folder, "mutex", "echo 64 ns_op 2 ns\n")
        started = time.monotonic()
        done = bench("pair", "--peers", "glibc,mutex", "--directory", folder,
                     *SMALL)
    assert done.returncode == 1, done
    assert "glibc            failed: took more than 8 s" in done.stdout, done
    assert "mutex" in done.stdout
    assert time.monotonic() - started < 30


def test_interrupt_ends_the_worker_and_tells_what_is_there():
    with tempfile.TemporaryDirectory() as folder:
        mark = os.path.join(folder, "mark")
        fake_worker(folder, "glibc", "echo 64 ns_op 2 ns\n")
        fake_worker(folder, "mimalloc", f"echo $$ >{mark}; sleep 50\n")
        process = subprocess.Popen(
            weir_command("bench", "pair", "--peers", "glibc,mimalloc",
                         "--directory", folder), stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        _server.wait_until(lambda: os.path.exists(mark) and
                           os.path.getsize(mark) > 0)
        with open(mark, encoding="ascii") as file:
            worker = int(file.read())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 1, (out, err)
    assert "Shortened: interrupted" in out, out
    assert not os.path.exists(f"/proc/{worker}")


def test_unknown_names_are_answered_with_the_nearest():
    for arguments, text in (
            (("hadnoff",), "unknown suite 'hadnoff'; did you mean 'handoff'?"),
            (("pair", "--peers", "glibc,jemaloc"),
             "unknown peer 'jemaloc'; did you mean 'jemalloc'?"),
            (("region", "--peers", "glibc,mutex"),
             "peer 'mutex' plays none of these suites"),
            (("xyzzy",), "unknown suite 'xyzzy'; there are pair burst"),
            (("--qick",), "unknown option '--qick'; did you mean '--quick'?"),
            (("--rounds", "0"), "'0' is no value for --rounds"),
            (("--charts", "x"), "--charts needs --report")):
        done = bench(*arguments)
        assert done.returncode == 2, done
        assert text in done.stderr, done


def test_a_page_is_made_from_stored_rows():
    workers("glibc", "mutex", "weir")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.json")
        done = bench("pair", "--peers", "glibc,mutex,weir,apr", *SMALL,
                     "--json", path)
        assert done.returncode == 0, done
        page = bench("--report", path, "--charts", "pictures").stdout
        again = bench("--report", path, "--charts", "pictures").stdout
        if shutil.which("gnuplot"):
            charts = os.path.join(folder, "charts")
            assert bench("--report", path, "--svg",
                         charts).returncode == 0
            with open(os.path.join(charts, "pair.svg"),
                      encoding="utf-8") as file:
                assert "<svg" in file.read()
    assert page == again
    for text in ("# Benchmarks", "weir bench pair --peers", "| kernel | Linux",
                 "| compiler | ", "## pair", "](pictures/pair.svg)",
                 "| `mutex` | **", "÷weir "):
        assert text in page, (text, page)


def test_a_broken_file_is_refused_by_its_line():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "run.json")
        good = json.dumps(dict(zip(KEYS, ["pair", "64", "weir", "ns_op", 2.5,
                                          "ns", 0, 1])))
        for bad in ("{", "[]", '{"suite":1}', good[:-1], good + "x",
                    '{"suite":"pair"}', '{"suite":"\\u00'):
            with open(path, "w", encoding="ascii") as file:
                file.write(good + "\n\n" + bad + "\n")
            done = bench("--report", path)
            assert done.returncode == 1, (bad, done)
            assert "line 3 is no row" in done.stderr, (bad, done)
        done = bench("--report", os.path.join(folder, "nothing"))
        assert done.returncode == 1 and "cannot read" in done.stderr, done


def test_a_full_disk_is_named():
    done = bench("pair", "--peers", "harness", "--quick",
                 "--json", "/dev/full")
    assert done.returncode == 1, done
    assert "/dev/full: No space left on device" in done.stderr, done.stderr


def test_a_malloc_that_is_another_is_found_out():
    workers("jemalloc")
    folder = os.path.join(os.path.dirname(weir_path()), "bench")
    libraries = subprocess.run(["ldd", os.path.join(folder,
                                                    "weir-bench-jemalloc")],
                               capture_output=True, text=True, check=True)
    libc = next(line.split()[2] for line in libraries.stdout.splitlines()
                if "libc.so" in line)
    done = subprocess.run(
        [os.path.join(folder, "weir-bench-jemalloc"), "pair", "1"],
        env={**os.environ, "LD_PRELOAD": libc}, capture_output=True,
        text=True, timeout=20, check=False)
    assert done.returncode == 1, done
    assert "malloc is that of libc.so.6, not of libjemalloc" in done.stderr


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
