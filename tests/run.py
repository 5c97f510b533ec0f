#!/usr/bin/env python3
"""Builds the project in several ways, runs every suite, and counts.

The programs of all suites share the machine (lib/schedule.py); each prints
what it has to say when it has ended.
"""
import glob
import os
import re
import subprocess
import sys
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), ".."))
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))

from schedule import Interrupted, Job, Schedule  # noqa: E402

BUILD = os.path.join(TOP, "build-test")
JOBS = str(os.cpu_count() or 2)
BUILD_LIMIT = 1200              # seconds

# Those that measure time, and what: nothing may run beside them.  Kept short:
# the others allow for a busy machine.
ALONE = {
    "test_tls_peer": "a turn of the loop takes under 100 ms while a handshake of 300 ms does not come",
}
# Those that run nothing of ours, or are about what others make of it:
# sanitizers have no say in them.
ONCE = ("test_fake_pubsub", "test_real_kuma", "test_crowdsec_hub")
# The longest start first, lest one of them is left over at the end.
LONG = ("test_real_kuma", "test_rabbit", "test_pubsub", "test_sqs", "test_bad_", "test_http_handler", "test_crowdsec",
        "test_spool_f", "test_redis_", "test_units", "test_runbook")


class Suite:
    """What its jobs took, for the table at the end."""
    all = []
    now = None                  # the one whose jobs are being made
    builds = None

    def __init__(self, name):
        self.name = name
        self.passed = self.failed = self.skipped = 0
        self.seconds = self.cpu_seconds = 0.0
        Suite.all.append(self)


Suite.now = Suite.builds = Suite("builds")


# What fails beside others runs once more with nothing beside it, and that run
# counts: some deadlines are the daemon's own, and a busy machine is no fault of
# it.  What was said the first time is printed, and they are named at the end.
# More than so many are no accident: then the first run counts.
AGAIN_MAX = 8


class Count:
    failures = []
    skips = []
    again = []                  # they had a second run


def say(text):
    print(text)
    sys.stdout.flush()


def quoted(output):
    """What was said first tells what went wrong, and so does what came last."""
    lines = output.rstrip().splitlines()
    if len(lines) > 300:
        lines[100:-200] = ["... %d lines ..." % (len(lines) - 300)]
    return "\n".join("     | " + x for x in lines)


def passed(suite, name):
    suite.passed += 1
    say("ok   %s" % name)


def failed(suite, name, output):
    suite.failed += 1
    Count.failures.append(name)
    say("FAIL %s\n%s" % (name, quoted(output)))


def skipped(suite, name, why):
    suite.skipped += 1
    Count.skips.append("%s: %s" % (name, why))
    say("skip %s: %s" % (name, why))


schedule = Schedule()


def run(argv, report, cwd=TOP, **kw):
    """report(job) when it has ended."""
    suite = Suite.now

    def ended(job):
        suite.seconds += job.seconds
        suite.cpu_seconds += job.cpu_seconds
        Suite.now = suite
        report(job)
    schedule.add(Job(argv, ended, cwd=cwd, **kw))


def took(job):
    return "%.1f s, CPU %.1f s" % (job.seconds, job.cpu_seconds)


def judge(name, argv, bad, count, alone=False, first=0, **kw):
    """count(job) is what it comes to, of the second run when the first was bad(job)."""
    def ended(job):
        if bad(job) and not alone and len(Count.again) < AGAIN_MAX:
            Count.again.append(name)
            say("once more, alone: %s failed beside others\n%s" % (name, quoted(job.output)))
            run(argv, count, alone=True, **kw)
        else:
            count(job)
    run(argv, ended, alone=alone, first=first, **kw)


def case(name, argv, again=False, **kw):
    suite = Suite.now

    def count(job):
        if job.status == 0:
            passed(suite, "%s (%s)" % (name, took(job)))
        else:
            failed(suite, name, job.output + "\nexit status %d" % job.status)
    judge(name, argv, lambda job: again and job.status != 0, count, **kw)


def tap(name, argv, **kw):
    """A program that prints TAP; each of its lines counts."""
    suite = Suite.now
    base = os.path.basename(name.split(" ")[0])
    judge(name, argv, tap_failed, lambda job: count_tap(suite, name, job),
          first=1 if base.startswith(LONG) else 0, alone=base in ALONE, **kw)


def read_tap(job):
    """How many were good and bad, who was skipped and why, and how many never ran."""
    good = bad = plan = 0
    skips = []
    why = None
    for line in job.output.splitlines():
        m = re.match(r"(?:# )?(?:skipped: (.*)|(.*): skipped)$", line.rstrip())
        if m:                   # cmocka's skip() takes no reason
            why = m.group(1) or m.group(2)
        m = re.match(r"1\.\.(\d+)", line)
        if m:
            plan += int(m.group(1))
        m = re.match(r"(not )?ok \d+(?: - |\s*)?(.*)", line)
        if not m:
            continue
        if "# SKIP" in line:
            what, _, said = m.group(2).partition("# SKIP")
            what, said = what.strip(" -"), said.strip()
            skips.append((what, said) if what else (said, why or "no reason given"))
            why = None
        elif m.group(1):
            bad += 1
        else:
            good += 1
    return good, bad, skips, plan - good - bad - len(skips)


def tap_failed(job):
    good, bad, skips, lost = read_tap(job)
    return bool(job.status or bad or lost or not good + len(skips))


def count_tap(suite, name, job):
    good, bad, skips, lost = read_tap(job)
    for what, why in skips:
        skipped(suite, "%s: %s" % (name, what), why)
    suite.passed += good
    if tap_failed(job):
        suite.failed += max(bad, 1)
        Count.failures.append(name)
        say("FAIL %s: %d passed, %d failed, %d never ran, exit status %d\n%s" %
            (name, good, bad, lost, job.status, quoted(job.output)))
    else:
        say("ok   %s: %d (%s)" % (name, good, took(job)))


# For what is about other things than the code that the compiler makes.
FAST = "CFLAGS=-O0 -U_FORTIFY_SOURCE"
BUILDS = {
    "gcc": (["CC=gcc", "--enable-werror", "--enable-fault-injection"], ["all", "check-programs"]),
    "asan": (["CC=gcc", "--enable-werror", "--enable-sanitizers", "--enable-fault-injection", "CFLAGS=-O1 -g"],
             ["all", "check-programs"]),
    "clang": (["CC=clang", "--enable-werror", FAST], ["all"]),
    "fuzz": (["CC=clang", "--enable-werror", "--enable-fuzzing", "CFLAGS=-O1 -g"], ["fuzzers"]),
}
FIRST = {"gcc": 9, "asan": 8}   # most of the others wait for these two
NICE = 5                        # what is busy gives way to what has deadlines
users = {}                      # kind: [(suite, fn), ...], until it is built


def when_built(kind, fn):
    """fn(folder) once it is there.  A build that fails is counted once."""
    if kind in users:
        users[kind].append((Suite.now, fn))
        return
    users[kind] = [(Suite.now, fn)]
    Suite.now = suite = Suite.builds
    where = os.path.join(BUILD, kind)
    os.makedirs(where, exist_ok=True)
    options, targets = BUILDS[kind]
    steps = []
    if not os.path.exists(os.path.join(where, "Makefile")):
        steps.append([os.path.join(TOP, "configure"), "-q"] + options)
    # One after the other: two sub-makes would build the same object at once.
    steps += [["make", "-s", "-j" + JOBS, target] for target in targets]

    def report(job):
        if job.status:
            failed(suite, "build with " + kind, job.output)
            return
        if "warning:" in job.output:
            failed(suite, "build with %s has warnings" % kind, job.output)
        else:
            passed(suite, "build with %s (%s)" % (kind, took(job)))
        for Suite.now, fn in users[kind]:
            fn(where)
    run(steps, report, cwd=where, limit=BUILD_LIMIT, busy=True, first=FIRST.get(kind, 0),
        nice=0 if kind in FIRST else NICE)
    Suite.now = users[kind][0][0]


# Seconds that a test waits for what must come.  Much beside others is slow.
PATIENCE = {"TEST_DEADLINE": "60"}
ASAN = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99:detect_stack_use_after_return=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def programs(where, what):
    """What the Makefile there lists: check-programs or fuzzers."""
    return subprocess.run(["make", "-s", "print-" + what], cwd=where, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, check=True, universal_newlines=True).stdout.split()


def c_programs(kind, where):
    for program in programs(where, "check-programs"):
        env = {**PATIENCE, "srcdir": TOP, "CMOCKA_MESSAGE_OUTPUT": "TAP", "BUILD_DIR": where}
        if kind == "asan":
            env.update(ASAN)
        (case if "/fuzz_" in program else tap)(
            "%s [%s]" % (program, kind), [os.path.join(where, program)], cwd=where, env=env)


def python_suites(kind, where, *folders, **more):
    env = {**PATIENCE, "BUILD_DIR": where, "PYTHONPATH": os.path.join(TOP, "tests", "lib"),
           "PYTHONDONTWRITEBYTECODE": "1", **more}
    if kind == "asan":
        env.update(ASAN)
    for folder in folders:
        for path in sorted(glob.glob(os.path.join(TOP, "tests", folder, "test_*.py"))):
            name = os.path.basename(path)[:-3]
            if kind != "asan" or name not in ONCE:
                tap("%s/%s [%s]" % (folder, name, kind), [sys.executable, path], cwd=where, env=env)


def manual_page(page, path):
    suite = Suite.now

    def report(job):
        if job.status == 0 and len(job.output) > 500 and "warning" not in job.output.split("\n")[0]:
            passed(suite, "manual page " + page)
        else:
            failed(suite, "manual page " + page, job.output[:3000])
    run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", path], report,
        env={"MANROFFSEQ": "", "MANWIDTH": "100", "LC_ALL": "C.UTF-8"})


def suite_style():
    """the laws of the house, and what documents name"""
    case("layers", ["scripts/check-layers"])
    for path in sorted(p for p in glob.glob(os.path.join(TOP, "scripts", "*")) if os.path.isfile(p)):
        with open(path) as f:
            head = f.readline() + f.readline()
        if re.search(r"^#!/bin/(ba)?sh|^# shellcheck shell=sh", head, re.M):
            case("syntax of scripts/%s" % os.path.basename(path), ["bash", "-n", path])

    def pages(where):
        for page in ("docs/bot-operatord.8", "docs/botctl.1", "docs/bot-operator.conf.5"):
            manual_page(page, os.path.join(where if page.endswith(".5") else TOP, page))
        python_suites("gcc", where, "style")
    when_built("gcc", pages)


def suite_live():
    """the daemon against real servers and bad peers"""
    when_built("gcc", lambda where: python_suites("gcc", where, "live", "peer"))


def suite_chaos():
    """kill -9 at random moments"""
    when_built("gcc", lambda where: python_suites("gcc", where, "chaos"))


def suite_unit():
    """C programs: unit, sim, live queues, fuzz corpora"""
    when_built("gcc", lambda where: c_programs("gcc", where))


def suite_live_asan():
    """the daemon under ASan and UBSan"""
    when_built("asan", lambda where: python_suites("asan", where, "live", "peer"))


def suite_asan():
    """the same C programs under ASan and UBSan"""
    when_built("asan", lambda where: c_programs("asan", where))


# make distcheck builds without any option, from the tarball alone.  Optimised
# code and the servers are the business of other suites: every program of
# tests/live/ has run twice by now, and none of them reads the source tree.
DISTCHECK = ["DISTCHECK_CONFIGURE_FLAGS='%s'" % FAST, "TESTS=$(filter-out tests/live/%,$(check_PROGRAMS))"]


def suite_distcheck():
    """make distcheck"""
    when_built("gcc", lambda where: case("make distcheck", ["make", "-s", "-j" + JOBS, "distcheck"] + DISTCHECK,
                                         again=True, cwd=where, limit=BUILD_LIMIT, busy=True, nice=NICE, first=-1))


def suite_clang():
    """builds with clang without a warning"""
    when_built("clang", lambda where: None)


def suite_fuzz():
    """a short run of each fuzzer from its corpus"""
    def fuzz(where):
        for program in programs(where, "fuzzers"):
            case("%s, 5 s" % program, ["make", "-s", "fuzz", "FUZZ_SECONDS=5", "FUZZERS=" + program],
                 cwd=where, busy=True, nice=NICE, first=1)
    when_built("fuzz", fuzz)


def suite_quickstart():
    """what README says first"""
    name, _, value = FAST.partition("=")
    case("scripts/quickstart --once", ["scripts/quickstart", "--once"], again=True, busy=True, nice=NICE, env={name: value})


def suite_package():
    """packages and units in a booted systemd"""
    def build(where):
        def report(job):
            if job.status:
                failed(Suite.now, "packages and the root of machines", job.output)
                return
            built = re.search(r"^packages: (.*)", job.output, re.M)
            if built:
                passed(Suite.now, "packages, built twice, and the root of machines (%s)" % took(job))
            # Making the tarball anew would get in the way of make distcheck.
            python_suites("gcc", where, "package", **({"BOT_TEST_PACKAGES": built.group(1)} if built else {}))
        run([sys.executable, os.path.join(TOP, "tests", "lib", "packages.py")], report, busy=True, nice=NICE, first=1,
            limit=BUILD_LIMIT, env={"BUILD_DIR": where, "PYTHONDONTWRITEBYTECODE": "1"})
    when_built("gcc", build)


SUITES = {n[6:].replace("_", "-"): f for n, f in list(globals().items()) if n.startswith("suite_")}


def finish(begin):
    if len(Suite.all) > 2:
        say("\n%-12s %7s %7s %7s %9s %9s" % ("suite", "passed", "failed", "skipped", "seconds", "CPU s"))
        for s in Suite.all:
            say("%-12s %7d %7d %7d %9.1f %9.1f" % (s.name, s.passed, s.failed, s.skipped, s.seconds, s.cpu_seconds))
    say("\n%.0f s; %.0f s of CPU" % (time.monotonic() - begin, sum(s.cpu_seconds for s in Suite.all)))
    if Count.again:
        say("\nfailed beside others, so that a run alone counts:\n  " + "\n  ".join(Count.again))
    if Count.skips:
        say("\nskipped:\n  " + "\n  ".join(Count.skips))
    if Count.failures:
        say("\nfailed:\n  " + "\n  ".join(Count.failures))
    good, bad, skips = (sum(getattr(s, x) for s in Suite.all) for x in ("passed", "failed", "skipped"))
    say("\n%d passed, %d failed, %d skipped" % (good, bad, skips))
    return 1 if bad or not good else 0


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
    begin = time.monotonic()

    def make_jobs():
        for name in wanted:
            Suite.now = Suite(name)
            SUITES[name]()
    if os.path.exists(os.path.join(TOP, "configure")):
        make_jobs()
    else:
        run(["./autogen.sh"], lambda job: failed(Suite.builds, "autogen.sh", job.output) if job.status else make_jobs())
    try:
        schedule.run()
    except Interrupted as e:
        failed(Suite.builds, "interrupted", "by %s; what ran was ended" % e)
    return finish(begin)


if __name__ == "__main__":
    sys.exit(main())
