"""CrowdSec against a scripted local API: who is banned, what becomes of it, and an API that fails in every way."""
import contextlib
import json
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import netns  # noqa: E402
import rig  # noqa: E402
from lapi_peer import Lapi  # noqa: E402
from rig import wait_for  # noqa: E402
from sink_peer import Reply, hang, status  # noqa: E402

rig.DEADLINE = max(rig.DEADLINE, 60)

WORLD = """
[Operator]
Status=0.0.0.0:0
Control={dir}/test.sock
StatusTokenFile={dir}/token
[Pool work]
Command={dir}/handler.sh
Workers=1
[Queue jobs]
Type=spool
Path={dir}/spool
BacklogInterval=100ms
MaxAttempts=3
Sender=from
"""
BOUNCER = "[CrowdSec]\nUrl=%s/\nApiKeyFile={dir}/key\nInterval=1s\nTimeout=2s\n"
MACHINE = "Report=yes\nMachineId=operator\nMachinePasswordFile={dir}/password\n"
TOKEN = "s3cr3tstatustoken"


@contextlib.contextmanager
def lapi(r):
    peer = Lapi()
    r.write("key", peer.KEY + "\n", 0o600)
    r.write("password", peer.PASSWORD + "\n", 0o600)
    r.write("token", TOKEN + "\n", 0o600)
    r.write("handler.sh", '#!/bin/sh\necho "$BOT_MESSAGE_ID" >> %s/runs\n' % r.dir, 0o755)
    try:
        yield peer
    finally:
        r.drain()
        peer.stop()


def daemon(r, peer, section=BOUNCER, world=WORLD):
    return at_loopback(r.daemon(world + section % peer.base, wait=False))


def at_loopback(d):
    """The status is behind a token; /healthz is not."""
    wait_for("the status address", d._find_base)
    d.base = d.base.replace("0.0.0.0", "127.0.0.1")
    d.port = int(d.base.rpartition(":")[2])
    wait_for("the daemon", lambda: d.get("/healthz")[0] == 200)
    d.status = lambda: json.loads(d.botctl("status", "--json").stdout)
    return d


def crowdsec(d):
    return d.status()["sinks"]["crowdsec"]


def wait_crowdsec(d, what, condition):
    last = {}

    def check():
        last.update(crowdsec(d))
        return condition(last) and dict(last)
    try:
        return wait_for(what, check)
    except AssertionError as e:
        raise AssertionError("%s; it is %s\n%s" % (e, json.dumps(last), d.log()[-2000:]))


def wait_decisions(d, **want):
    want = {k.replace("_", "-"): v for k, v in want.items()}
    return wait_crowdsec(d, str(want), lambda c: c["connected"] and
                         all(c["decisions"][k] == v for k, v in want.items()))


def ask(source, port, path="/healthz", token=None):
    """The answer's first line from there; "" when the connection is closed without one."""
    with contextlib.closing(netns.connect(source, port)) as s:
        try:
            s.sendall(("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n" % (
                path, "Authorization: Bearer %s\r\n" % token if token else "")).encode())
            return s.makefile("rb").readline().decode().strip()
        except (ConnectionResetError, BrokenPipeError):
            return ""


def needs_network():
    if netns.reason:
        raise rig.Skip(netns.reason)


def metric(d, name):
    text = rig.urllib.request.urlopen(rig.urllib.request.Request(
        d.base + "/metrics", headers={"Authorization": "Bearer " + TOKEN}), timeout=20).read().decode()
    assert text.endswith("# EOF\n")
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith("bot_operator_" + name + " ")]
    assert len(values) == 1, (name, values)
    return float(values[0])


def put(r, name, sender=None, body="x"):
    tmp = r.path("spool", "tmp", name)
    with open(tmp, "w") as f:
        f.write(json.dumps({"from": sender} if sender else {}) + "\n" + body)
    os.rename(tmp, r.path("spool", "new", name + ".envelope"))


def dead(d):
    lines = d.botctl("dead", "list", "jobs", "--json").stdout.splitlines()
    return [json.loads(line)["item"] for line in lines[:-1]]


def runs(r):
    try:
        with open(os.path.join(r.dir, "runs")) as f:
            return f.read().split("\n")[:-1]
    except OSError:
        return []


# ---- decisions ----

def test_the_questions(r):
    with lapi(r) as peer:
        d = daemon(r, peer)
        wait_for("three questions", lambda: len(peer.pulls()) >= 3)
        first, *others = peer.pulls()
        assert "startup=true" in first.query, first
        for q in [first] + others:
            assert q.method == "GET" and "scopes=ip,range,queue-sender" in q.query, q
            assert q.headers["X-Api-Key"] == peer.KEY and q.headers["User-Agent"].startswith("bot-operator/"), q.headers
        assert not any("startup=true" in q.query for q in others), others
        c = wait_decisions(d, ip=0, range=0, queue_sender=0)
        assert c["error"] is None and c["last_pull_seconds"] <= 60 and not c["failing"] and c["type"] == "crowdsec", c
        assert metric(d, "crowdsec_connected") == 1 and metric(d, "crowdsec_pulls_total") >= 3


def test_banned_addresses_are_closed(r):
    needs_network()
    with lapi(r) as peer:
        peer.add("Ip", "192.0.2.10")
        d = daemon(r, peer)
        wait_decisions(d, ip=1)
        assert ask("192.0.2.10", d.port) == ""
        assert ask("198.51.100.10", d.port).startswith("HTTP/1.1 200")
        assert ask("127.0.0.1", d.port).startswith("HTTP/1.1 200")
        peer.add("Range", "198.51.100.0/24", type="captcha")
        wait_decisions(d, range=1)
        assert ask("198.51.100.10", d.port) == ""
        assert ask("203.0.113.10", d.port).startswith("HTTP/1.1 200")
        # This host can always look at itself.
        for value in ("0.0.0.0/0", "127.0.0.0/8"):
            peer.add("Range", value)
        peer.add("ip", "127.0.0.1")
        wait_decisions(d, ip=2, range=3)
        assert ask("203.0.113.10", d.port) == ""
        assert ask("127.0.0.1", d.port).startswith("HTTP/1.1 200")
        assert metric(d, "status_connections_banned_total") == 3
        assert "192.0.2.10" not in d.log()


def test_banned_addresses_of_ipv6(r):
    needs_network()
    with lapi(r) as peer:
        peer.add("Ip", "2001:db8::10")
        d = r.daemon(WORLD.replace("0.0.0.0:0", "[::]:0") + BOUNCER % peer.base, wait=False)
        base = wait_for("the status address", d._find_base)
        d.base = base.replace("[::]", "[::1]")
        d.port = int(base.rpartition(":")[2])
        d.status = lambda: json.loads(d.botctl("status", "--json").stdout)
        wait_decisions(d, ip=1)
        try:
            assert ask("2001:db8::10", d.port) == ""
        except OSError as e:
            raise rig.Skip("no IPv6 here: %s" % e)
        assert ask("2001:db8:1::10", d.port).startswith("HTTP/1.1 200")
        peer.add("Range", "2001:db8:1::/48")
        wait_decisions(d, range=1)
        assert ask("2001:db8:1::10", d.port) == ""
        assert ask("::1", d.port).startswith("HTTP/1.1 200")


def test_decisions_end(r):
    needs_network()
    with lapi(r) as peer:
        d = daemon(r, peer)
        one = peer.add("Ip", "192.0.2.10", "1h")
        two = peer.add("Ip", "192.0.2.10", "2h0m0.5s")
        peer.add("Ip", "198.51.100.10", "1.5s")
        wait_for("the short one", lambda: ask("198.51.100.10", d.port) == "" or crowdsec(d)["pulls"] > 3)
        wait_crowdsec(d, "its end", lambda c: c["decisions"]["ip"] == 2)
        assert ask("198.51.100.10", d.port).startswith("HTTP/1.1 200")
        # One of two about the same address is deleted: it stays banned.
        peer.delete(two)
        wait_decisions(d, ip=1)
        assert ask("192.0.2.10", d.port) == ""
        peer.delete(one)
        wait_decisions(d, ip=0)
        assert ask("192.0.2.10", d.port).startswith("HTTP/1.1 200")


def test_open_connections_are_closed_too(r):
    needs_network()
    with lapi(r) as peer:
        d = daemon(r, peer)
        wait_decisions(d, ip=0)
        with contextlib.closing(netns.connect("192.0.2.10", d.port)) as s:
            f = s.makefile("rb")
            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert f.readline().startswith(b"HTTP/1.1 200")
            peer.add("Ip", "192.0.2.10")
            wait_decisions(d, ip=1)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                while f.readline() not in (b"",):
                    pass
            assert metric(d, "status_connections_banned_total") == 1


def test_what_makes_no_sense_is_ignored(r):
    r.expect_log("decisions are ignored")
    with lapi(r) as peer:
        peer.add("Ip", "not an address")
        peer.add("Ip", "192.0.2.1", "for ever")
        peer.add("Ip", "192.0.2.2", type="throttle")
        peer.add("Country", "XX")
        peer.add("Ip", "192.0.2.4", "-3s")              # over already
        peer.add("Ip", "192.0.2.5", unknown={"a": [1, "\u00e9", None]})
        d = daemon(r, peer)
        c = wait_decisions(d, ip=1)
        assert c["decisions_ignored"] == 4 and c["decisions_left_out"] == 0, c
        assert "4 decisions are ignored, the first because of \"not an address\" is no address" in d.log(), d.log()


def test_more_than_are_kept(r):
    r.expect_log("decisions are left out: MaxDecisions=100 are kept")
    with lapi(r) as peer:
        ids = [peer.add("Ip", "203.0.113.%d" % i) for i in range(100)]
        peer.add("queue-sender", "mallory")
        d = daemon(r, peer, BOUNCER + "MaxDecisions=100\n")
        c = wait_decisions(d, ip=100, queue_sender=0)
        assert c["decisions_left_out"] == 1 and c["decisions_max"] == 100, c
        # When there is room again, all are asked for, and it gets its place.
        for id in ids[:30]:
            peer.delete(id)
        wait_decisions(d, ip=70, queue_sender=1)
        assert d.log().count("are left out") == 1, d.log()


def test_many(r):
    with lapi(r) as peer:
        for i in range(30000):
            peer.add("Ip", "10.%d.%d.%d" % (i >> 16, i >> 8 & 255, i & 255), origin="lists:firehol_botscout_7d",
                     scenario="firehol_botscout_7d")
        d = daemon(r, peer)
        before = len(runs(r))
        put(r, "m1", "shop")
        wait_decisions(d, ip=30000)
        wait_for("the message", lambda: len(runs(r)) > before)
        d.check_turns()
        with peer.lock:
            peer.decisions.clear()
            peer.rule("/v1/decisions/stream", status(500), 1)
        r.expect_log("crowdsec: .*500")
        wait_decisions(d, ip=0)
        d.check_turns()


# ---- senders ----

def test_banned_senders(r):
    r.expect_log("its sender mallory is banned|section.*changed|more messages of banned senders")
    with lapi(r) as peer:
        d = daemon(r, peer)
        peer.add("queue-sender", "mallory")
        wait_decisions(d, queue_sender=1)
        put(r, "m1", "mallory", "not run")
        put(r, "m2", "shop")
        put(r, "m3")
        wait_for("the others", lambda: len(runs(r)) == 2)
        q = d.wait_queue("jobs", dead=1, done=2)
        assert q["errors"] == {"banned": 1} and q["retried"] == 0, q
        letter, = dead(d)
        assert letter["error_type"] == "banned" and letter["detail"] == "its sender is banned", letter
        assert "its sender mallory is banned; it goes to the dead letters" in d.log()
        assert crowdsec(d)["banned_messages"] == {"dead-letter": 1, "delay": 0, "drop": 0}
        # Put off: it comes again, and runs when it is banned no more.
        d.write(WORLD + BOUNCER % peer.base + "BannedSender=delay\nBannedDelay=1s\n")
        d.botctl("reload")
        wait_decisions(d, queue_sender=1)
        put(r, "m4", "mallory")
        wait_crowdsec(d, "to be put off twice", lambda c: c["banned_messages"]["delay"] >= 2)
        assert len(runs(r)) == 2
        peer.delete(1)
        wait_for("to run", lambda: len(runs(r)) == 3)
        d.wait_queue("jobs", done=3, dead=1)
        # Dropped: acknowledged, and nowhere.
        peer.add("queue-sender", "mallory")
        d.write(WORLD + BOUNCER % peer.base + "BannedSender=drop\n")
        d.botctl("reload")
        wait_decisions(d, queue_sender=1)
        put(r, "m5", "mallory")
        wait_crowdsec(d, "to be dropped", lambda c: c["banned_messages"]["drop"] == 1)
        wait_for("an empty spool", lambda: not [f for _, _, files in os.walk(r.path("spool", "new")) for f in files])
        put(r, "m6", "shop")
        wait_for("the next", lambda: len(runs(r)) == 4)
        assert len(dead(d)) == 1
        # As the log shows the name, so it is banned.
        assert d.botctl("dead", "redrive", "jobs", "--all").returncode == 0


def test_a_delayed_one_is_asked_about_from_the_beginning(r):
    """Where the broker cannot wait it waits here, and its size counts afterwards as well."""
    r.expect_log("its sender mallory is banned|not a valid message")
    with lapi(r) as peer:
        id = peer.add("queue-sender", "mallory")
        d = daemon(r, peer, BOUNCER + "BannedSender=delay\nBannedDelay=1s\n", WORLD + "Format=json\nOrderBy=key\n")
        wait_decisions(d, queue_sender=1)
        put(r, "m1", "mallory", "no json")
        wait_crowdsec(d, "to be put off twice", lambda c: c["banned_messages"]["delay"] >= 2)
        peer.delete(id)
        q = d.wait_queue("jobs", dead=1)
        assert q["errors"] == {"invalid_format": 1} and not runs(r), q


# ---- an API that fails ----

def keep(r, peer, d, make, code, back):
    """make() breaks it; who is banned stays so; back() mends it, and what is gone then is gone."""
    peer.add("Ip", "192.0.2.10")
    gone = peer.add("queue-sender", "mallory")
    wait_decisions(d, ip=1, queue_sender=1)
    make()
    c = wait_crowdsec(d, "the failure", lambda c: not c["connected"])
    assert c["error"]["code"] == code, c["error"]
    assert c["failing"] and c["last_pull_seconds"] is not None, c
    assert c["decisions"] == {"ip": 1, "range": 0, "queue-sender": 1}, c
    assert metric(d, "crowdsec_connected") == 0
    put(r, "m%d" % time.monotonic_ns(), "shop")
    before = len(runs(r))
    wait_for("work to go on", lambda: len(runs(r)) > before or d.queue("jobs")["done"] > 0)
    peer.delete(gone, tell=False)
    wholes = len(peer.pulls(whole=True))
    back()
    c = wait_decisions(d, ip=1, queue_sender=0)
    assert c["error"] is None and not c["failing"], c
    assert len(peer.pulls(whole=True)) > wholes, peer.pulls()
    d.check_turns()


def failing(action, code, pattern):
    def test(r):
        r.expect_log("crowdsec: .*%s" % pattern)
        with lapi(r) as peer:
            d = daemon(r, peer, BOUNCER + "MaxDecisions=100\n")
            rules = []
            keep(r, peer, d, lambda: rules.append(peer.rule("/v1/decisions/stream", action)), code,
                 lambda: rules[0].remove())
            assert d.log().count("trying again in") == 1, d.log()
            assert "crowdsec: works again" in d.log()
    return test


test_wrong_key = failing(status(403, {"message": "access forbidden"}), "forbidden", "does not know the key in")
test_server_error = failing(status(500, {"message": "no database"}), "http_500", "500: .*no database")
test_bad_json = failing(status(200, '{"new":[{"id":1,]}'), "bad_json", "no list of decisions")
test_cut_json = failing(status(200, '{"deleted":null,"new":[{"id":1,"duration":"4h","scope":"Ip","type":"ban",'
                                    '"value":"192.0.2.66"}'), "bad_json", "no list of decisions")
test_another_server = failing(status(200, {"ok": True}), "no_decisions", "is Url= CrowdSec's local API")
test_empty_answer = failing(status(200, ""), "bad_json", "no list of decisions")
test_oversized = failing(status(200, b'{"new":null,"deleted":null,"x":"' + b"x" * 400000 + b'"}'),
                         "response_too_large", "")
test_invariant_3_an_api_that_says_nothing = failing(hang, "response_timeout", "")
test_redirect = failing(status(302, b"", Location="http://192.0.2.1/"), "redirect", "")


def test_not_there(r):
    r.expect_log("crowdsec: ")
    with lapi(r) as peer:
        url = peer.base
        peer.stop()
        d = at_loopback(r.daemon(WORLD + BOUNCER % url, wait=False))
        c = wait_crowdsec(d, "the failure", lambda c: c["error"] is not None)
        assert c["error"]["code"] == "ECONNREFUSED" and c["last_pull_seconds"] is None and not c["connected"], c
        put(r, "m1", "shop")
        wait_for("work", lambda: runs(r) != [])
        assert d.status()["status"] == "ok", d.status()["checks"]


def test_no_key(r):
    r.expect_log("crowdsec: ")
    with lapi(r) as peer:
        os.unlink(r.path("key"))
        d = daemon(r, peer)
        c = wait_crowdsec(d, "the failure", lambda c: c["error"] is not None)
        assert c["error"]["class"] == "auth" and "/key" in c["error"]["text"], c
        assert not peer.pulls()
        peer.add("Ip", "192.0.2.10")
        r.write("key", "two\nlines\n", 0o600)
        wait_crowdsec(d, "the other failure", lambda c: "line break" in c["error"]["text"])
        r.write("key", peer.KEY, 0o600)
        wait_decisions(d, ip=1)


def test_sections_come_and_go(r):
    r.expect_log(r"\[CrowdSec\]")
    with lapi(r) as peer:
        peer.add("queue-sender", "mallory")
        d = at_loopback(r.daemon(WORLD, wait=False))
        assert "crowdsec" not in d.status()["sinks"]
        d.write(WORLD + BOUNCER % peer.base)
        d.botctl("reload")
        wait_decisions(d, queue_sender=1)
        d.write(WORLD)
        d.botctl("reload")
        assert "crowdsec" not in d.status()["sinks"]
        # Nobody says so any more: nobody is banned.
        put(r, "m1", "mallory")
        wait_for("to run", lambda: runs(r) != [])


# ---- alerts ----

def test_alerts_are_sums(r):
    needs_network()
    r.expect_log("event=auth_failed|more events auth_failed|crowdsec .alerts.")
    with lapi(r) as peer:
        d = daemon(r, peer, BOUNCER + MACHINE + "ReportAfter=5\nReportWindow=3s\n")
        for i in range(4):
            assert ask("192.0.2.10", d.port, "/metrics", "wrong").startswith("HTTP/1.1 401")
            assert ask("198.51.100.10", d.port, "/metrics", "wrong").startswith("HTTP/1.1 401")
        ask("192.0.2.10", d.port, "/metrics", "wrong")
        a, = wait_for("the alert", lambda: peer.alerts_about("192.0.2.10"))
        assert a["scenario"] == "bot-operator/auth-failed" and a["events_count"] == 5, a
        assert a["source"] == {"scope": "Ip", "value": "192.0.2.10", "ip": "192.0.2.10"}, a
        assert a["remediation"] is True and a["simulated"] is False and a["capacity"] == 5, a
        assert a["scenario_hash"] == "" and a["leakspeed"] == "3s", a
        assert a["start_at"] <= a["stop_at"] and a["stop_at"].endswith("Z"), a
        meta = {m["key"]: m["value"] for m in a["events"][0]["meta"]}
        assert meta["source_ip"] == "192.0.2.10" and meta["log_type"] == "auth_failed", meta
        # Further ones of the same window are one more alert at its end.
        for i in range(30):
            ask("203.0.113.10", d.port, "/metrics", "wrong")
        wait_for("all of them", lambda: sum(x["events_count"] for x in peer.alerts_about("203.0.113.10")) >= 26)
        assert len(peer.alerts_about("203.0.113.10")) <= 6, peer.alerts
        assert not peer.alerts_about("198.51.100.10"), peer.alerts
        assert peer.logins == 1
        # The token ends: another log-in, and nothing is lost.
        peer.tokens.clear()
        for i in range(5):
            ask("198.51.100.10", d.port, "/healthz", "x")
            ask("198.51.100.10", d.port, "/metrics", "wrong")
        wait_for("an alert after a new log-in", lambda: peer.alerts_about("198.51.100.10"))
        assert peer.logins == 2
        c = wait_crowdsec(d, "all to be sent", lambda c: c["report"]["queued"] == 0)["report"]
        assert c["sent"] == len(peer.alerts) == c["alerts"] and c["dropped"] == 0 and c["queued"] == 0, c
        assert metric(d, "crowdsec_alerts_sent_total") == len(peer.alerts)


def test_alerts_wait(r):
    needs_network()
    r.expect_log("event=auth_failed|more events auth_failed|crowdsec .alerts.")
    with lapi(r) as peer:
        rule = peer.rule("/v1/*", status(503, "later"))
        r.expect_log("crowdsec: ")
        d = daemon(r, peer, BOUNCER + MACHINE)
        for i in range(5):
            ask("192.0.2.10", d.port, "/metrics", "wrong")
        wait_crowdsec(d, "a failed log-in", lambda c: c["report"]["failing"] and c["report"]["queued"] == 1)
        rule.remove()
        wait_crowdsec(d, "the alert", lambda c: c["report"]["sent"] == 1)
        assert peer.alerts_about("192.0.2.10")
        # What it will never take is not sent for ever.
        peer.rule("/v1/alerts", status(400, {"message": "validation failed"}))
        for i in range(5):
            ask("198.51.100.10", d.port, "/metrics", "wrong")
        c = wait_crowdsec(d, "a refused alert", lambda c: c["report"]["last_error"] and
                          c["report"]["last_error"]["code"] == "http_400")
        assert c["report"]["queued"] == 0 and len(peer.alerts) == 1, c


def test_wrong_password(r):
    needs_network()
    r.expect_log("event=auth_failed|crowdsec .alerts.: CrowdSec does not know the machine operator")
    with lapi(r) as peer:
        r.write("password", "s3cr3t wrong one", 0o600)
        d = daemon(r, peer, BOUNCER.replace("ApiKeyFile={dir}/key\n", "") + MACHINE + "ReportAfter=1\n")
        ask("192.0.2.10", d.port, "/metrics", "wrong")
        c = wait_crowdsec(d, "the refusal", lambda c: c["report"]["failing"])
        assert c["report"]["last_error"]["code"] == "login" and c["report"]["queued"] == 1, c
        assert not peer.pulls(), "no key, no questions"
        r.write("password", peer.PASSWORD, 0o600)
        wait_crowdsec(d, "the alert", lambda c: c["report"]["sent"] == 1)
        assert peer.alerts_about("192.0.2.10")


def test_invariant_7_no_secret_is_told(r):
    r.expect_log("crowdsec")
    with lapi(r) as peer:
        def echo(request, go):
            return Reply(400, "you said %s%s%s" % (request.headers.get("Authorization", ""),
                                                   request.headers.get("X-Api-Key", ""), request.raw.decode()))
        rule = peer.rule("*", echo)
        d = daemon(r, peer, BOUNCER + MACHINE + "ReportAfter=1\n")
        if not netns.reason:
            ask("192.0.2.10", d.port, "/metrics", "wrong")
            r.expect_log("event=auth_failed")
            wait_crowdsec(d, "a failed log-in", lambda c: c["report"]["failing"])
        wait_crowdsec(d, "a failed question", lambda c: c["error"])
        if not netns.reason:
            # The token, after a log-in that works.
            peer.rule("/v1/alerts", echo)
            rule.remove()
            wait_crowdsec(d, "a refused alert", lambda c: c["report"]["logged_in"] and c["report"]["queued"] == 0)
            assert "crowdsec (alerts): a message was not sent: CrowdSec (alerts) answers 400: you said" in d.log()
            assert "you said Bearer ****" in d.log(), d.log()
        assert "you said ****" in d.log(), d.log()
        everything = d.log() + json.dumps(d.status()) + d.botctl("show-config").stdout
        with open("/proc/%d/cmdline" % d.pid) as f:
            everything += f.read()
        assert "s3cr3t" not in everything, [x for x in everything.splitlines() if "s3cr3t" in x]


# ---- the configuration ----

def test_mistakes(r):
    for text, said in (
            ("[CrowdSec]\n", "[CrowdSec] has nothing to do: set ApiKeyFile="),
            ("[CrowdSec]\nReport=yes\n", "Report=yes needs MachineId="),
            ("[CrowdSec]\nReport=yes\nMachineId=x\n", "Report=yes needs MachinePasswordFile="),
            ("[CrowdSec]\nApiKeyFile=/x\nUrl=ftp://x\n", "Url"),
            ("[CrowdSec]\nApiKeyFile=/x\nUrl=http://x/?a=b\n", "has no query"),
            ("[CrowdSec]\nApiKeyFile=/x\nBannedSender=ignore\n", "known: dead-letter delay drop"),
            ("[CrowdSec]\nApiKeyFile=/x\nInterval=10ms\n", "Interval"),
            ("[CrowdSec]\nApiKey=secret\n", "ApiKeyFile"),
            ("[Crowdsec]\nApiKeyFile=/x\n", "CrowdSec"),
            ("[CrowdSec one]\nApiKeyFile=/x\n", "CrowdSec")):
        conf = r.write("bad.conf", "[Pool p]\nCommand=/bin/true\n[Queue q]\nType=spool\nPath=/x\n" + text)
        p = rig.subprocess.run([os.path.join(rig.BUILD, "bot-operatord"), "--check", "--config", conf],
                               stdout=rig.subprocess.PIPE, stderr=rig.subprocess.STDOUT, universal_newlines=True)
        assert p.returncode == 78 and said in p.stdout and "bad.conf:" in p.stdout, (text, p.stdout)


if __name__ == "__main__":
    netns.enter()
    socket.setdefaulttimeout(60)
    rig.main(globals(), jobs=3)
