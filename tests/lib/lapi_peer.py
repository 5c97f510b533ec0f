"""lapi_peer.py - a scripted local API of CrowdSec on loopback: decisions for bouncers, alerts of machines.

Answers as 1.4.6 does (seen with the real one): a bouncer is told what changed since its key asked last, a deleted
decision has a negative duration, and an answer without changes has null for both lists.  Rules (rules.py) answer
otherwise.
"""
import json
import urllib.parse

from sink_peer import Peer, Reply


class Lapi(Peer):
    KEY = "s3cr3tbouncerkey0001"
    MACHINE, PASSWORD = "operator", "s3cr3t machine pw \u00e9"
    TOKEN = "s3cr3t.jwt.token.%d"

    def __init__(self):
        super().__init__()
        self.decisions = {}             # id: decision, in force
        self.changes = []               # ("new"|"deleted", decision)
        self.told = 0                   # changes that the bouncer knows
        self.next_id = 1
        self.alerts, self.logins, self.tokens = [], 0, set()

    def add(self, scope, value, duration="4h0m0s", type="ban", id=None, **more):
        with self.lock:
            id = id or self.next_id
            self.next_id = max(self.next_id, id) + 1
            d = dict({"id": id, "origin": "cscli", "type": type, "scope": scope, "value": value, "duration": duration,
                      "scenario": "manual 'ban' from 'test'"}, **more)
            self.decisions[id] = d
            self.changes.append(("new", d))
            return id

    def delete(self, id, tell=True):
        with self.lock:
            d = dict(self.decisions.pop(id), duration="-12.345678ms")
            if tell:
                self.changes.append(("deleted", d))

    def pulls(self, whole=None):
        """The questions for decisions so far; whole: only those with (or without) startup=true."""
        return [q for q in self.seen("/v1/decisions/stream") if whole in (None, "startup=true" in q.query)]

    def real(self, request):
        if request.path == "/v1/decisions/stream":
            return self.stream(request)
        if request.path == "/v1/watchers/login" and request.method == "POST":
            return self.login(request.body)
        if request.path == "/v1/alerts" and request.method == "POST":
            return self.post(request)
        return Reply(404, {"message": "Page or Method not found"})

    def stream(self, request):
        if request.headers.get("X-Api-Key") != self.KEY:
            return Reply(403, {"message": "access forbidden"})
        query = dict(urllib.parse.parse_qsl(request.query, strict_parsing=True))
        assert query["scopes"] == "ip,range,queue-sender" and query["dedup"] == "false", request.query
        new, deleted = [], []
        if query.get("startup") == "true":
            new = list(self.decisions.values())
        else:
            for kind, d in self.changes[self.told:]:
                (new if kind == "new" else deleted).append(d)
        self.told = len(self.changes)
        return Reply(200, {"deleted": deleted or None, "new": new or None})

    def login(self, body):
        if (body["machine_id"], body["password"]) != (self.MACHINE, self.PASSWORD) or not body["scenarios"]:
            return Reply(403, {"code": 403, "message": "incorrect Username or Password"})
        self.logins += 1
        token = self.TOKEN % self.logins
        self.tokens.add(token)
        return Reply(200, {"code": 200, "expire": "2099-01-01T00:00:00Z", "token": token})

    def post(self, request):
        if request.headers.get("Authorization", "")[:7] != "Bearer " or \
                request.headers["Authorization"][7:] not in self.tokens:
            return Reply(401, {"code": 401, "message": "cookie token is empty"})
        if any("scenario_hash" not in a for a in request.body):
            return Reply(500, {"message": "scenario_hash"})
        self.alerts += request.body
        return Reply(201, json.dumps([str(i) for i, _ in enumerate(request.body, len(self.alerts))]))

    def alerts_about(self, value):
        with self.lock:
            return [a for a in self.alerts if a["source"]["value"] == value]
