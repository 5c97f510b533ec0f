"""What CrowdSec makes of our lines: the hub tests in tests/crowdsec/, and cscli explain."""
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import crowdsec  # noqa: E402
import netns  # noqa: E402
import rig  # noqa: E402

EVENTS = ("auth_failed", "message_auth_failed", "message_suspicious", "message_flood")


def hubtest(hub):
    return subprocess.run(["cscli", "hubtest", "run", "--all", "--clean", "--hub", hub], cwd=hub,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True, timeout=300)


def test_hub_tests_pass():
    """cscli hubtest: the parser and the scenarios against tests/crowdsec/."""
    with tempfile.TemporaryDirectory(prefix="bot-hub-") as directory:
        hub = crowdsec.make_hub(directory)
        names = sorted(n for n in os.listdir(crowdsec.TESTS) if os.path.isdir(os.path.join(crowdsec.TESTS, n)))
        assert len(names) >= 6, names
        p = hubtest(hub)
        if crowdsec.NO_INOTIFY in p.stdout:
            p = hubtest(hub)
        passed = re.findall(r"Test '(\S+)' passed successfully \((\d+) assertions\)", p.stdout)
        assert p.returncode == 0 and sorted(n for n, _ in passed) == names, p.stdout
        assert all(int(n) > 5 for _, n in passed), passed
        assert "\u274c" not in p.stdout, p.stdout


def test_explain_shows_each_event(r):
    cs = crowdsec.CrowdSec(r)
    r.write("empty.log", "")
    cs.start([(r.path("empty.log"), "bot-operator")])       # explain asks it
    for prefix, kind in (("<4>", "bot-operator"), ("Nov 29 16:00:00 host bot-operator[812]: ", "syslog")):
        # What the daemon itself prints is looked at in test_crowdsec_real.py.
        lines = ['%sevent=%s %s reason="a reason"' % (prefix, event, 'src_ip=192.0.2.222 user="x" sender="" queue=""'
                 if event == "auth_failed" else 'src_ip=- user="" sender="shop" queue="jobs"') for event in EVENTS]
        out = cs.cscli("explain", "--type", kind, "-v", "--file", r.write("lines." + kind, "\n".join(lines) + "\n"))
        parts = dict((re.search(r"event=(\w+)", part)[1], part) for part in re.split(r"(?m)^line: ", out)[1:])
        assert sorted(parts) == sorted(EVENTS), out
        for event, part in parts.items():
            assert "parser success" in part and "bot-operator/bot-operator-logs" in part, part
            assert "bot_operator_" + event in part, part
            assert "bot-operator/" + event.replace("_", "-") in part, part


def test_acquisition_takes_each_event():
    with open(os.path.join(rig.SOURCE, "daemon", "base", "log_event.h")) as f:
        ids = dict(re.findall(r"#define EVENT_(\w+) \\\n\t\"([0-9a-f]{32})\"", f.read()))
    with open(os.path.join(crowdsec.OURS, "acquis.d", "bot-operator.yaml")) as f:
        there = dict((name, id) for id, name in re.findall(r'"MESSAGE_ID=([0-9a-f]{32})"\s+# (\w+)', f.read()))
    assert there == {e: ids[e.upper()] for e in EVENTS}, (there, ids)


if __name__ == "__main__":
    # Without a way out; where that cannot be had it goes without.
    netns.enter()
    rig.main(globals())
