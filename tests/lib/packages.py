"""packages.py - the packages of this build tree, and machines that have them.

Built once for a tarball ("make dist" makes the same one of the same sources)
and kept in $BOT_TEST_CACHE (lib/booted.py).  As a program: builds them and
the root ahead of the tests.
"""
import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import booted
import rig

TOOLS = (("dpkg-buildpackage", "dpkg-dev"), ("dh", "debhelper"), ("apt-ftparchive", "apt-utils"),
         ("rpmbuild", "rpm"), ("createrepo_c", "createrepo-c"))
KINDS = ("deb", "rpm")
# What machines have besides: a broker, handlers, and the other family's tools.
WORLD = ("redis-server", "python3", "dnf", "rpm")


def needed():
    for tool, package in TOOLS:
        if not shutil.which(tool):
            raise rig.Skip("%s is not installed (package %s)" % (tool, package))


def make(*what, **env):
    p = subprocess.run(["make", "-s", *what], cwd=rig.BUILD, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, env=dict(os.environ, MAKEFLAGS="", **env))
    if p.returncode:
        raise AssertionError("make %s:\n%s" % (" ".join(what), p.stdout.decode(errors="replace")[-6000:]))


def build(kind, tarball, folder):
    p = subprocess.run([os.path.join(rig.SOURCE, "packaging", "build-" + kind), tarball, folder] +
                       (["--nocheck"] if kind == "rpm" else []), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, env=dict(os.environ, DEB_BUILD_OPTIONS="nocheck parallel=%d" %
                                                          (os.cpu_count() or 1)))
    if p.returncode:
        raise AssertionError("build-%s:\n%s" % (kind, p.stdout.decode(errors="replace")[-6000:]))


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def folder():
    """Has the tarball, deb/ and rpm/, and again-deb/ and again-rpm/ of a second
    build.  $BOT_TEST_PACKAGES: one made before, whatever the sources are now."""
    needed()
    if "BOT_TEST_PACKAGES" in os.environ:
        return os.environ["BOT_TEST_PACKAGES"].rstrip("/")
    with booted.cached("packages"):
        make("package-tarball")
        tarball, = glob.glob(os.path.join(rig.BUILD, "packages", "*.tar.xz"))
        path = os.path.join(booted.CACHE, "packages-" + digest(tarball)[:12])
        if not os.path.exists(path):
            shutil.rmtree(path + ".new", ignore_errors=True)
            os.makedirs(path + ".new")
            shutil.copy(tarball, path + ".new")
            for kind in KINDS:
                for name in ("again-" + kind, kind):
                    build(kind, tarball, os.path.join(path + ".new", kind))
                    os.rename(os.path.join(path + ".new", kind), os.path.join(path + ".new", name))
            os.rename(path + ".new", path)
            for old in glob.glob(os.path.join(booted.CACHE, "packages-*/")):
                if os.path.getmtime(old) < time.time() - 86400:
                    shutil.rmtree(old, ignore_errors=True)
        return path


def files(kind, pattern="*"):
    return sorted(glob.glob(os.path.join(folder(), kind, pattern)))


def libraries():
    """The packages of Debian that the programs of the build need."""
    paths = {os.path.realpath(x) for x in booted.libraries(os.path.join(rig.BUILD, "bot-operatord"))}
    owned = subprocess.run(["dpkg-query", "-S", *sorted(paths | {x[4:] for x in paths if x.startswith("/usr/lib/")})],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True).stdout
    return sorted({line.split(":")[0] for line in owned.splitlines()} - {"libc6"})


def raised(deb, out, version):
    """The same package as of another version, with another configuration."""
    work = out + ".d"
    shutil.rmtree(work, ignore_errors=True)
    subprocess.run(["dpkg-deb", "-R", deb, work], check=True)
    control, conf = os.path.join(work, "DEBIAN/control"), os.path.join(work, "etc/bot-operator/bot-operator.conf")
    edit(control, r"(?m)^Version: .*", "Version: " + version)
    edit(conf, r"\A", "# This is version %s.\n" % version)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", work, out], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(work)


def edit(path, pattern, text):
    with open(path) as f:
        old = f.read()
    with open(path, "w") as f:
        f.write(re.sub(pattern, text, old, count=1))


# Writes down what it gets; takes its time, so that some is always held.
HANDLER = """import os, sys, time
sys.path.insert(0, "/usr/share/bot-operator/handlers")
import bot_handler

out = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)

def handle(message):
    time.sleep(float(sys.argv[2]))
    os.write(out, message.body + b"\\n")

bot_handler.run(handle)
"""
JOBS = """
[Pool jobs]
Exec=/usr/bin/python3 /srv/jobs.py %S/jobs.out {pause}
Workers=2

[Queue jobs]
Type=redis
Address=127.0.0.1:6379
Key={key}
Pool=jobs
BacklogInterval=200ms
"""


class Machine(booted.Booted):
    """A machine with Redis, a repository of our packages, and nothing else."""

    def __init__(self, name):
        needed()
        super().__init__(name, WORLD, libraries())

    def publish(self, *debs):
        """Makes these and the libraries an apt repository; those of earlier
        calls stay in it."""
        repo = os.path.join(self.dir, "debs")
        if not os.path.exists(repo):
            shutil.copytree(booted.root(self.packages, self.debs) + "/srv/debs", repo)
        for deb in debs:
            shutil.copy(deb, repo)
        with open(os.path.join(repo, "Packages"), "wb") as f:
            subprocess.run(["apt-ftparchive", "packages", "."], cwd=repo, check=True, stdout=f)
        self.put(repo, "/srv/debs")
        self.write("/etc/apt/sources.list.d/ours.list", "deb [trusted=yes] file:/srv/debs ./\n")
        self.run("apt-get -q update")

    def apt(self, *args, **kw):
        return self.run(["apt-get", "-q", "-y", "--no-install-recommends", *args], **kw)

    def install(self):
        self.publish(*files("deb", "*.deb"))
        return self.apt("install", "bot-operator")

    # ---- an operator in it ----

    def botctl(self, *args, instance="bot-operator", **kw):
        return self.run(["botctl", "-i", instance, *args], **kw)

    def status(self, instance="bot-operator"):
        """Its status document; {} while there is none."""
        out = self.run("botctl -i %s --json status 2>/dev/null" % instance, check=False).stdout
        with contextlib.suppress(ValueError):
            return json.loads(out)
        return {}

    def active(self, unit):
        return self.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "active"

    def main_pid(self, unit="bot-operator.service"):
        return int(self.show(unit, "MainPID"))

    def journal(self, unit="bot-operator.service", *args):
        return self.run(["journalctl", "-q", "-o", "cat", "-u", unit, *args]).stdout

    def warnings(self, unit="bot-operator.service"):
        """And worse; without what is the busy machine's business."""
        return [x for x in self.journal(unit, "-p", "warning").splitlines() if not rig.MACHINE.search(x)]

    def jobs(self, instance="bot-operator", pause=0.002, restart=True):
        """A queue of the Redis inside, which is started."""
        self.write("/srv/jobs.py", HANDLER)
        text = JOBS.format(pause=pause, key="jobs-" + instance)
        if instance == "bot-operator":
            self.write("/etc/bot-operator/bot-operator.conf.d/10-jobs.conf", text)
        else:
            self.write("/etc/bot-operator/%s.conf" % instance, text)
        self.run("systemctl start redis-server")
        if restart:
            unit = "bot-operator" if instance == "bot-operator" else "bot-operator@" + instance
            self.run("systemctl restart " + unit)

    def add(self, numbers, instance="bot-operator"):
        lines = "".join("XADD jobs-%s * body %d\n" % (instance, n) for n in numbers)
        self.run("redis-cli --pipe", stdin=lines)

    @contextlib.contextmanager
    def producing(self, *instances):
        """Meanwhile there is always work, however long it takes.  A list, whose
        items are the numbers that were added to each when it is over."""
        made, stop = [], threading.Event()

        def produce():
            while not stop.wait(0.05):
                fresh = range(len(made), len(made) + 30)
                for instance in instances:
                    self.add(fresh, instance)
                made.extend(fresh)
        t = threading.Thread(target=produce)
        t.start()
        try:
            yield made
        finally:
            stop.set()
            t.join()

    def done(self, instance="bot-operator"):
        """The numbers that the handler has seen, in its order."""
        try:
            text = self.read("/var/lib/bot-operator/%sjobs.out" % (
                "" if instance == "bot-operator" else instance + "/"))
        except OSError:
            return []
        return [int(x) for x in text.split("\n")[:-1]]

    def all_done(self, numbers, instance="bot-operator"):
        """Waits until each was handled, and nothing is left at the broker."""
        want = set(numbers)
        self.wait_for("all of the messages", lambda: set(self.done(instance)) == want)

        def empty():
            queue = self.status(instance).get("queues", {}).get("jobs", {})
            return queue.get("backlog") == 0 and queue.get("in_flight") == 0
        self.wait_for("the queue to be empty", empty)


def main():
    """Both at once: one waits for the mirror, the other for the compiler."""
    problems = []

    def make_root():
        try:
            begin = time.monotonic()
            booted.root(WORLD, libraries())
            print("the root: %.0f s" % (time.monotonic() - begin))
        except rig.Skip:
            pass
        except BaseException as e:
            problems.append(e)
    t = threading.Thread(target=make_root)
    t.start()
    begin = time.monotonic()
    try:
        print("packages: " + folder())
    except rig.Skip as e:
        print("skipped: %s" % e)
    except AssertionError as e:
        problems.append(e)
    print("that took %.0f s" % (time.monotonic() - begin))
    t.join()
    for e in problems:
        print(e)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
