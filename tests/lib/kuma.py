"""kuma.py - a real Uptime Kuma for the tests.

It is installed from npm once for each tests/node/kuma/package-lock.json: 250 MB and about 80 s, of which a compiled
SQLite takes 55.  So it is kept in a folder of the user in /var/tmp, whatever becomes of the build tree.  UPTIME_KUMA
names a folder where it is already (where "npm install uptime-kuma" has been).
"""
import os
import shutil
import stat
import urllib.error
import urllib.request

import node
import rig
from rig import Skip, wait_for

HERE = os.path.join(node.HERE, "kuma")
PACKAGES = [os.path.join(HERE, "package.json"), os.path.join(HERE, "package-lock.json")]


def cache():
    """Ours alone: what is in it is run."""
    folder = "/var/tmp/bot-operator-tests-%d" % os.getuid()
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except OSError as e:
        raise Skip("%s: %s" % (folder, e.strerror))
    s = os.lstat(folder)
    if not stat.S_ISDIR(s.st_mode) or s.st_uid != os.getuid() or s.st_mode & 0o022:
        raise Skip("%s is not a folder that only we can write to" % folder)
    return folder


def install():
    """The folder of the package."""
    home = os.environ.get("UPTIME_KUMA")
    if not home:
        node.node()
        home = os.path.join(cache(), "kuma-" + node.digest(PACKAGES))
        if not os.path.isdir(home):
            # The only one whose script is needed.
            node.fetch(PACKAGES, home, node.CI, ["rebuild", "@louislam/sqlite3"])
    there = os.path.join(home, "node_modules", "uptime-kuma")
    old = os.path.join(there, "db", "old_migrations")
    # 2.0.0-dev.0 lacks these where it looks for them.
    with node.lock(home):
        for name in os.listdir(os.path.join(there, "db")):
            if name.startswith("patch-") and os.path.isdir(old) and not os.path.exists(os.path.join(old, name)):
                shutil.copy(os.path.join(there, "db", name), old)
    return there


def start(r):
    """Its address; as "npm start" would, on loopback.  Its data is in r's folder kuma/."""
    there = install()
    port = rig.free_port()
    data = os.path.dirname(r.path("kuma", "x"))
    server = os.path.join(there, "server", "server.js")
    p = rig.Process(r, "kuma", ["sh", "-c", 'cd "$0" && exec "$3" "$1" --host=127.0.0.1 --port="$2"', there, server,
                                str(port), node.node()],
                    env=dict(os.environ, DATA_DIR=data + "/", UPTIME_KUMA_DB_TYPE="sqlite", NODE_ENV="production"))

    def answers():
        assert p.alive(), p.log()
        try:
            return urllib.request.urlopen("http://127.0.0.1:%d/api/entry-page" % port, timeout=2).status == 200
        except (OSError, urllib.error.URLError):
            return False
    wait_for("Uptime Kuma", answers, 60)
    return "http://127.0.0.1:%d" % port
