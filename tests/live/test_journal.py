"""What journalctl shows: one line an event, with fields to search by.

A real journald in a mount namespace of its own, with a private /run; no
systemd is needed as PID 1.
"""
import glob
import json
import os
import re
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

JOURNALD = "/lib/systemd/systemd-journald"
CATALOG = os.path.join(rig.SOURCE, "systemd", "bot-operator.catalog")


def events():
    """NAME: MESSAGE_ID, as the code has them."""
    with open(os.path.join(rig.SOURCE, "daemon", "base", "log_event.h")) as f:
        return dict(re.findall(r'#define EVENT_(\w+) \\\n\t"([0-9a-f]*)"', f.read()))


def explain():
    """In the namespace: the journal with the catalog's words, from a private database."""
    for folder, catalog in (("/usr/local/lib", "systemd/catalog"), ("/var/lib/systemd", "catalog")):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
        os.makedirs(os.path.join(folder, catalog))
    shutil.copy(CATALOG, "/usr/local/lib/systemd/catalog/")
    subprocess.run(["journalctl", "--update-catalog"], check=True)
    return subprocess.run(["journalctl", "-D", "/run/log/journal", "--catalog", "--no-pager",
                           "SYSLOG_IDENTIFIER=bot-operator"], check=True, stdout=subprocess.PIPE).stdout.decode()


def in_journal():
    """The daemon's entries as JSON lines."""
    return subprocess.run(["journalctl", "-D", "/run/log/journal", "-o", "json", "--no-pager",
                           "SYSLOG_IDENTIFIER=bot-operator"], stdout=subprocess.PIPE).stdout.decode()


def inside(folder):
    """In the namespace: prints the daemon's entries as JSON lines."""
    r = rig.Rig("journal")
    failed = True
    try:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        rig.Process(r, "journald", [JOURNALD])
        wait_for("journald", lambda: os.path.exists("/run/systemd/journal/stdout"))
        conf = r.write("j.conf", "[Operator]\nControl=%s/j.sock\n[Pool work]\nCommand=%s\n[Queue jobs]\nType=spool\n"
                       "Path=%s/spool\nMaxAttempts=1\n" % (r.dir, r.write("h.sh", "#!/bin/sh\necho sorry >&2\nexit 69\n",
                                                                         0o755), r.dir))
        with socket.socket(socket.AF_UNIX) as s:
            s.connect("/run/systemd/journal/stdout")
            s.sendall(b"bot-operator\n\n6\n1\n0\n0\n0\n")
            st = os.fstat(s.fileno())
            p = subprocess.Popen([os.path.join(rig.BUILD, "bot-operatord"), "--config", conf], stderr=s.fileno(),
                                 stdout=s.fileno(), env=dict(os.environ, JOURNAL_STREAM="%d:%d" % (st.st_dev, st.st_ino)))
            wait_for("the spool", lambda: os.path.isdir(os.path.join(r.dir, "spool", "new")))
            os.makedirs(os.path.join(r.dir, "spool", "tmp"), exist_ok=True)
            with open(os.path.join(r.dir, "spool", "tmp", "first"), "w") as f:
                f.write("secret body")
            os.rename(os.path.join(r.dir, "spool", "tmp", "first"), os.path.join(r.dir, "spool", "new", "first"))
            wait_for("the dead letter", lambda: os.path.exists(os.path.join(r.dir, "spool", "dead", "first")))
            wait_for("ready", lambda: events()["READY"] in in_journal())
            p.terminate()
            p.wait(rig.DEADLINE)

        wait_for("the last entry", lambda: events()["STOPPED"] in in_journal())
        with open(os.path.join(folder, "entries"), "w") as f:
            f.write(in_journal())
        with open(os.path.join(folder, "explained"), "w") as f:
            f.write(explain())
        failed = False
    finally:
        r.close(failed)


def test_journal_fields(r):
    if os.geteuid() != 0 or not shutil.which("unshare"):
        raise rig.Skip("needs root and unshare(1) for a private /run")
    if not os.access(JOURNALD, os.X_OK) or not shutil.which("journalctl"):
        raise rig.Skip("systemd-journald is not installed")
    if subprocess.run(["unshare", "-m", "--propagation", "private", "true"]).returncode != 0:
        raise rig.Skip("mount namespaces are not permitted here")
    p = subprocess.run(["unshare", "-m", "--propagation", "private", sys.executable, os.path.abspath(__file__),
                        "--inside", r.dir], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                       timeout=120)
    assert p.returncode == 0, p.stdout
    with open(os.path.join(r.dir, "entries")) as f:
        entries = [json.loads(line) for line in f]
    dead = [e for e in entries if "dead letters" in e["MESSAGE"]]
    assert len(dead) == 1, [e["MESSAGE"] for e in entries]
    e = dead[0]
    assert e["BOT_QUEUE"] == "jobs" and e["BOT_MESSAGE"] == "first" and e["BOT_ATTEMPT"] == "1", e
    assert e["BOT_ERROR_TYPE"] == "external_api" and e["PRIORITY"] == "4", e
    assert e["CODE_FILE"].endswith("retry.c") and e["CODE_FUNC"] and int(e["CODE_LINE"]) > 0, e
    said = [e for e in entries if e["MESSAGE"] == "sorry"]
    assert len(said) == 1, [e["MESSAGE"] for e in entries]
    assert said[0]["BOT_POOL"] == "work" and said[0]["BOT_MESSAGE"] == "first" and int(said[0]["BOT_WORKER"]) > 1
    assert not [e for e in entries if "secret body" in str(e)], "a body in the log"
    assert not [e for e in entries if e["MESSAGE"].startswith("<")], "a prefix that journald should not see"
    ids = events()
    assert e["MESSAGE_ID"] == ids["DEAD_LETTER"], e
    seen = {e.get("MESSAGE_ID") for e in entries}
    for name in ("START", "READY", "QUEUE_UP", "DRAIN", "STOPPED"):
        assert ids[name] in seen, (name, entries)
    # What the operator itself says loudly has a kind; handlers' lines have none.
    assert not [e for e in entries if int(e["PRIORITY"]) <= 5 and "MESSAGE_ID" not in e and "BOT_WORKER" not in e], entries
    with open(os.path.join(r.dir, "explained")) as f:
        explained = f.read()
    assert "Subject: A message of queue jobs went to the dead letters" in explained, explained
    assert "Message first failed for good at attempt 1" in explained and "(external_api)" in explained, explained


def used():
    """NAMEs of events that some line of the code logs."""
    names = set()
    for folder, _, files in os.walk(os.path.join(rig.SOURCE, "daemon")):
        for name in files:
            if name.endswith(".c"):
                with open(os.path.join(folder, name)) as f:
                    names.update(re.findall(r"\bEVENT_([A-Z_]+)\b", f.read()))
    return names


def test_every_event_has_an_entry_in_the_catalog(r):
    ids = events()
    assert len(ids) > 30 and len(set(ids.values())) == len(ids), "two kinds of events have one ID"
    assert not [i for i in ids.values() if len(i) != 32 or i[12] != "4"], "systemd-id128 new makes them"
    known = {name for name in used() if name in ids}
    assert known == set(ids), "never logged: %s" % (set(ids) - known)
    bare = [(p, line) for p in glob.glob(os.path.join(rig.SOURCE, "daemon", "*", "*.c")) for line in open(p)
            if re.search(r"log_(notice|warning|error)\((NULL|LOG_QUEUE\(|LOG_POOL\()", line)]
    assert not bare, "lines without a kind of event: %s" % bare
    with open(CATALOG) as f:
        text = f.read()
    entries = re.findall(r"^-- ([0-9a-f]{32})\n((?:[A-Z][A-Za-z-]+: .+\n)+)\n((?:(?!-- ).*\n)*)", text, re.M)
    listed = [i for i, _, _ in entries]
    assert len(listed) == len(set(listed)) == len(re.findall("^-- ", text, re.M)), "an entry that cannot be read"
    assert set(listed) == set(ids.values()), set(listed) ^ set(ids.values())
    with open(os.path.join(rig.SOURCE, "daemon", "base", "log.c")) as f:
        fields = set(re.findall(r'"(BOT_[A-Z_]+)=', f.read()))
    for i, head, body in entries:
        assert re.search("^Subject: .{10,}$", head, re.M) and body.strip(), i
        wrong = set(re.findall("@([A-Z_]+)@", head + body)) - fields
        assert not wrong, "%s: fields that no line has: %s" % (i, wrong)


def test_the_catalog_compiles(r):
    if not shutil.which("journalctl"):
        raise rig.Skip("journalctl is not installed")
    r.write("root/usr/lib/systemd/catalog/bot-operator.catalog", open(CATALOG).read())
    r.path("root/var/lib/systemd/catalog/.")
    root = "--root=" + os.path.join(r.dir, "root")
    p = subprocess.run(["journalctl", root, "--update-catalog"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert p.returncode == 0 and not p.stdout, p.stdout
    out = subprocess.run(["journalctl", root, "--list-catalog"], stdout=subprocess.PIPE, check=True).stdout.decode()
    assert {line.split()[0] for line in out.splitlines()} == set(events().values()), out
    one = subprocess.run(["journalctl", root, "--dump-catalog", events()["CHECK_DOWN"]], stdout=subprocess.PIPE,
                         check=True).stdout.decode()
    assert "Subject: Check @BOT_CHECK@ is down" in one and "botctl status" in one, one


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(sys.argv[2])
    else:
        rig.main(globals())
