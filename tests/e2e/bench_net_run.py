# SPDX-License-Identifier: MIT
"""`weir bench net` in small: every figure is there, and its verdict follows.

    python3 tests/e2e/bench_net_run.py build/release [test_name ...]
"""

import json
import os
import subprocess
import sys
import tempfile

import _server
from _server import CONFIG, Skip, weir_command

SMALL = ("bench", "net", "--quick", "--rounds", "2", "--time", "10ms",
         "--connections", "200")


def only_release():
    if CONFIG not in ("", "release"):
        raise Skip("its figures are of no use in this configuration")


def bench(*arguments):
    return subprocess.run(weir_command(*arguments), capture_output=True,
                          text=True, timeout=55, check=False)


def rows_of(text):
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        assert list(row) == ["suite", "case", "peer", "metric", "value",
                             "unit", "spread", "rounds"], row
    return rows


def figures_of(rows):
    """What there is of each figure, by case and peer."""
    figures = {}
    for row in rows:
        if row["suite"] == "net" and row["case"][0] == "N":
            figures.setdefault((row["case"], row["peer"]), {})[
                row["metric"]] = row
    return figures


def check_figure(name, figure):
    assert figure["what"]["unit"], name
    target = figure["target"]
    verdict = figure["verdict"]["unit"]
    if "figure" not in figure or figure["figure"]["value"] is None:
        assert verdict.startswith("short: "), (name, figure)
        return
    value = figure["figure"]["value"]
    sign = target["unit"][:2]
    assert sign in ("<=", ">="), (name, target)
    reached = (value >= target["value"] if sign == ">=" else
               value <= target["value"])
    assert verdict == ("pass" if reached else "short"), (name, figure)


def median(rows, case, peer, metric):
    for row in rows:
        if (row["case"], row["peer"], row["metric"]) == (case, peer, metric):
            return row["value"]
    raise AssertionError((case, peer, metric))


def test_every_figure_has_a_target_and_a_verdict():
    only_release()
    done = bench(*SMALL, "--json", "-")
    rows = rows_of(done.stdout)
    failed = [row for row in rows if row["metric"] == "failed"]
    # Where io_uring is forbidden its servers fail, and it says so.
    assert done.returncode == (1 if failed else 0), done
    assert all("uring" in row["peer"] for row in failed), failed
    figures = figures_of(rows)
    numbers = {int(name[0].split()[0][1:]) for name in figures}
    assert numbers == set(range(1, 13)), numbers
    for name, figure in figures.items():
        check_figure(name, figure)

    for case in "100", "200":
        ratio = figures[(f"N3 epoll {case}", "weir-epoll")].get("figure")
        # On a machine that does much else a short run may bring nothing.
        if ratio is not None:
            assert ratio["rounds"] <= 2 and ratio["unit"] == "x", ratio
            assert ratio["value"] is None or ratio["value"] > 0, ratio
        share = median(rows, case, "epoll", "others_share")
        assert 0 <= share <= 1.5, share

    about = {row["metric"]: row["unit"] for row in rows
             if row["suite"] == "about"}
    assert about["shortened"].startswith("200 connections"), about
    assert about["kernel"].startswith("Linux"), about

    idle = figures[("N6 epoll", "weir-epoll")]["figure"]
    assert idle["unit"] == "B" and 0 < idle["value"] < 4096, idle
    assert median(rows, "idle", "weir-epoll", "buffers") == 0


def test_one_figure_is_measured_by_its_name():
    only_release()
    done = bench(*SMALL, "--case", "N6", "--json", "-")
    names = {name for name, _ in figures_of(rows_of(done.stdout))}
    assert names and all(name.split()[0] == "N6" for name in names), names


def test_without_other_servers_the_figures_are_short_and_say_why():
    only_release()
    with tempfile.TemporaryDirectory() as empty:
        path = os.path.join(empty, "net.json")
        done = bench(*SMALL, "--rounds", "1", "--directory", empty, "--json",
                     path)
        with open(path, encoding="utf-8") as file:
            figures = figures_of(rows_of(file.read()))
    verdict = figures[("N1 epoll 200", "weir-epoll")]["verdict"]["unit"]
    assert verdict.startswith("short: not in "), verdict
    assert "figure" not in figures[("N1 epoll 200", "weir-epoll")]
    # What needs weir alone is measured all the same.
    assert figures[("N6 epoll", "weir-epoll")]["figure"]["value"] > 0
    assert "CPU/packet vs libuv, 200" in done.stdout, done.stdout
    assert "Shortened: 200 connections" in done.stdout, done.stdout


def test_a_page_is_made_of_the_rows_alone():
    row = ('{"suite":"net","case":"N1 epoll 9","peer":"weir-epoll",'
           '"metric":"%s","value":%s,"unit":"%s","spread":0.05,"rounds":15}\n')
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(row % ("what", 0, "CPU/packet vs libuv") +
                       row % ("target", 0.71, "<= x") +
                       row % ("figure", 0.7, "x") +
                       row % ("bare", 0.68, "x") +
                       row % ("verdict", 0, "pass"))
        page = bench("bench", "--report", path).stdout
    assert ("| N1 | `weir-epoll` | CPU/packet vs libuv | <= 0.71 | "
            "0.70 +- 0.05 | 0.68 | pass |") in page, page
    assert "1 of 1 pass." in page, page


def test_what_makes_no_sense_is_refused():
    for arguments, word in (
            (("bench", "net", "pair"), "alone"),
            (("bench", "net", "--peers", "weir"), "--peers"),
            (("bench", "net", "--instructions"), "--instructions"),
            (("bench", "pair", "--connections", "500"), "--connections"),
            (("bench", "net", "--case", "N13"), "N13"),
            (("bench", "net", "--connections", "1"), "100")):
        done = bench(*arguments)
        assert done.returncode == 2, done
        assert word in done.stderr, done.stderr


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
