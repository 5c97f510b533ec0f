"""crowdsec.py - CrowdSec itself, private and without its makers' service: its own folder, database and port.

What is needed comes from Debian's packages: /usr/bin/crowdsec, /usr/bin/cscli, the hub in /usr/share/crowdsec/hub
and the patterns in /etc/crowdsec/patterns.
"""
import json
import os
import shutil
import subprocess
import tempfile

import rig

HUB = "/usr/share/crowdsec/hub"
PATTERNS = "/etc/crowdsec/patterns"
PROFILES = "/etc/crowdsec/profiles.yaml"
OURS = os.path.join(rig.SOURCE, "conf", "crowdsec")
TESTS = os.path.join(rig.SOURCE, "tests", "crowdsec")

NO_INOTIFY = "Could not create fsnotify watcher"

CONFIG = """
common: {daemonize: false, log_media: stdout, log_level: info, working_dir: .}
config_paths:
  config_dir: DIR/etc/
  data_dir: DIR/data/
  simulation_path: DIR/etc/simulation.yaml
  hub_dir: /usr/share/crowdsec/hub/
  index_path: /usr/share/crowdsec/hub/.index.json
  notification_dir: DIR/etc/notifications/
  plugin_dir: DIR/plugins/
crowdsec_service: {acquisition_path: DIR/etc/acquis.yaml, parser_routines: 1}
cscli: {output: human, hub_branch: master}
db_config: {log_level: info, type: sqlite, db_path: DIR/data/crowdsec.db, use_wal: true}
api:
  client: {insecure_skip_verify: false, credentials_path: DIR/lapi.yaml}
  server: {log_level: info, listen_uri: 127.0.0.1:PORT, profiles_path: DIR/etc/profiles.yaml}
prometheus: {enabled: false}
"""


def needed():
    for exe in ("crowdsec", "cscli"):
        if not shutil.which(exe):
            raise rig.Skip("%s is not installed" % exe)
    for path in (HUB, PATTERNS, PROFILES):
        if not os.path.exists(path):
            raise rig.Skip("%s is not there" % path)


def copy_ours(etc):
    """As docs/crowdsec.md says."""
    for part in ("parsers/s01-parse", "scenarios", "collections"):
        to = os.path.join(etc, part)
        os.makedirs(to, exist_ok=True)
        for name in os.listdir(os.path.join(OURS, part)):
            shutil.copy(os.path.join(OURS, part, name), to)


class CrowdSec(rig.Process):
    """start([(file, type)]) begins; before that only cscli works."""

    def __init__(self, r):
        needed()
        self.rig, self.port = r, rig.free_port()
        self.base = "http://127.0.0.1:%d" % self.port
        self.dir = tempfile.mkdtemp(prefix="crowdsec-", dir=r.dir)
        self.conf = self.path("etc/config.yaml")
        self.started = False
        os.mkdir(self.path("data"))
        shutil.copytree(PATTERNS, self.path("etc/patterns"))
        for part in ("parsers/s00-raw/%s/syslog-logs.yaml", "parsers/s02-enrich/%s/dateparse-enrich.yaml",
                     "parsers/s02-enrich/%s/whitelists.yaml"):
            to = self.path("etc/" + part.replace("/%s", ""))
            os.makedirs(os.path.dirname(to), exist_ok=True)
            os.symlink(os.path.join(HUB, part % "crowdsecurity"), to)
        copy_ours(self.path("etc"))
        shutil.copy(PROFILES, self.path("etc/profiles.yaml"))
        shutil.copy(os.path.join(OURS, "profiles.yaml.local"), self.path("etc"))
        self.write("etc/simulation.yaml", "simulation: false\n")
        self.write("etc/acquis.yaml", "")
        self.write("etc/config.yaml", CONFIG.replace("DIR", self.dir).replace("PORT", str(self.port)))
        self.cscli("machines", "add", "agent", "--password", "agent", "--force", "-f", self.path("lapi.yaml"), "-u",
                   self.base)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)

    def start(self, acquire):
        self.start_with("---\n".join("filenames:\n  - %s\nlabels:\n  type: %s\n" % a for a in acquire))

    def start_with(self, acquisition):
        self.write("etc/acquis.yaml", acquisition)
        rig.wait_for("crowdsec", self.begin, 120)

    def begin(self):
        """Whether it runs.  The 128 inotify instances of a user may be in use by others: then once more."""
        self.spawn(self.rig, "crowdsec", ["crowdsec", "-c", self.conf, "-no-capi"])
        if not self.started:
            self.rig.processes.append(self)
        self.started = True
        try:
            rig.wait_for("crowdsec", self.ready, 60)
            return True
        except AssertionError:
            if NO_INOTIFY not in self.log():
                raise
            return False

    def ready(self):
        if not self.alive():
            raise AssertionError("crowdsec ended:\n" + self.log()[-4000:])
        # Its own agent has logged in, and reads.
        return "Starting processing data" in self.log() and "POST /v1/watchers/login HTTP/1.1 200" in self.log()

    def cscli(self, *args, check=True):
        p = subprocess.run(["cscli", "-c", self.conf, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, universal_newlines=True, cwd=self.dir, timeout=120,
                           env=dict(os.environ, TMPDIR=self.dir))
        if check and p.returncode != 0:
            raise AssertionError("cscli %s: %s%s" % (" ".join(args), p.stdout, p.stderr))
        return p.stdout

    def bouncer(self, name):
        return self.cscli("bouncers", "add", name, "-o", "raw").strip()

    def list(self, what, *args):
        return json.loads(self.cscli(what, "list", "-o", "json", *args)) or []


def make_hub(directory):
    """Debian's hub, ours in it, and our tests: for "cscli hubtest"."""
    needed()
    hub = os.path.join(directory, "hub")
    shutil.copytree(HUB, hub)
    for part in ("parsers/s01-parse", "scenarios", "collections"):
        shutil.copytree(os.path.join(OURS, part), os.path.join(hub, part, "bot-operator"))
    shutil.copytree(TESTS, os.path.join(hub, ".tests"))
    template = os.path.join(hub, ".tests", "template_config.yaml")
    with open(template) as f:
        text = f.read()
    assert "127.0.0.1:8181" in text
    with open(template, "w") as f:
        f.write(text.replace("127.0.0.1:8181", "127.0.0.1:%d" % rig.free_port()))
    return hub
