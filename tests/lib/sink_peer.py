"""sink_peer.py - scripted Slack, Uptime Kuma and PostHog on loopback.

Slack keeps the messages of each channel as its own web page would show them,
and answers chat.postMessage, chat.update and webhooks; Kuma keeps the beats of
its push monitors; PostHog keeps events by their uuids, and dashboards.  Rules (rules.py) answer otherwise; an action gets (request,
go) and returns a Reply, or None for silence until the peer ends.
"""
import gzip
import http.server
import itertools
import json
import threading
import time
import urllib.parse

import rules


class Reply:
    def __init__(self, status=200, body=b"", headers=None):
        self.status, self.headers = status, headers or {}
        self.body = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else \
            json.dumps(body).encode()


def status(code, body=b"", **headers):
    return lambda request, go: Reply(code, body, {k.replace("_", "-"): str(v) for k, v in headers.items()})


def not_ok(error):
    """As Slack refuses: HTTP 200 all the same."""
    return lambda request, go: Reply(200, {"ok": False, "error": error})


def hang(request, go):
    return None


def slow(seconds):
    def act(request, go):
        request.peer.ended.wait(seconds)
        return go()
    return act


class Request:
    def __init__(self, peer, method, target, headers, raw):
        self.peer, self.method, self.target, self.headers, self.raw = peer, method, target, headers, raw
        self.time = time.monotonic()
        self.path, _, self.query = target.partition("?")
        self.body = None
        if headers.get("Content-Encoding") == "gzip":
            self.raw = raw = gzip.decompress(raw)
        if raw and "json" in headers.get("Content-Type", ""):
            self.body = json.loads(raw.decode())

    def __repr__(self):
        return "<%.3f %s %s %s>" % (self.time, self.method, self.path, self.raw[:300])


class Peer:
    """An HTTP server with a thread for each connection; real(request) answers."""

    def __init__(self):
        self.lock = threading.RLock()
        self.rules = rules.Rules(self.lock)
        self.requests = []
        self.ended = threading.Event()
        peer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self):
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(peer, self.command, self.path, self.headers, raw)
                reply = peer.answer(request)
                if reply is None:
                    peer.ended.wait()
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for k, v in reply.headers.items():
                    self.send_header(k, v)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_POST = do_PATCH = do_DELETE = serve

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass                    # the operator has hung up

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.base = "http://127.0.0.1:%d" % self.port
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def answer(self, request):
        with self.lock:
            self.requests.append(request)
        rule = self.rules.find(request.path, request)

        def go():
            with self.lock:
                return self.real(request)
        return rule.action(request, go) if rule else go()

    def rule(self, target, action, times=None, **kw):
        return self.rules.add(target, action, times, **kw)

    def seen(self, part):
        with self.lock:
            return [q for q in self.requests if part in q.path]

    def stop(self):
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Slack(Peer):
    TOKEN = "xoxb-s3cr3t-token-0001"
    HOOK = "/services/T000/B000/s3cr3thookpart"

    def __init__(self):
        super().__init__()
        self.channels = {}              # id: [message], in order
        self.ids = {}                   # "#name": id
        self.stamps = itertools.count(1)

    def channel(self, name):
        """Its messages; a webhook's are under its path."""
        with self.lock:
            return list(self.channels.get(self.ids.get(name, name), []))

    def texts(self, name):
        return [m["text"] for m in self.channel(name)]

    def post(self, channel, body):
        cid = self.ids.setdefault(channel, "C%03d" % (len(self.ids) + 1)) if channel.startswith("#") else channel
        message = dict(body, ts="1700000000.%06d" % next(self.stamps), time=time.monotonic())
        self.channels.setdefault(cid, []).append(message)
        return cid, message

    @staticmethod
    def refusal(body):
        """What Slack itself would not take."""
        blocks = body.get("blocks", [])
        if not body.get("text"):
            return "no_text"
        if len(blocks) > 50:
            return "invalid_blocks"
        for b in blocks:
            texts = [b["text"]["text"]] if "text" in b else []
            if any(not 1 <= len(t) <= 3000 for t in texts) or len(b.get("fields", [])) > 10 or \
                    any(not 1 <= len(f["text"]) <= 2000 for f in b.get("fields", [])):
                return "invalid_blocks"
        return None

    def real(self, request):
        if request.path.startswith("/services/"):
            if not request.path.startswith(self.HOOK):
                return Reply(404, "no_service")
            bad = self.refusal(request.body)
            if bad:
                return Reply(400, bad)
            self.post(request.path, request.body)
            return Reply(200, "ok")
        body = request.body
        if request.headers.get("Authorization") != "Bearer " + self.TOKEN:
            return Reply(200, {"ok": False, "error": "invalid_auth"})
        bad = self.refusal(body)
        if bad:
            return Reply(200, {"ok": False, "error": bad})
        if request.path == "/api/chat.postMessage":
            cid, message = self.post(body["channel"], body)
            return Reply(200, {"ok": True, "channel": cid, "ts": message["ts"]})
        if request.path == "/api/chat.update":
            # Only by the channel's id, as Slack has it.
            for m in self.channels.get(body["channel"], []):
                if m["ts"] == body.get("ts"):
                    m.update(body, edited=True)
                    return Reply(200, {"ok": True, "channel": body["channel"], "ts": m["ts"]})
            return Reply(200, {"ok": False, "error": "message_not_found"})
        return Reply(200, {"ok": False, "error": "unknown_method"})


class Kuma(Peer):
    def __init__(self, *tokens):
        super().__init__()
        self.tokens = set(tokens)
        self.all = []                   # (token, {"status", "msg", "ping"})

    def beats(self, token):
        with self.lock:
            return [b for t, b in self.all if t == token]

    def real(self, request):
        token = request.path.rpartition("/")[2]
        if not request.path.startswith("/api/push/") or token not in self.tokens:
            return Reply(404, {"ok": False, "msg": "Monitor not found or not active."})
        beat = dict(urllib.parse.parse_qsl(request.query, strict_parsing=True), time=request.time)
        self.all.append((token, beat))
        return Reply(200, {"ok": True})


class PostHog(Peer):
    """Where events go: POST /batch/."""
    KEY = "phc_s3cr3tprojectkey0001"

    def __init__(self):
        super().__init__()
        self.kept = {}                  # uuid: event, in the order of their coming
        self.twice = 0

    def events(self, name=None, **properties):
        with self.lock:
            return [e for e in self.kept.values() if name in (None, e["event"]) and
                    all(e["properties"].get(k) == v for k, v in properties.items())]

    def sum(self, name, figure, **properties):
        return sum(e["properties"].get(figure, 0) for e in self.events(name, **properties))

    def real(self, request):
        if request.path != "/batch/" or request.method != "POST":
            return Reply(404, "404 page not found")
        if not isinstance(request.body, dict) or not request.body.get("batch"):
            return Reply(400, "request holds no event")
        if request.body.get("api_key") != self.KEY:
            return Reply(401, "API key is not valid: " + str(request.body.get("api_key")))
        for e in request.body["batch"]:
            if not e.get("event") or not e.get("distinct_id"):
                return Reply(400, "event submitted with an empty event name")
        for e in request.body["batch"]:
            self.twice += e["uuid"] in self.kept
            self.kept.setdefault(e["uuid"], e)
        return Reply(200, {"status": "Ok"})


class PostHogPage(Peer):
    """What PostHog's web page talks to: dashboards and insights, as much of it
    as posthog-dashboards needs, in pages of two."""
    KEY, PROJECT = "phx_s3cr3tpersonalkey01", 77

    def __init__(self):
        super().__init__()
        self.numbers = itertools.count(1)
        self.dashboards, self.insights = {}, {}

    def real(self, request):
        if request.headers.get("Authorization") != "Bearer " + self.KEY:
            return Reply(401, {"type": "authentication_error", "code": "authentication_failed",
                               "detail": "Invalid personal API key: " + str(request.headers.get("Authorization"))})
        prefix = "/api/projects/%d/" % self.PROJECT
        kind, _, number = request.path[len(prefix):].strip("/").partition("/")
        if not request.path.startswith(prefix) or not request.path.endswith("/"):
            return Reply(404, {"detail": "Project not found."})
        table = {"dashboards": self.dashboards, "insights": self.insights}.get(kind)
        if table is None or (number and int(number) not in table):
            return Reply(404, {"detail": "Not found."})
        return getattr(self, request.method.lower())(request, kind, table, int(number or 0))

    def post(self, request, kind, table, number):
        new = dict(request.body, id=next(self.numbers), deleted=False)
        if kind == "insights":
            if any(d not in self.dashboards for d in new["dashboards"]):
                return Reply(400, {"detail": "Dashboard not found", "attr": "dashboards"})
            # It adds members of its own.
            new["query"] = dict(new["query"], version=2, source=dict(new["query"]["source"], version=3))
        table[new["id"]] = new
        return Reply(201, new)

    def patch(self, request, kind, table, number):
        table[number].update(request.body)
        return Reply(200, table[number])

    def get(self, request, kind, table, number):
        if number:
            tiles = [{"id": 1000 + i["id"], "insight": i} for i in self.insights.values()
                     if number in i["dashboards"] and not i["deleted"]]
            return Reply(200, dict(table[number], tiles=[{"id": 999, "text": {"body": "hello"}}] + tiles))
        begin = int(dict(urllib.parse.parse_qsl(request.query)).get("offset", 0))
        rows = list(table.values())
        # Wherever it says that the next page is, the key goes to nobody else.
        return Reply(200, {"count": len(rows), "results": rows[begin:begin + 2], "next": None if begin + 2 >= len(rows)
                           else "http://127.0.0.1:1%s?offset=%d" % (request.path, begin + 2)})


class KumaPage(Peer):
    """What the web page of Uptime Kuma talks to: socket.io by long polling, one
    session at a time.  missing: columns that this version does not know."""

    def __init__(self, missing=()):
        super().__init__()
        self.changed = threading.Condition(self.lock)
        self.user, self.logged_in = None, False
        self.out = []
        self.missing = missing
        self.monitors, self.notifications = {}, []
        self.calls = []

    def send(self, packet):
        with self.changed:
            self.out.append(packet)
            self.changed.notify_all()

    def emit(self, *event):
        self.send("42" + json.dumps(event))

    def answer(self, request):
        with self.lock:
            self.requests.append(request)
        if not request.path.startswith("/socket.io/"):
            return Reply(404, "no")
        if "sid=" not in request.query:
            with self.lock:
                self.out, self.logged_in = [], False
            return Reply(200, "0" + json.dumps({"sid": "x", "upgrades": [], "pingInterval": 25000,
                                                "pingTimeout": 20000}))
        if request.method == "POST":
            for packet in request.raw.decode().split("\x1e"):
                self.take(packet)
            return Reply(200, "ok")
        with self.changed:
            # Now and then a ping, as the real one does.
            self.changed.wait_for(lambda: self.out, 0.2)
            packets, self.out = self.out or ["2"], []
        return Reply(200, "\x1e".join(packets))

    def take(self, packet):
        if packet == "40":
            self.send('40{"sid":"y"}')
            self.emit("info", {"primaryHostname": None})
        if packet[:2] != "42":
            return
        digits = len(packet) - len(packet[2:].lstrip("0123456789")) - 2
        name, *args = json.loads(packet[2 + digits:])
        with self.lock:
            self.calls.append((name, args))
            reply = getattr(self, "on_" + name)(*args)
        self.send("43" + packet[2:2 + digits] + json.dumps([reply]))

    def on_needSetup(self):
        return self.user is None

    def on_setup(self, user, password):
        self.user = (user, password)
        return {"ok": True}

    def on_login(self, data):
        if (data["username"], data["password"]) != self.user:
            return {"ok": False, "msg": "Incorrect username or password."}
        self.logged_in = True
        self.emit("monitorList", self.monitors)
        self.emit("notificationList", self.notifications)
        return {"ok": True}

    def on_addNotification(self, config, there):
        if there is None:
            there = len(self.notifications) + 1
            self.notifications.append({"id": there, "name": config["name"]})
        self.notifications[there - 1]["config"] = json.dumps(config)
        return {"ok": self.logged_in, "id": there}

    def on_add(self, monitor):
        for column in self.missing:
            if column in monitor:
                return {"ok": False, "msg": "insert into `monitor` - SQLITE_ERROR: table monitor has no column named "
                        + column}
        number = len(self.monitors) + 1
        self.monitors[str(number)] = dict({"pushToken": None, "authMethod": None, "basic_auth_user": None,
                                          "basic_auth_pass": None}, **dict(monitor, id=number))
        return {"ok": self.logged_in, "monitorID": number}

    def on_editMonitor(self, monitor):
        self.monitors[str(monitor["id"])] = monitor
        return {"ok": self.logged_in}
