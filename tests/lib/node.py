"""node.py - npm packages for the tests.

They are installed once for each tests/node/package-lock.json, into a folder of
the build tree (NODE_CACHE names another), never into the source tree.  Below
it is a folder for each state of our own files, which find the packages there.
"""
import contextlib
import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys

from rig import BUILD, SOURCE, Skip

HERE = os.path.join(SOURCE, "tests", "node")
NODE_MIN = 20                   # what fauxqs asks for
CI = ["ci", "--omit=dev", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"]
tried = {}                      # folder: None, or why it cannot be had


def node():
    """The path of a node that is new enough."""
    exe = shutil.which("node") or shutil.which("nodejs")
    if not exe:
        raise Skip("node is not installed")
    version = subprocess.run([exe, "--version"], stdout=subprocess.PIPE, universal_newlines=True).stdout.strip()
    m = re.match(r"v(\d+)\.", version)
    if not m or int(m.group(1)) < NODE_MIN:
        raise Skip("node %s is older than %d" % (version, NODE_MIN))
    return exe


def cache():
    """Build folders of tests/run.py share one."""
    parent = os.path.dirname(BUILD)
    return os.environ.get("NODE_CACHE") or os.path.join(
        parent if os.path.basename(parent) == "build-test" else BUILD, "node")


def digest(files):
    sum_ = hashlib.sha256()
    for f in files:
        with open(f, "rb") as opened:
            sum_.update(os.path.basename(f).encode() + b"\0" + opened.read())
    return sum_.hexdigest()[:16]


def install():
    """The folder with our files; node finds node_modules above it."""
    packages = sorted(glob.glob(os.path.join(HERE, "package*.json")))
    scripts = sorted(glob.glob(os.path.join(HERE, "*.mjs")))
    top = os.path.join(cache(), digest(packages))
    if not os.path.isdir(top):
        fetch(packages, top, CI)
    where = os.path.join(top, digest(scripts))
    if not os.path.isdir(where):
        with lock(cache()):
            part = where + ".part"
            shutil.rmtree(part, ignore_errors=True)
            if not os.path.isdir(where):
                os.makedirs(part)
                for f in scripts:
                    shutil.copy(f, part)
                os.rename(part, where)
    return where


@contextlib.contextmanager
def lock(folder):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "lock"), "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def fetch(files, where, *commands):
    """Packages of these files, by npm with these arguments.  Complete when it gets its name; a failure is a Skip,
    for all that ask again as well."""
    if where not in tried:
        tried[where] = install_packages(files, where, commands)
    if tried[where]:
        raise Skip(tried[where])


def install_packages(files, where, commands):
    """None, or what went wrong."""
    npm = shutil.which("npm")
    if not npm:
        return "npm is not installed"
    with lock(os.path.dirname(where)):
        if os.path.isdir(where):
            return None
        part = where + ".part"
        shutil.rmtree(part, ignore_errors=True)
        os.makedirs(part)
        for f in files:
            shutil.copy(f, part)
        for command in commands:
            bad = run_npm([npm] + command, part)
            if bad:
                return bad
        os.rename(part, where)
    return None


def run_npm(argv, where):
    what = "npm " + argv[1]
    # For what is compiled: the headers of the system, where they are.
    env = dict(os.environ, npm_config_nodedir="/usr") if os.path.exists("/usr/include/node/node.h") else None
    try:
        p = subprocess.run(argv, cwd=where, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           universal_newlines=True, timeout=240, env=env)
    except subprocess.TimeoutExpired:
        return what + " did not end within 240 s"
    if p.returncode == 0:
        return None
    print("# %s:\n#   %s" % (what, p.stdout.strip().replace("\n", "\n#   ")))
    said = [x for x in p.stdout.splitlines() if "error" in x.lower() or "ERR!" in x]
    return "%s failed: %s" % (what, said[0] if said else "exit %d" % p.returncode)


if __name__ == "__main__":
    # For scripts: installs, says where.
    with contextlib.suppress(BrokenPipeError):
        try:
            node()
            print(install())
        except Skip as e:
            sys.exit("node: %s" % e)
