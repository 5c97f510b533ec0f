"""The status address as people and browsers meet it: the page, /events, the
token.  The page runs in a headless Chromium where one is installed;
screenshots are kept in BUILD_DIR/screenshots."""
import base64
import json
import os
import re
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import browser  # noqa: E402
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

WORLD = """[Operator]
Name=%s
Status=127.0.0.1:0
Control={dir}/test.sock
%s
[Pool mail]
Command=%s
Workers=1-2
[Queue orders]
Type=spool
Path={dir}/orders
Pool=mail
MaxAttempts=2
Backoff=50ms-100ms
BacklogInterval=100ms
"""

TROUBLE = """
[Queue reports]
Type=spool
Path={dir}/reports
Pool=mail
BacklogInterval=100ms
Requires=database
[Queue events]
Type=redis
Address=127.0.0.1:1
Key=events
Pool=mail
[Check database]
TCP=127.0.0.1:1
Interval=1s
Failures=1
[Alert errors]
When=queue.error_rate_percent > 5
For=1s
MinSamples=1
Text=Customers wait for <their> mail.
Runbook=https://wiki.example.org/mail
"""

HANDLER = """#!/bin/sh
case $(cat) in
*bad*) echo "the template <b>x</b> is unknown" >&2; exit 65;;
esac
"""


def world(r, name="client-sample", operator="", more="", **kw):
    handler = r.write("handler.sh", HANDLER, 0o755)
    return r.daemon(WORLD % (name, operator, handler) + more, **kw)


def ask(d, path, headers=(), method="GET"):
    """(status, headers, body); urllib follows no rule of ours about 401."""
    with Events(d, path, headers, method) as e:
        e.until(lambda: e.closed or e.whole())
        return e.status, e.headers, e.body()


class Events:
    """A connection of which as much is read as the test wants."""

    def __init__(self, d, path="/events", headers=(), method="GET", receive=None):
        host, port = re.match(r"http://(.*):(\d+)$", d.base).groups()
        self.s = socket.socket()
        if receive:
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.s.connect((host, int(port)))
        self.s.sendall(("%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (
            method, path, host, "".join(h + "\r\n" for h in headers))).encode())
        self.s.settimeout(0.05)
        self.data, self.closed = b"", False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.s.close()

    def read(self):
        try:
            data = self.s.recv(1 << 20)
        except socket.timeout:
            return
        except ConnectionResetError:
            data = b""
        self.data += data
        self.closed = self.closed or not data

    def until(self, condition, what="what was asked for"):
        def check():
            self.read()
            return condition()
        return wait_for(what, check)

    @property
    def status(self):
        return int(self.data.split(b" ", 2)[1])

    @property
    def headers(self):
        head = self.data.split(b"\r\n\r\n")[0].decode()
        return [line.split(": ", 1) for line in head.split("\r\n")[1:]]

    def body(self):
        return self.data.split(b"\r\n\r\n", 1)[1].decode() if b"\r\n\r\n" in self.data else ""

    def whole(self):
        length = dict(self.headers).get("Content-Length")
        return b"\r\n\r\n" in self.data and length and len(self.body().encode()) >= int(length)

    def events(self, name):
        """The data of those of that name."""
        found = []
        for block in self.body().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
            if fields.get("event") == name:
                found.append(json.loads(fields["data"]))
        return found


def sanitized():
    with open(os.path.join(rig.BUILD, "config.h")) as f:
        return "#define BOT_SANITIZERS 1" in f.read()


# ---- events ----

def test_events_bring_the_state_and_the_log(r):
    r.expect_log("template|dead letters")
    d = world(r)
    with Events(d) as e:
        e.until(lambda: e.events("status"))
        first = e.events("status")[0]
        assert first["instance"] == "client-sample" and first["queues"]["orders"]["done"] == 0, first
        assert dict(e.headers)["Content-Type"] == "text/event-stream"
        d.botctl("enqueue", "orders", "--body", "good")
        d.botctl("enqueue", "orders", "--body", "bad")
        e.until(lambda: e.events("status")[-1]["queues"]["orders"]["done"] == 1, "the message in the events")
        e.until(lambda: any("template <b>x</b>" in line["text"] and line["queue"] == "orders"
                            for lines in e.events("log") for line in lines), "the line in the events")
    code, text = d.get("/log.json")
    assert code == 200 and any("template" in line["text"] for line in json.loads(text)), text
    assert "bot_operator_status_subscribers 0\n" in wait_for(
        "the subscriber to be gone", lambda: ("_subscribers 0\n" in d.get("/metrics")[1]) and d.get("/metrics")[1])


def test_events_are_for_a_bounded_number(r):
    d = world(r)
    open_ = [Events(d) for _ in range(8)]
    for e in open_:
        e.until(lambda: e.events("log") is not None and e.events("status"))
    with Events(d) as e:
        e.until(lambda: e.closed)
        assert e.status == 503 and dict(e.headers)["Retry-After"], e.data
    # All else is still answered, to the same address.
    assert d.get("/healthz") == (200, "ok\n")
    assert "bot_operator_status_subscribers_refused_total 1\n" in d.get("/metrics")[1]
    for e in open_:
        e.s.close()


def test_a_reader_that_stands_still_is_dropped(r):
    """With many queues the document is big enough to fill the buffers."""
    more = "".join("[Queue q%03d]\nType=spool\nPath={dir}/q%03d\nPool=mail\n" % (i, i) for i in range(120))
    d = world(r, more=more)
    with Events(d, receive=2048) as slow, Events(d) as good:
        before = d.rss_kib()

        def dropped():
            good.read()
            return "bot_operator_status_connections_cut_total 1\n" in d.get("/metrics")[1]
        wait_for("the slow one to be cut", dropped, 60)
        heard = len(good.events("status"))
        assert heard > 2
        good.until(lambda: len(good.events("status")) > heard, "more for the other one")
        assert not good.closed
        # A build with ASan keeps what was freed.
        assert d.rss_kib() < before + (200 * 1024 if sanitized() else 4096), "it was kept for the slow one"
        assert slow.s.fileno() >= 0


# ---- hosts, slow and many clients ----

def test_strange_hosts_and_heads_are_refused(r):
    d = world(r, operator="StatusHosts=status.example.org")
    port = d.base.rsplit(":", 1)[1]

    def with_host(host):
        s = socket.create_connection(("127.0.0.1", int(port)), rig.DEADLINE)
        s.sendall(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
        data = b""
        while True:
            more = s.recv(65536)
            if not more:
                return int(data.split(b" ")[1])
            data += more
    assert with_host(b"127.0.0.1:" + port.encode()) == 200
    assert with_host(b"status.example.org") == 200
    assert with_host(b"evil.example.com") == 421
    assert with_host(b"status.example.org.evil.example.com") == 421
    assert with_host(b"a b") == 400
    assert with_host(b"x\"><script>") == 400


def test_a_slow_head_is_cut_and_the_rest_served(r):
    """A byte now and then buys no time."""
    d = world(r)
    port = int(d.base.rsplit(":", 1)[1])
    slow = [socket.create_connection(("127.0.0.1", port), rig.DEADLINE) for _ in range(12)]
    begun = time.monotonic()
    text = b"GET / HTTP/1.1\r\nX-Slow: " + b"a" * 1000
    sent = 0

    def ended():
        nonlocal sent
        for s in slow:
            try:
                s.send(text[sent:sent + 1])
            except OSError:
                pass
        sent += 1
        assert d.get("/healthz")[0] == 200
        return "bot_operator_status_connections 1\n" in d.get("/metrics")[1]
    wait_for("the slow ones to be cut", ended, 30)
    assert 5 < time.monotonic() - begun < 25
    for s in slow:
        s.close()


# ---- the token ----

def test_token_is_asked_for_and_read_anew(r):
    r.expect_log("event=auth_failed")
    token = r.write("token", "first secret\n", 0o600)
    d = world(r, operator="StatusTokenFile=" + token, wait="address")
    wait_for("the queue", lambda: '"connected":true' in
             ask(d, "/.well-known/engine-status", ["Authorization: Bearer first secret"])[2])
    for path in ("/", "/events", "/metrics", "/.well-known/engine-status", "/log.json"):
        status, headers, body = ask(d, path)
        assert status == 401 and "StatusTokenFile" in body and "orders" not in body, (path, status, body)
        assert [v for k, v in headers if k == "WWW-Authenticate"][0].startswith("Basic realm="), headers
    assert ask(d, "/healthz")[0] == 200
    assert "event=auth_failed" not in d.log()
    basic = ["Authorization: Basic " + base64.b64encode(b"me:first secret").decode()]
    wait_for("readiness", lambda: ask(d, "/readyz", basic)[0] == 200)
    wrong = ["Authorization: Basic " + base64.b64encode(b'e"ve:guess').decode()]
    assert ask(d, "/", wrong)[0] == 401
    assert ('event=auth_failed src_ip=127.0.0.1 user="e?ve" sender="" queue="" reason="wrong token"\n') in d.log()
    with Events(d, headers=basic) as e:
        e.until(lambda: e.events("status"))
    assert "first secret" not in d.log() and "first secret" not in d.botctl("status", "--json").stdout
    # Another one, without a restart.
    r.write("token", "second\n", 0o600)
    d.botctl("reload")
    assert ask(d, "/readyz", basic)[0] == 401
    assert ask(d, "/readyz", ["Authorization: Bearer second"])[0] == 200


def test_token_file_that_is_missing_stops_the_start(r):
    r.expect_log("cannot start")
    d = world(r, operator="StatusTokenFile={dir}/none", wait=None)
    assert d.wait() == 1
    assert re.search("cannot start: cannot open .*/none", d.log()), d.log()


# ---- in a browser ----

SHOTS = os.path.join(rig.BUILD, "screenshots")
DONE = "[...document.querySelectorAll('.totals dd')].length === 6"


def trouble(r):
    """One of everything that can be shown."""
    r.expect_log("template|dead letters|cannot connect|not connected|down|firing|errors|paused|degraded|cannot be|check")
    d = world(r, "client-sample", more=TROUBLE, wait="address")
    for body in ("good", "bad", "good", "bad"):
        d.botctl("enqueue", "orders", "--body", body)
    d.wait_queue("orders", done=2, dead=2)
    wait_for("the alert", lambda: any(a["state"] == "firing" for a in d.status()["alerts"]))
    return d


def test_page_tells_what_is_wrong_and_looks_well(r):
    browser.find()
    d = trouble(r)
    b = browser.Browser(r)
    os.makedirs(SHOTS, exist_ok=True)
    for name, size in (("desktop", dict(width=1280, height=1500)), ("dark", dict(width=1280, height=1500, dark=True)),
                       ("phone", dict(width=360, height=1800, scale=2)), ("wall", dict(width=3840, height=2160))):
        page = b.page(**size)
        page.open(d.base + "/")
        page.wait("the first event", DONE)
        page.wait("a curve", "document.querySelector('tr[data-key=q-orders] .spark .curve') !== null")
        top = page.text(".top")
        # What is wrong, why, and since when.
        assert re.match(r"client-sample\s+degraded\s+for ", top), top
        for text in ("queue:events", "check:database", "errors / queue:orders", "Customers wait for <their> mail.",
                     "for ", "since "):
            assert text in top, (text, top)
        everything = page.text("#live")
        for text in ("not connected", "it requires database, which is down", "invalid_format", "botctl dead list orders",
                     "the template <b>x</b> is unknown", "queue.error_rate_percent > 5", "127.0.0.1:1", "0 of "):
            assert text in everything, (text, everything)
        # Nothing of all that became markup, and nothing is wider than the screen.
        assert page.value("document.querySelector('.what b b, td b b') === null")
        wide = page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, (name, wide)
        assert page.value("document.querySelector('[role=status][aria-live=polite]').textContent").startswith(
            "client-sample is degraded")
        assert page.value("document.title").endswith("degraded: client-sample")
        page.screenshot(os.path.join(SHOTS, name + ".png"), whole=False)
        assert page.complaints == [], page.complaints
        page.call("Page.close")


CONTRAST = """(() => {
	const parse = c => c.match(/[0-9.]+/g).map(Number);
	const light = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 :
	    Math.pow((v + 0.055) / 1.055, 2.4); }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
	    if (c.length === 3 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
	const poor = [];
	for (const e of document.querySelectorAll("body *")) {
		if (!e.checkVisibility() || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
		const style = getComputedStyle(e);
		const text = light(parse(e instanceof SVGElement ? style.fill : style.color).slice(0, 3)), under = light(ground(e));
		const ratio = (Math.max(text, under) + 0.05) / (Math.min(text, under) + 0.05);
		if (ratio < 4.5) poor.push(e.tagName + "." + e.getAttribute("class") + " " + ratio.toFixed(2) + " " +
		    e.textContent.slice(0, 40));
	}
	return poor;
})()"""


def test_page_has_contrast_and_works_by_keyboard(r):
    browser.find()
    d = trouble(r)
    b = browser.Browser(r)
    for dark in (False, True):
        page = b.page(dark=dark)
        page.open(d.base + "/")
        page.wait("the first event", DONE)
        # WCAG 2.2, 1.4.3: 4.5 to 1.
        assert page.value(CONTRAST) == [], page.value(CONTRAST)
    # Every control is reached by Tab and has a name; Enter opens the curves.
    page.value("document.querySelector('button.name[data-name=orders]').focus()")
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    page.wait("the curves", "document.querySelectorAll('#curves-orders figure.chart svg').length >= 4")
    assert page.value("document.activeElement.getAttribute('data-name')") == "orders", "focus was lost"
    assert page.value("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert page.value("[...document.querySelectorAll('button')].every(b => b.tabIndex === 0 && b.textContent)")
    assert page.value("[...document.querySelectorAll('table')].every(t => t.querySelector('th[scope=col]'))")
    page.value("[...document.querySelectorAll('.spans button')][1].click()")
    page.wait("six hours", "document.querySelector('.spans [aria-pressed=true]').textContent === '6h'")
    assert page.complaints == [], page.complaints


def test_page_follows_the_events(r):
    browser.find()
    d = world(r)
    b = browser.Browser(r)
    page = b.page()
    page.open(d.base + "/")
    page.wait("the first event", DONE)
    assert "Nothing is wrong." in page.text(".top")
    # The page is never loaded anew.
    page.value("window.here = true")
    d.botctl("pause", "orders")
    for i in range(7):
        d.botctl("enqueue", "orders", "--body", "good %d" % i)
    page.wait("the backlog", "document.querySelector('tr[data-key=q-orders] td b').textContent === '7'")
    page.wait("the reason", "document.querySelector('tr[data-key=q-orders] th').textContent.includes('botctl resume')")
    d.botctl("resume", "orders")
    page.wait("the work", "document.querySelector('tr[data-key=q-orders] td b').textContent === '0'")
    page.wait("the count", "document.querySelector('[data-key=operator]').textContent.includes('done 7')")
    assert page.value("window.here") is True
    assert page.complaints == [], page.complaints
    # When nothing comes any more, it says so and does not look healthy.
    r.expect_log(".*")
    d.kill()
    page.wait("the loss", "/no news for|asking/.test(document.querySelector('.connection').textContent)")


def test_page_without_script_is_a_table(r):
    browser.find()
    r.expect_log("template|dead letters|alert dead|slack: ")
    d = world(r, more="[Slack]\nTokenFile={dir}/none\n[Alert dead]\nWhen=queue.dead > 0\nFor=0\n")
    d.botctl("enqueue", "orders", "--body", "bad")
    d.wait_queue("orders", dead=1)
    wait_for("Slack to fail", lambda: d.status()["sinks"]["slack"]["failing"])
    b = browser.Browser(r)
    page = b.page(script=False)
    page.open(d.base + "/")
    page.wait("the tables", "document.querySelectorAll('#plain table').length >= 4")
    text = page.text()
    for part in ("client-sample", "dead / queue:orders", "people cannot be told this way: cannot open ", "sink:slack",
                 "orders", "invalid_format", "the template <b>x</b> is unknown"):
        assert part in text, (part, text)
    assert page.value("document.getElementById('live') === null")
    # It loads itself anew.
    d.botctl("enqueue", "orders", "--body", "good")
    page.wait("the reload", "[...document.querySelectorAll('#plain tr')].some(tr => "
              "tr.cells[0].textContent.trim() === 'orders' && tr.cells[7] && tr.cells[7].textContent.trim() === '1')")
    os.makedirs(SHOTS, exist_ok=True)
    page.screenshot(os.path.join(SHOTS, "plain.png"), whole=False)
    assert page.complaints == [], page.complaints


def test_page_asks_for_the_token(r):
    """A browser that sends it as people do (Basic), also for the events."""
    browser.find()
    r.expect_log("event=auth_failed")
    token = r.write("token", "secret\n", 0o600)
    d = world(r, operator="StatusTokenFile=" + token, wait="address")
    b = browser.Browser(r)
    page = b.page(headers={"Authorization": "Basic " + base64.b64encode(b"me:secret").decode()})
    page.open(d.base + "/")
    page.wait("the first event", DONE)
    assert page.complaints == [], page.complaints


if __name__ == "__main__":
    rig.main(globals(), jobs=3)
