#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Blinds one detector of the library after the other and looks for a test that
notices.

usage: run.py SOURCES PROGRAMS [DETECTOR...]

SOURCES is where WEIR_DETECTOR(name) is looked for (src/base/detector.h), PROGRAMS
where the programs over the library with switches are: the set of one-bug programs
and all test programs that expect a report.  Every test of theirs is run once with
nothing switched off, to learn which detectors it makes speak.  Then, for each
detector, those tests are run without it, the quickest first, until one fails:
the detector's mutant is killed.  It is an error when none does, when a detector
never spoke, when two have one name, and when a report came without any detector
having spoken, whose place then lacks its mark.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

MODES = "ASD"
SKIPPED = 77
# Some mutants wait for ever for what does not come.
LIMIT_S = 60
BLIND_LIMIT_S = 8


def detectors(sources):
    """Name -> "file:line", from the sources."""
    found, twice = {}, []
    for folder, _, names in os.walk(sources):
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not name.endswith((".c", ".h")) or name == "detector.h":
                continue
            with open(path, encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    if line.startswith("#define"):
                        continue
                    for detector in re.findall(
                            r"\bWEIR_DETECTOR\((\w+)\)", line):
                        place = os.path.relpath(path, sources)
                        if detector in found:
                            twice.append(detector)
                        found[detector] = f"{place}:{number}"
    return found, twice


class Case:
    """One test: a command, and what it was seen to do."""

    def __init__(self, name, command):
        self.name = name
        self.command = command
        self.spoke = set()
        self.took = 0.0

    def run(self, limit, **switches):
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("WEIR_MUTANT_", "WEIR_GUARD"))
        }
        environment.update(WEIR_TEST_QUICK="1", **switches)
        with subprocess.Popen(self.command, env=environment, text=True,
                              stdin=subprocess.DEVNULL, errors="replace",
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT,
                              start_new_session=True) as process:
            try:
                output, _ = process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                # Told, a test program ends its tests, which have process
                # groups of their own.
                os.killpg(process.pid, signal.SIGTERM)
                process.communicate()
                return None
            return subprocess.CompletedProcess(
                self.command, process.returncode, output)

    def learn(self):
        """Runs it as it is; an error, or None."""
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "log")
            begun = time.monotonic()
            result = self.run(LIMIT_S, WEIR_MUTANT_LOG=log)
            self.took = time.monotonic() - begun
            if result is None:
                return f"{self.name}: not done after {LIMIT_S} s"
            if result.returncode not in (0, SKIPPED):
                # It may be one that counts system calls.
                result = self.run(LIMIT_S)
                if result is not None and result.returncode == 0:
                    return None
                return (f"{self.name}: failed with nothing switched off:\n"
                        f"{result.stdout}")
            if os.path.exists(log):
                with open(log, encoding="utf-8", errors="replace") as file:
                    self.spoke = set(file.read().splitlines())
        return None

    def fails_without(self, detector):
        result = self.run(max(BLIND_LIMIT_S, 20 * self.took),
                          WEIR_MUTANT_OFF=detector)
        return result is None or result.returncode not in (0, SKIPPED)


def cases(programs):
    found = []
    for program in sorted(os.listdir(programs)):
        path = os.path.join(programs, program)
        if not os.access(path, os.X_OK) or os.path.isdir(path):
            continue
        listed = subprocess.run([path, "--list"], check=True, text=True,
                                stdout=subprocess.PIPE).stdout.splitlines()
        if program == "fault_set":
            # Its correct programs make nothing speak; the last line counts.
            names = [name for name in listed[:-1] if " " not in name]
            found += [
                Case(f"{program} {mode} {name}", [path, "--mode", mode, name])
                for mode in MODES for name in names
            ]
        else:
            found += [Case(f"{program} {name}", [path, name])
                      for name in listed]
    return found


def kill(detector, tests):
    """The name of a test that fails without it, or None."""
    for case in sorted(tests, key=lambda case: case.took):
        if case.fails_without(detector):
            return case.name
    return None


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    known, twice = detectors(sys.argv[1])
    wanted = sys.argv[3:] or sorted(known)
    errors = [f"two detectors are named {name}" for name in twice]
    errors += [f"no detector {name}" for name in wanted if name not in known]
    tests = cases(sys.argv[2])

    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        errors += [error for error in pool.map(Case.learn, tests) if error]
        for case in tests:
            errors += [
                f'{case.name}: no detector led to the report "{line[1:]}"'
                for line in sorted(case.spoke) if line.startswith("!")
            ]
        seen_by = {
            name: [case for case in tests if name in case.spoke]
            for name in wanted
        }
        killers = pool.map(lambda name: kill(name, seen_by[name]), wanted)
        for name, killer in zip(wanted, killers):
            print(f"{name:28} {len(seen_by[name]):4}  {killer or 'SURVIVES'}",
                  flush=True)
            if killer is None:
                why = "none fails without it" if seen_by[name] \
                    else "it never spoke"
                errors.append(f"{name} ({known.get(name)}) survives"
                              f" {len(seen_by[name])} tests: {why}")

    for error in errors:
        print("ERROR", error)
    print(f"{len(wanted)} detectors, {len(tests)} tests,"
          f" {len(errors)} errors")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
