"""booted.py - a real systemd as PID 1, in a throw-away Debian root.

    with Booted("deb", packages=["redis-server"]) as b:
        b.put("/host/file", "/etc/x")
        b.run("systemctl start x")
        b.wait_for("x", lambda: b.run("systemctl is-active x", check=False).stdout == "active\\n")

A root is made once by mmdebstrap, from this machine's own apt sources, and
kept as a folder in $BOT_TEST_CACHE (default /var/tmp/bot-operator-tests), of
which every Booted has an overlay of its own in memory: pristine at each
start, kept over reboot(), gone at the end or when we are killed.  There is no
network in it but its own loopback.  Needs root, namespaces and overlayfs;
Skip says which of them is missing.

What the kernel does inside differs from a machine in this: with cgroup v1 an
OOM kill is Result=signal, IPAddressDeny= does nothing, and a LimitNOFILE=
above the hard limit here is cut.
"""
import contextlib
import fcntl
import functools
import glob
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import rig

CACHE = os.environ.get("BOT_TEST_CACHE", "/var/tmp/bot-operator-tests")
DEADLINE = 60
BOOT_DEADLINE = 30
# The kernel has 128 of them for a user, and root is the same one in all
# machines: a systemd that gets none stands still, or ends.
INOTIFY_MAX, INOTIFY_NEEDED = 128, 20
BASE = ["systemd", "systemd-sysv", "dbus", "procps", "iproute2"]
V1 = "memory pids cpu cpuacct cpuset blkio freezer devices systemd unified".split()
ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8",
       "TERM": "dumb", "SYSTEMD_PAGER": "", "DEBIAN_FRONTEND": "noninteractive"}

# PID 1 for a moment: nspawn mounts the v1 controllers read-only.
INIT = """for c in memory pids cpu,cpuacct cpu cpuacct cpuset blkio; do
	[ -d /sys/fs/cgroup/$c ] && mount -o remount,bind,rw /sys/fs/cgroup/$c
done
exec /lib/systemd/systemd"""

# The overlay lives in a mount namespace of its own, and goes with it.  nspawn
# ends with 133 when the machine wants to be started again.
OUTSIDE = """set -e
mount -t tmpfs -o size=2g,mode=755 overlay "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
shift 2
again=133
while [ $again = 133 ]; do
	again=0
	setpriv --pdeathsig KILL "$@" || again=$?
done
exit $again
"""


@functools.lru_cache(None)
def missing():
    """Why nothing can be booted here; None when it can."""
    if os.geteuid() != 0:
        return "a booted systemd needs root"
    for tool, package in (("mmdebstrap", "mmdebstrap"), ("systemd-nspawn", "systemd-container"),
                          ("nsenter", "util-linux"), ("unshare", "util-linux")):
        if not shutil.which(tool):
            return "%s is not installed (package %s)" % (tool, package)
    with tempfile.TemporaryDirectory() as d:
        p = subprocess.run(["unshare", "-m", "-p", "-f", "-u", "-i", "-n", "sh", "-c", OUTSIDE, "sh", d, d, "true"],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           universal_newlines=True)
    if p.returncode:
        return "no namespaces or overlay mounts to be had here: " + p.stdout.strip().replace("\n", "; ")
    return None


def needed():
    if missing():
        raise rig.Skip(missing())


def sources():
    """This machine's apt sources of Debian itself."""
    for path in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"):
        if os.path.exists(path) and os.path.getsize(path):
            return path
    raise rig.Skip("no apt sources of Debian on this machine")


@contextlib.contextmanager
def cached(name):
    """CACHE/name: (path, whether somebody has made it).  One process at a time
    is between the two; it makes path + ".new" and renames it."""
    os.makedirs(CACHE, exist_ok=True)
    path = os.path.join(CACHE, name)
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path, os.path.exists(path)


# Servers are started by tests, and apt's sources are a test's own business.
CUSTOMIZE = """chroot "$1" sh -c 'for u in redis-server; do systemctl disable $u; done
systemctl mask systemd-logind getty.target apt-daily.timer apt-daily-upgrade.timer
rm -rf /etc/dpkg/dpkg.cfg.d/*mmdebstrap /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/hostname /etc/machine-id; : >/etc/machine-id'"""


# Left in /srv/debs, for tests that install them where there is no network.
DOWNLOAD = """set -e; cd "$1"; rm -f var/cache/apt/archives/*.deb; APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -qq -y --download-only install %s
mkdir srv/debs; mv var/cache/apt/archives/*.deb srv/debs"""


def root(packages=(), debs=()):
    """The folder of a root with these packages besides BASE, and in /srv/debs
    what else of debs would have to be installed; made once."""
    needed()
    with open("/etc/os-release") as f:
        suite = re.search(r"^VERSION_CODENAME=(\w+)", f.read(), re.M)
    if not suite:
        raise rig.Skip("only a Debian makes Debian roots here")
    argv = ["mmdebstrap", "--mode=root", "--format=directory", "--variant=minbase",
            "--include=" + ",".join(sorted(set(BASE) | set(packages))), "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*", "--aptopt=Apt::Install-Recommends false",
            *(["--customize-hook=" + DOWNLOAD % " ".join(sorted(debs))] if debs else []),
            "--customize-hook=" + CUSTOMIZE, suite.group(1)]
    with cached("root-" + hashlib.sha256(repr(argv).encode()).hexdigest()[:12]) as (path, there):
        if not there:
            shutil.rmtree(path + ".new", ignore_errors=True)
            p = subprocess.run(argv + [path + ".new", sources()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)
            if p.returncode:
                raise AssertionError("mmdebstrap failed:\n" + p.stdout.decode(errors="replace")[-3000:])
            os.rename(path + ".new", path)
        return path


class Booted:
    """One machine.  name is its host name; for packages and debs see root()."""

    def __init__(self, name, packages=(), debs=()):
        self.name, self.packages, self.debs = name, packages, debs
        self.p = self.dir = self.leader = None
        self.cgroups = []

    def __enter__(self):
        lower = root(self.packages, self.debs)
        # Beside others that want as much it may fail for want of them, below.
        for last in False, False, True:
            self.wait_for("inotify instances", lambda: inotify_instances() <= INOTIFY_MAX - INOTIFY_NEEDED)
            self.dir = tempfile.mkdtemp(prefix="bot-booted-")
            try:
                self.make_cgroups()
                self.spawn(lower)
                self.booted()
                return self
            except BaseException as e:
                self.stop()
                if last or not isinstance(e, AssertionError):
                    raise

    def __exit__(self, *exc):
        if exc[0] and not issubclass(exc[0], rig.Skip) and self.leader:
            print("# the journal of %s:\n#   %s" % (self.name, "\n#   ".join(
                self.run("journalctl -b --no-pager -n 80 -o short-precise", check=False).stdout.splitlines())))
        self.stop()

    # ---- start and end ----

    def make_cgroups(self):
        """A child of ours in each hierarchy, else all machines share one."""
        name = "bot-booted-%d-%s" % (os.getpid(), os.path.basename(self.dir)[11:])
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            places = {"": "/sys/fs/cgroup"}
        else:
            places = {{"systemd": "name=systemd", "unified": ""}.get(c, c): "/sys/fs/cgroup/" + c for c in V1}
        with open("/proc/self/cgroup") as f:
            mine = {c: path for line in f for cs, path in [line.rstrip("\n").split(":", 2)[1:]]
                    for c in cs.split(",")}
        for controller, top in places.items():
            if not os.path.isdir(top) or controller not in mine:
                continue
            parent = top + mine[controller].rstrip("/")
            for old in glob.glob(parent + "/bot-booted-*"):     # of a test that was killed
                if not os.path.exists("/proc/" + old.rsplit("/", 1)[1].split("-")[2]):
                    remove_cgroup(old)
            group = os.path.join(parent, name)
            os.makedirs(group, exist_ok=True)
            self.cgroups.append(group)
            if controller == "cpuset":          # must be there before one can enter
                for x in ("cpuset.cpus", "cpuset.mems"):
                    with open(os.path.join(parent, x)) as f, open(os.path.join(group, x), "w") as g:
                        g.write(f.read())

    def spawn(self, lower):
        def enter():
            for group in self.cgroups:
                with open(os.path.join(group, "cgroup.procs"), "w") as f:
                    f.write(str(os.getpid()))
        self.console = open(os.path.join(self.dir, "console"), "wb")
        mount = os.path.join(self.dir, "overlay")
        os.mkdir(mount)
        self.p = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "-m", "--propagation", "private", "sh", "-c", OUTSIDE, "sh", lower, mount,
             # No system bus here to register with.
             "systemd-nspawn", "-q", "-D", mount + "/root", "--machine=" + self.name, "--register=no", "--keep-unit",
             "--private-network", "--console=pipe", "--kill-signal=SIGRTMIN+3", "--link-journal=no",
             "--resolv-conf=off", "--timezone=off", "--setenv=container=systemd-nspawn", "/bin/sh", "-c", INIT],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=subprocess.STDOUT, preexec_fn=enter)

    def booted(self):
        """Waits until the machine is up, and knows its PID 1."""
        def leader():
            if self.p.poll() is not None:
                with open(os.path.join(self.dir, "console"), errors="replace") as f:
                    raise AssertionError("nspawn ended:\n" + f.read())
            with contextlib.suppress(OSError, IndexError):
                pid = child(child(self.p.pid))  # the shell's nspawn's
                with open("/proc/%d/comm" % pid) as f:
                    return pid if f.read() == "systemd\n" else None
        self.leader = self.wait_for("PID 1", leader, BOOT_DEADLINE)
        state = ["none"]

        def up():
            state[0] = self.run("systemctl is-system-running", check=False).stdout.strip()
            return state[0] in ("running", "degraded")
        try:
            self.wait_for("the machine to be up", up, BOOT_DEADLINE)
        except AssertionError as e:
            raise AssertionError("%s (%s)" % (e, state[0]))

    def reboot(self):
        """In order; its files are kept.  Returns when it is up again."""
        old, started = self.leader, start_time(self.leader)
        os.kill(old, signal.SIGRTMIN + 5)
        self.wait_for("PID 1 to end", lambda: start_time(old) != started)
        self.booted()

    def stop(self):
        """Powers it off; safe to call twice."""
        if self.p and self.p.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                if self.leader:
                    os.kill(self.leader, signal.SIGRTMIN + 4)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.p.wait(30)
            self.p.kill()               # all others go with their parents
            self.p.wait()
        if self.p:
            self.console.close()
        self.p = self.leader = None
        while self.cgroups:
            remove_cgroup(self.cgroups.pop())
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)
        self.dir = None

    # ---- inside ----

    def popen(self, cmd, env=None, **kw):
        """cmd: a list, or a line for sh."""
        argv = ["sh", "-c", cmd] if isinstance(cmd, str) else list(cmd)
        return subprocess.Popen(["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"] +
                                argv, env=dict(ENV, **(env or {})), **kw)

    def run(self, cmd, check=True, stdin="", timeout=120, env=None):
        """As root, inside.  What it prints on both outputs is .stdout."""
        p = self.popen(cmd, env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            out, _ = p.communicate(stdin.encode() if isinstance(stdin, str) else stdin, timeout)
        except subprocess.TimeoutExpired:
            p.kill()
            out, _ = p.communicate()
            raise AssertionError("%s took over %d s:\n%s" % (cmd, timeout, out.decode(errors="replace")[-3000:]))
        done = subprocess.CompletedProcess(cmd, p.returncode, out.decode(errors="replace"))
        if check and p.returncode:
            raise AssertionError("%s: exit status %d\n%s" % (cmd, p.returncode, done.stdout[-4000:]))
        return done

    def path(self, inside):
        """Where a file of the machine is seen from outside.  Links with an
        absolute target lead astray: name the real file."""
        return "/proc/%d/root/%s" % (self.leader, inside.lstrip("/"))

    def put(self, src, dst, mode=None):
        """Copies a file or a folder in, as root's."""
        to = self.path(dst)
        if os.path.isdir(src):
            shutil.copytree(src, to, symlinks=True, dirs_exist_ok=True)
            return
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copy(src, to)
        os.chown(to, 0, 0)
        if mode is not None:
            os.chmod(to, mode)

    def write(self, dst, text, mode=0o644):
        to = self.path(dst)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        with open(to, "w" if isinstance(text, str) else "wb") as f:
            f.write(text)
        os.chmod(to, mode)

    def read(self, inside):
        with open(self.path(inside), errors="replace") as f:
            return f.read()

    def wait_for(self, what, condition, deadline=None):
        """As rig.wait_for, and more patient."""
        return rig.wait_for("%s: %s" % (self.name, what), condition, deadline or DEADLINE)

    def show(self, unit, *properties):
        """Properties of a unit, as a dictionary; one as its value."""
        out = self.run(["systemctl", "show", unit, "-p", ",".join(properties)]).stdout
        values = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return values[properties[0]] if len(properties) == 1 else values

    def install_build(self, build=None):
        """What "make install" of a build tree installs, without a package, and
        the libraries that the machine lacks."""
        build = build or rig.BUILD
        with tempfile.TemporaryDirectory() as d:
            subprocess.run(["make", "-s", "install", "DESTDIR=" + d], cwd=build, check=True, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.put(d, "/")
        there = set(re.findall(r"^\s*(\S+) ", self.run("ldconfig -p").stdout, re.M))
        for program in ("bot-operatord", "botctl", "bot-worker"):
            for lib in libraries(os.path.join(build, program)):
                if os.path.basename(lib) not in there:
                    self.put(lib, "/usr/local/lib/" + os.path.basename(lib))
        self.run("ldconfig; systemctl daemon-reload")


def libraries(program):
    out = subprocess.run(["ldd", program], check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout
    return re.findall(r"=> (/\S+)", out)


def inotify_instances():
    """Of this user, in all processes."""
    n = 0
    for folder in glob.glob("/proc/[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if os.stat(os.path.dirname(folder)).st_uid == os.getuid():
                for fd in os.listdir(folder):
                    with contextlib.suppress(OSError):
                        n += os.readlink(os.path.join(folder, fd)) == "anon_inode:inotify"
    return n


def child(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return int(f.read().split()[0])


def start_time(pid):
    with contextlib.suppress(OSError):
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[19]
    return None


def remove_cgroup(top):
    for d, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(d)
