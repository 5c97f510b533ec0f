#!/usr/bin/env python3
"""Builds the project in several ways, runs every suite, and counts."""
import glob
import os
import re
import shutil
import subprocess
import sys
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
BUILD = os.path.join(TOP, "build-test")
JOBS = str(os.cpu_count() or 2)
LIMIT = 600                     # seconds for one program


class Count:
    passed = failed = skipped = 0
    failures = []
    skips = []


def say(text):
    print(text)
    sys.stdout.flush()


def passed(name):
    Count.passed += 1
    say("ok   %s" % name)


def failed(name, output):
    Count.failed += 1
    Count.failures.append(name)
    say("FAIL %s\n%s" % (name, "\n".join("     | " + l for l in output.rstrip().splitlines()[-120:])))


def skipped(name, why):
    Count.skipped += 1
    Count.skips.append("%s: %s" % (name, why))
    say("skip %s: %s" % (name, why))


def run(argv, cwd=TOP, env=None, limit=LIMIT):
    """(exit status, output); what runs too long is ended with its group."""
    p = subprocess.Popen(argv, cwd=cwd, env=dict(os.environ, **(env or {})), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        out, _ = p.communicate(timeout=limit)
        return p.returncode, out.decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, 9)
        out, _ = p.communicate()
        return -1, out.decode(errors="replace") + "\nended after %d s\n" % limit


def case(name, argv, **kw):
    start = time.monotonic()
    status, out = run(argv, **kw)
    if status == 0:
        passed("%s (%.1f s)" % (name, time.monotonic() - start))
    else:
        failed(name, out + "\nexit status %d" % status)
    return status == 0


def tap(name, argv, **kw):
    """A program that prints TAP; each of its lines counts."""
    start = time.monotonic()
    status, out = run(argv, **kw)
    good = bad = skip = 0
    plan = None
    why = None
    for line in out.splitlines():
        m = re.match(r"(?:# )?(?:skipped: (.*)|(.*): skipped)$", line.rstrip())
        if m:                   # cmocka's skip() takes no reason
            why = m.group(1) or m.group(2)
        m = re.match(r"1\.\.(\d+)", line)
        if m:
            plan = (plan or 0) + int(m.group(1))
        m = re.match(r"(not )?ok \d+(?: - |\s*)?(.*)", line)
        if not m:
            continue
        if "# SKIP" in line:
            skip += 1
            what, _, said = m.group(2).partition("# SKIP")
            if what.strip(" -"):
                skipped("%s: %s" % (name, what.strip(" -")), said.strip())
            else:
                skipped("%s: %s" % (name, said.strip()), why or "no reason given")
            why = None
        elif m.group(1):
            bad += 1
        else:
            good += 1
    Count.passed += good
    if bad or status != 0 or plan != good + bad + skip:
        lost = (plan or 0) - good - bad - skip
        Count.failed += max(bad, 1)
        Count.failures.append(name)
        say("FAIL %s: %d passed, %d failed, %d never ran, exit status %d\n%s" %
            (name, good, bad, lost, status, "\n".join("     | " + l for l in out.splitlines()[-200:])))
    else:
        say("ok   %s: %d (%.1f s)" % (name, good, time.monotonic() - start))


BUILDS = {
    "gcc": (["CC=gcc", "--enable-werror", "--enable-fault-injection"], ["all", "check-programs"]),
    "clang": (["CC=clang", "--enable-werror"], ["all"]),
    "asan": (["CC=gcc", "--enable-werror", "--enable-sanitizers", "--enable-fault-injection", "CFLAGS=-O1 -g"],
             ["all", "check-programs"]),
    "fuzz": (["CC=clang", "--enable-werror", "--enable-fuzzing", "CFLAGS=-O1 -g"], ["fuzzers"]),
}
built = {}


def build(kind):
    """The build folder, or None when it did not build (counted once)."""
    if kind in built:
        return built[kind]
    if not os.path.exists(os.path.join(TOP, "configure")):
        status, out = run(["./autogen.sh"])
        if status:
            failed("autogen.sh", out)
            sys.exit(finish())
    where = os.path.join(BUILD, kind)
    os.makedirs(where, exist_ok=True)
    options, targets = BUILDS[kind]
    status, out = 0, ""
    if not os.path.exists(os.path.join(where, "Makefile")):
        status, out = run([os.path.join(TOP, "configure"), "-q"] + options, cwd=where)
    start = time.monotonic()
    # One after the other: two sub-makes would build the same object at once.
    for target in targets:
        if status == 0:
            status, more = run(["make", "-s", "-j" + JOBS, target], cwd=where, limit=1200)
            out += more
    built[kind] = where if status == 0 else None
    if status:
        failed("build with " + kind, out)
    elif "warning:" in out:
        failed("build with %s has warnings" % kind, out)
    else:
        passed("build with %s (%.0f s)" % (kind, time.monotonic() - start))
    return built[kind]


ASAN = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def c_programs(kind):
    where = build(kind)
    if not where:
        return
    _, out = run(["make", "-s", "print-check-programs"], cwd=where)
    for program in out.split():
        env = {"srcdir": TOP, "CMOCKA_MESSAGE_OUTPUT": "TAP", "BUILD_DIR": where}
        if kind == "asan":
            env.update(ASAN)
        name = "%s [%s]" % (program, kind)
        if "/fuzz_" in program:
            case(name, [os.path.join(where, program)], cwd=where, env=env)
        else:
            tap(name, [os.path.join(where, program)], cwd=where, env=env)


def python_suites(kind, *folders):
    where = build(kind)
    if not where:
        return
    env = {"BUILD_DIR": where, "PYTHONPATH": os.path.join(TOP, "tests", "lib"), "PYTHONDONTWRITEBYTECODE": "1"}
    if kind == "asan":
        env.update(ASAN)
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(TOP, "tests", folder, "test_*.py"))):
            tap("%s/%s [%s]" % (folder, os.path.basename(path)[:-3], kind), [sys.executable, path], cwd=where, env=env)


def suite_style():
    """the laws of the house"""
    case("layers", ["scripts/check-layers"])
    for path in sorted(p for p in glob.glob(os.path.join(TOP, "scripts", "*")) if os.path.isfile(p)):
        with open(path, "rb") as f:
            shebang = f.readline()
        if shebang.startswith(b"#!/bin/sh") or shebang.startswith(b"#!/bin/bash"):
            case("syntax of scripts/%s" % os.path.basename(path), ["bash", "-n", path])
    if not build("gcc"):
        return
    for page in ("docs/bot-operatord.8", "docs/botctl.1", "docs/bot-operator.conf.5"):
        path = os.path.join(built["gcc"] if page.endswith(".5") else TOP, page)
        status, out = run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", path],
                          env={"MANROFFSEQ": "", "MANWIDTH": "100", "LC_ALL": "C.UTF-8"})
        if status == 0 and len(out) > 500 and "warning" not in out.split("\n")[0]:
            passed("manual page " + page)
        else:
            failed("manual page " + page, out[:3000])


def suite_unit():
    """C programs: unit, sim, live queues, fuzz corpora"""
    c_programs("gcc")


def suite_clang():
    """builds with clang without a warning"""
    build("clang")


def suite_asan():
    """the same C programs under ASan and UBSan"""
    c_programs("asan")


def suite_live():
    """the daemon against real servers and bad peers"""
    python_suites("gcc", "live", "peer")


def suite_live_asan():
    """the daemon under ASan and UBSan"""
    python_suites("asan", "live", "peer")


def suite_chaos():
    """kill -9 at random moments"""
    python_suites("gcc", "chaos")


def suite_fuzz():
    """a short run of each fuzzer from its corpus"""
    where = build("fuzz")
    if where:
        case("fuzz, 5 s each", ["make", "-s", "fuzz", "FUZZ_SECONDS=5"], cwd=where)


def suite_quickstart():
    """what README says first"""
    case("scripts/quickstart --once", ["scripts/quickstart", "--once"])


def suite_distcheck():
    """make distcheck"""
    where = build("gcc")
    if where:
        case("make distcheck", ["make", "-s", "-j" + JOBS, "distcheck"], cwd=where, limit=1200)


SUITES = {n[6:].replace("_", "-"): f for n, f in list(globals().items()) if n.startswith("suite_")}


def finish():
    if Count.skips:
        say("\nskipped:\n  " + "\n  ".join(Count.skips))
    if Count.failures:
        say("\nfailed:\n  " + "\n  ".join(Count.failures))
    say("\n%d passed, %d failed, %d skipped" % (Count.passed, Count.failed, Count.skipped))
    return 1 if Count.failed or not Count.passed else 0


def main():
    wanted = sys.argv[1:] or list(SUITES)
    if "--list" in wanted or "--help" in wanted or "-h" in wanted:
        for name, fn in SUITES.items():
            print("%-12s %s" % (name, fn.__doc__))
        return 0
    for name in wanted:
        if name not in SUITES:
            print("no suite %r; there are: %s" % (name, " ".join(SUITES)), file=sys.stderr)
            return 2
    for name in wanted:
        say("\n== %s: %s" % (name, SUITES[name].__doc__))
        SUITES[name]()
    return finish()


if __name__ == "__main__":
    sys.exit(main())
