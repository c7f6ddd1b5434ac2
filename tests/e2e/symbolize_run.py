# SPDX-License-Identifier: MIT
"""`weir symbolize` on reports of the programs in examples/bugs.

    python3 tests/e2e/symbolize_run.py build/release [test_name ...]
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import _server
from _server import Skip, weir_command

BUILD = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "."
PROGRAM = os.path.join(BUILD, "examples/bugs/use_after_free")
FRAME = re.compile(r"#(\d+) (0x[0-9a-f]+) (\S+)\+(0x[0-9a-f]+)$", re.M)


def need():
    if not os.path.exists(PROGRAM):
        raise Skip("WEIR_EXAMPLES is off")
    if not shutil.which("addr2line"):
        raise Skip("no addr2line")


def report(program=PROGRAM, **environment):
    """What a program that misuses a pool writes, text and JSON."""
    need()
    launcher = weir_command()[:-1]  # setarch under ThreadSanitizer
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_")}
    done = subprocess.run([*launcher, program], capture_output=True, text=True,
                          timeout=30, check=False, env={**clean, **environment})
    assert done.returncode == -6, done
    assert FRAME.search(done.stderr), done.stderr
    return done.stderr


def symbolize(text, *options, **environment):
    return subprocess.run(weir_command("symbolize", *options), input=text,
                          capture_output=True, text=True, timeout=50,
                          check=False, env={**os.environ, **environment})


def line_of(name, needle):
    """The number of the only line of a source that has a text."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                        "../../examples/bugs", name)
    with open(path, encoding="utf-8") as file:
        lines = [i for i, line in enumerate(file, 1) if needle in line]
    assert len(lines) == 1, (needle, lines)
    return lines[0]


def text_part(whole):
    return "".join(line for line in whole.splitlines(True)
                   if not line.startswith("{"))


def test_frames_get_function_file_and_line():
    done = symbolize(report())
    where = line_of("use_after_free.c", "weir_cache_free(conns, bob);")
    assert done.returncode == 0, done
    assert re.search(rf"#\d+ main at \S*use_after_free\.c:{where} \(\S+\+0x",
                     done.stdout), done.stdout
    # The library's own frames, too, and the first is where it began.
    assert re.search(r"#0 \w+ at \S*/src/\S+\.c:\d+", done.stdout), done.stdout


def test_all_but_frames_is_copied():
    whole = report()
    done = symbolize("before\n" + whole + "after, without a newline")
    plain = [line for line in whole.splitlines() if not FRAME.search(line)]
    shown = done.stdout.splitlines()
    assert shown[0] == "before" and shown[-1] == "after, without a newline"
    for line in plain:
        assert line in shown, line


def test_a_file_is_read_as_standard_input_is():
    whole = report()
    with tempfile.NamedTemporaryFile("w", suffix=".log") as file:
        file.write(whole)
        file.flush()
        named = symbolize("", file.name)
        behind = symbolize("", "--program=addr2line", file.name)
        assert named.stdout == behind.stdout == symbolize(whole).stdout
    gone = symbolize("", "/nonexistent.log")
    assert gone.returncode == 1 and "/nonexistent.log: No such" in gone.stderr


def test_llvm_says_the_same_of_the_program():
    if not shutil.which("llvm-symbolizer"):
        raise Skip("no llvm-symbolizer")
    where = line_of("use_after_free.c", "weir_cache_free(conns, bob);")
    done = symbolize(report(), "--program", "llvm-symbolizer")
    assert f"use_after_free.c:{where} " in done.stdout, done


def build_id(path):
    notes = subprocess.run(["readelf", "-n", path], capture_output=True,
                           text=True, check=True).stdout
    return re.search(r"Build ID: ([0-9a-f]+)", notes).group(1)


def as_json(whole, change=lambda module: None):
    """The line of JSON of a report, with other modules."""
    fault = json.loads(next(line for line in whole.splitlines()
                            if line.startswith("{")))
    for module in fault["modules"]:
        change(module)
    return json.dumps(fault, separators=(",", ":")) + "\n"


def test_json_has_the_modules_of_all_frames():
    whole = report()
    modules = json.loads(as_json(whole))["modules"]
    base = {m["path"]: int(m["base"], 16) for m in modules}
    assert len(base) == len(modules)
    frames = FRAME.findall(whole)
    assert frames
    for _, address, path, offset in frames:
        assert base[path] == int(address, 16) - int(offset, 16), (path, base)
    own = next(m for m in modules if m["path"] == PROGRAM)
    if shutil.which("readelf"):
        assert own["build_id"] == build_id(PROGRAM)
        # Shared libraries too, where the program has any.
        for module in modules:
            if "build_id" in module:
                assert module["build_id"] == build_id(module["path"]), module
    # The process is gone, and the line is whole.
    assert symbolize(as_json(whole)).returncode == 0


def test_json_alone_becomes_text():
    whole = report()
    done = symbolize(as_json(whole))
    where = line_of("use_after_free.c", "weir_cache_free(conns, bob);")
    assert done.returncode == 0, done
    first = next(l for l in whole.splitlines() if "weir: FAULT" in l)
    assert done.stdout.splitlines()[0] == first
    assert re.search(rf"#\d+ main at \S*use_after_free\.c:{where} ",
                     done.stdout), done.stdout


def test_leaks_have_names_as_text_and_as_json():
    need()
    program = os.path.join(BUILD, "examples/bugs/leak")
    done = subprocess.run([*weir_command()[:-1], program], text=True,
                          capture_output=True, timeout=30, check=False,
                          env={**os.environ, "WEIR_GUARD": "full",
                               "WEIR_LEAKS": "1"})
    lines = done.stderr.splitlines()
    assert any(re.search(r"leak: \w+ \"\w+\": \d+ objects?, \d+ bytes?, taken "
                         r"[0-9.]+( to [0-9.]+)? s ago, by:$", line)
               for line in lines), done.stderr
    fault = next(line for line in lines if line.startswith('{"weir":"leak"'))
    leak = json.loads(fault)
    assert leak["objects"] > 0 and leak["stack"] and leak["modules"], leak
    text = "".join(f"{line}\n" for line in lines if not line.startswith("{"))
    for report_ in text, fault + "\n":
        named = symbolize(report_)
        assert named.returncode == 0, named
        assert re.search(r"#\d+ \w+ at \S*bugs/leak\.c:\d+\b",
                         named.stdout), named


def test_a_file_of_another_build_is_not_asked():
    def forge(module):
        if module["path"] == PROGRAM:
            module["build_id"] = "0123456789abcdef"

    done = symbolize(as_json(report(), forge))
    assert "use_after_free.c" not in done.stdout
    assert re.search(r"#\d+ \?\? \(\S+use_after_free\+0x", done.stdout), done
    assert "another build: its id is" in done.stderr, done
    # Others are.
    assert re.search(r"#0 \w+ at \S*/src/", done.stdout), done.stdout


def test_debug_information_is_found_by_the_build_id():
    tools = "objcopy", "readelf", "strip"
    if not all(map(shutil.which, tools)):
        raise Skip("no binutils")
    with tempfile.TemporaryDirectory() as work:
        copy = os.path.join(work, "stripped")
        shutil.copy(PROGRAM, copy)
        identity = build_id(copy)
        folder = os.path.join(work, ".build-id", identity[:2])
        os.makedirs(folder)
        subprocess.run(["objcopy", "--only-keep-debug", copy, os.path.join(
            folder, identity[2:] + ".debug")], check=True)
        subprocess.run(["strip", "--strip-all", copy], check=True)
        whole = report(copy)

        def move(module):
            if module["path"] == copy:
                module.update(path="/gone/stripped", build_id=identity)

        done = symbolize(as_json(whole, move), "--debug-directory", work)
        assert re.search(r"main at \S*use_after_free\.c:\d+ \(/gone/stripped",
                         done.stdout), done


def test_a_module_that_is_gone_costs_its_own_frames_only():
    whole = report().replace(f" {PROGRAM}+", " /gone/use_after_free+")
    done = symbolize(whole)
    assert done.returncode == 0, done
    assert re.search(r"#\d+ \?\? \(/gone/use_after_free\+0x", done.stdout)
    assert "no names for /gone/use_after_free: No such file" in done.stderr
    assert re.search(r"#0 \w+ at \S*/src/", done.stdout), done.stdout


def test_without_a_tool_the_offsets_stay_and_it_is_said():
    whole = report()
    done = symbolize(whole, PATH="/nonexistent")
    assert done.returncode == 1
    assert "neither addr2line (package binutils) nor" in done.stderr, done
    for _, _, path, offset in FRAME.findall(whole):
        assert f"?? ({path}+{offset})" in done.stdout


def test_text_without_a_frame_is_told():
    done = symbolize("nothing of weir's\n")
    assert done.stdout == "nothing of weir's\n"
    assert done.returncode == 1 and "no frame" in done.stderr


def test_broken_input_is_copied():
    whole = report()
    line = next(line for line in whole.splitlines() if line.startswith("{"))
    for end in range(20, len(line), 97):
        done = symbolize(line[:end])
        assert done.returncode in (0, 1), (end, done)
    assert "main at" in symbolize("\n".join(
        f"[#7 #x] {line}" for line in whole.splitlines())).stdout
    for broken in ("#", "#1", "#1 0x", "#1 0x1 a+0x", "#1 0x1 +0x1",
                   "#99999999999999999999 0x1 /a+0x1", "\0#0 0x1 /a+0x1"):
        done = symbolize(broken)
        assert done.returncode == 1, (broken, done)


if __name__ == "__main__":
    _server.main(sys.modules[__name__])
