"""google_peer.py - a scripted Google beside Pub/Sub, at one port of plain HTTP:
the metadata server, the OAuth token endpoint and Cloud Monitoring; and the
credential files that lead there.

    google = GooglePeer()
    env = google.metadata_env()
    path = google.user_file(r)                  # authorized_user
    path = google.service_file(r)               # service_account, a throwaway key
    google.rule("*/token", reply(503), times=2)
    google.backlog["num_undelivered_messages"] = (12, 90)   # value, age in s

Every secret has "s3cr3t" in it but those that must be in a form of their own:
keys in PEM, and JWTs.
"""
import base64
import fnmatch
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import time
import urllib.parse

from aws_peer import HttpPeer, Reply, half
from rules import Rules

AUDIENCE = "https://pubsub.googleapis.com/"
MONITORING_AUDIENCE = "https://monitoring.googleapis.com/"
TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"
PROJECT_ID = "/computeMetadata/v1/project/project-id"
# EMSA-PKCS1-v1_5 of SHA-256, RFC 8017 9.2.
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


# ---- what a rule can do: action(request, go) -> Reply ----

def reply(status, body=b"", headers=None):
    return lambda request, go: Reply(status, body, headers)


def refusal(status, name, text="because the test says so", reason=None):
    """As Google's JSON APIs refuse; reason: of an ErrorInfo."""
    error = {"code": status, "message": text, "status": name}
    if reason:
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason,
                             "domain": "googleapis.com"}]
    return reply(status, {"error": error}, {"Content-Type": "application/json; charset=UTF-8"})


def grant_refused(name="invalid_grant", text="Token has been expired or revoked."):
    """As the OAuth token endpoint refuses."""
    return reply(400, {"error": name, "error_description": text}, {"Content-Type": "application/json"})


def never():
    return half("silence", 0, False)


def clean_env(**more):
    """No Google settings and no proxies but these."""
    env = {k: "" for k in os.environ if k.upper().startswith(("GOOGLE_", "CLOUDSDK_", "GCE_", "GCLOUD_", "PUBSUB_")) or
           k.upper().endswith("_PROXY")}
    env.update(HOME="/nonexistent", NO_GCE_CHECK="true")
    env.update(more)
    return env


def _unbase64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Key:
    """An RSA key by openssl(1)."""

    def __init__(self, directory, name="google-key.pem"):
        path = os.path.join(directory, name)
        self.run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path)
        with open(path) as f:
            self.pem = f.read()
        text = self.run("rsa", "-in", path, "-noout", "-modulus")
        self.n = int(text.strip().partition("=")[2], 16)

    @staticmethod
    def run(*argv):
        return subprocess.run(("openssl",) + argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              universal_newlines=True).stdout

    def verifies(self, data, signature):
        size = (self.n.bit_length() + 7) // 8
        padded = pow(int.from_bytes(signature, "big"), 65537, self.n).to_bytes(size, "big")
        end = SHA256_INFO + hashlib.sha256(data).digest()
        return padded == b"\0\1" + b"\xff" * (size - 3 - len(end)) + b"\0" + end


class GooglePeer(HttpPeer):
    """lifetime: of the tokens, in seconds.  authorize(bearer) knows those, and
    the JWTs of its service accounts; what was refused is in refused."""
    CLIENT_SECRET = "GO-s3cr3t-client"
    REFRESH = "1//s3cr3t-refresh"

    def __init__(self, project="p1", lifetime=3600):
        self.project, self.lifetime = project, lifetime
        self.numbers = itertools.count(1)
        self.tokens = {}                # token: when it ends
        self.issued = []                # in order
        self.accounts = {}              # e-mail address: (key, key id)
        self.revoked = set()            # tokens, and addresses of accounts
        self.seen = []                  # bearers that were accepted, in order
        self.refused = []               # (bearer, why)
        self.complaints = []
        # metric: (value, age of the sample in seconds); absent: no sample
        self.backlog = {}
        super().__init__()
        self.rules = Rules(self.lock)
        self.host = "127.0.0.1:%d" % self.port
        self.url = "http://" + self.host

    def rule(self, path, action, **kw):
        """path: a pattern, without the query."""
        return self.rules.add(path, action, **kw)

    # ---- credentials ----

    def metadata_env(self, **more):
        return clean_env(**dict({"NO_GCE_CHECK": "", "GCE_METADATA_HOST": self.host}, **more))

    def user_file(self, r, name="user.json", refresh=None, **more):
        return r.write(name, json.dumps(dict({
            "type": "authorized_user", "client_id": "c.apps.googleusercontent.com", "client_secret": self.CLIENT_SECRET,
            "refresh_token": refresh or self.REFRESH, "token_uri": self.url + "/token"}, **more)), 0o600)

    def service_file(self, r, email="jobs@p1.iam.gserviceaccount.com", name="service.json", known=True, **more):
        """known: its signatures are accepted here."""
        if not shutil.which("openssl"):
            import rig
            raise rig.Skip("openssl(1) is not installed")
        key = Key(r.dir, name + ".pem")
        if known:
            self.accounts[email] = (key, "k1")
        return r.write(name, json.dumps(dict({
            "type": "service_account", "project_id": self.project, "private_key_id": "k1", "private_key": key.pem,
            "client_email": email, "client_id": "1", "token_uri": self.url + "/token"}, **more)), 0o600)

    # ---- who may what ----

    def issue(self, lifetime=None):
        t = "ya29.s3cr3t-%d-%s" % (next(self.numbers), "x" * 100)
        lifetime = self.lifetime if lifetime is None else lifetime
        self.tokens[t] = time.time() + lifetime
        self.issued.append(t)
        return {"access_token": t, "expires_in": lifetime, "token_type": "Bearer"}

    def revoke_all(self):
        """What was given out so far is good no longer, before its time."""
        with self.lock:
            self.revoked.update(self.issued)

    def authorize(self, bearer, audience=AUDIENCE):
        with self.lock:
            why = self.why_not(bearer, audience)
            if why:
                self.refused.append((bearer, why))
            else:
                self.seen.append(bearer)
            return not why

    def why_not(self, bearer, audience):
        if bearer in self.revoked:
            return "revoked"
        if bearer in self.tokens:
            return "ended" if self.tokens[bearer] < time.time() else None
        parts = bearer.split(".")
        if len(parts) != 3:
            return "unknown"
        head, claims = (json.loads(_unbase64(x)) for x in parts[:2])
        key, kid = self.accounts.get(claims.get("iss"), (None, None))
        if key is None or claims["iss"] in self.revoked:
            return "no such account"
        if head.get("alg") != "RS256" or head.get("kid") != kid or claims.get("sub") != claims["iss"]:
            return "a JWT that is no good: %s %s" % (head, claims)
        if claims.get("aud") != audience:
            return "for %s" % claims.get("aud")
        if not claims["iat"] - 60 <= time.time() < claims["exp"] or claims["exp"] - claims["iat"] > 3600:
            return "from %s to %s" % (claims["iat"], claims["exp"])
        if not key.verifies(".".join(parts[:2]).encode(), _unbase64(parts[2])):
            return "a wrong signature"
        return None

    # ---- answers ----

    def answer(self, request):
        path = request.path.partition("?")[0]
        rule = self.rules.find(path, request)
        if rule:
            return rule.action(request, lambda: self.properly(request, path))
        return self.properly(request, path)

    def properly(self, request, path):
        if path.startswith("/computeMetadata/"):
            return self.metadata(request, path)
        if path == "/token" and request.method == "POST":
            return self.oauth(dict(urllib.parse.parse_qsl(request.raw.decode())))
        if fnmatch.fnmatchcase(path, "/v3/projects/*/timeSeries") and request.method == "GET":
            return self.monitoring(request, path)
        self.complaints.append("%s %s" % (request.method, request.path))
        return Reply(404)

    def metadata(self, request, path):
        if request.by_name.get("metadata-flavor") != "Google":
            self.complaints.append("metadata is asked without Metadata-Flavor")
            return Reply(403)
        flavor = {"Metadata-Flavor": "Google"}
        if path == TOKEN:
            return Reply(200, self.issue(), flavor)
        if path == PROJECT_ID:
            return Reply(200, self.project, flavor)
        return Reply(404, b"", flavor)

    def oauth(self, form):
        want = {"grant_type": "refresh_token", "client_id": "c.apps.googleusercontent.com",
                "client_secret": self.CLIENT_SECRET, "refresh_token": self.REFRESH}
        wrong = [k for k, v in want.items() if form.get(k) != v]
        if wrong:
            return Reply(400, {"error": "invalid_grant", "error_description": "Bad %s" % ", ".join(wrong)})
        return Reply(200, self.issue())

    def monitoring(self, request, path):
        query = dict(urllib.parse.parse_qsl(request.path.partition("?")[2]))
        text = query.get("filter", "")
        bearer = request.by_name.get("authorization", "")
        if not bearer.startswith("Bearer ") or not self.authorize(bearer[7:], MONITORING_AUDIENCE):
            return refusal(401, "UNAUTHENTICATED")(request, None)
        if not all(query.get("interval." + x) for x in ("startTime", "endTime")) or \
                "metric.type" not in text or "resource.labels.subscription_id" not in text:
            self.complaints.append("timeSeries is asked with %s" % query)
            return refusal(400, "INVALID_ARGUMENT")(request, None)
        series = []
        for metric, (value, age) in self.backlog.items():
            if "pubsub.googleapis.com/subscription/%s\"" % metric in text:
                end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age))
                series.append({
                    "metric": {"type": "pubsub.googleapis.com/subscription/" + metric},
                    "resource": {"type": "pubsub_subscription"}, "metricKind": "GAUGE", "valueType": "INT64",
                    "points": [{"interval": {"startTime": end, "endTime": end}, "value": {"int64Value": str(value)}}]})
        return Reply(200, {"timeSeries": series} if series else {}, {"Content-Type": "application/json"})
