"""sigv4.py - checks signatures of AWS, version 4, in headers.

Independent of daemon/codec/sigv4.c on purpose.  "python3 sigv4.py FOLDER" runs
it over the official vectors (tests/vectors/sigv4).
"""
import calendar
import hashlib
import hmac
import json
import os
import re
import sys
import time
import urllib.parse

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = 300                      # seconds that AWS tolerates


class Refused(Exception):
    """What AWS would say: (name, text)."""

    def __init__(self, name, text):
        super().__init__("%s: %s" % (name, text))
        self.name, self.text = name, text


def hmac_sha256(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signing_key(secret, date, region, service):
    k = hmac_sha256(("AWS4" + secret).encode(), date)
    for part in (region, service, "aws4_request"):
        k = hmac_sha256(k, part)
    return k


def canonical_query(query):
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    quoted = sorted((urllib.parse.quote(k, "-_.~"), urllib.parse.quote(v, "-_.~")) for k, v in pairs)
    return "&".join("%s=%s" % p for p in quoted)


def canonical_request(method, path, query, headers, signed, body):
    """headers: (name, value) in order; signed: lower-case names."""
    lines = []
    for name in signed:
        values = [" ".join(v.split()) for k, v in headers if k.lower() == name]
        lines.append("%s:%s\n" % (name, ",".join(values)))
    return "\n".join((method, path, canonical_query(query), "".join(lines), ";".join(signed),
                      hashlib.sha256(body).hexdigest()))


def string_to_sign(request, date, scope):
    return "\n".join((ALGORITHM, date, scope, hashlib.sha256(request.encode()).hexdigest()))


def seconds_of(date):
    return calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ"))


def parse(authorization):
    """(access key, [date, region, service, "aws4_request"], signed, signature)"""
    m = re.match(r"AWS4-HMAC-SHA256 +Credential=([^/,]+)/([^,]+), *SignedHeaders=([^,]+), *Signature=([0-9a-f]{64})$",
                 authorization)
    if not m:
        raise Refused("IncompleteSignature", "Authorization header is malformed")
    return m.group(1), m.group(2).split("/"), m.group(3).split(";"), m.group(4)


def verify(method, target, headers, body, keys, region, service, now, skewed="SignatureDoesNotMatch"):
    """The access key that signed it, or Refused.  keys: access key to an object
    with secret, token (or None) and expires (seconds, or None); skewed: the
    name that a wrong clock gets."""
    by_name = {k.lower(): v for k, v in headers}
    if "authorization" not in by_name:
        raise Refused("MissingAuthenticationToken", "Request is missing Authentication Token")
    access, scope, signed, signature = parse(by_name["authorization"])
    date = by_name.get("x-amz-date", "")
    if not re.match(r"\d{8}T\d{6}Z$", date):
        raise Refused("IncompleteSignature", "Date is missing")
    if len(scope) != 4 or scope[0] != date[:8] or scope[1] != region or scope[2] != service or \
            scope[3] != "aws4_request":
        raise Refused("SignatureDoesNotMatch", "Credential should be scoped to a valid region and service: %s" %
                      "/".join(scope))
    must = {"host"} | {k for k in by_name if k.startswith("x-amz-") and k != "x-amz-content-sha256"}
    if signed != sorted(signed) or not must <= set(signed):
        raise Refused("SignatureDoesNotMatch", "These headers must be signed: %s" % ", ".join(sorted(
            must - set(signed))))
    if access not in keys:
        raise Refused("InvalidClientTokenId", "The security token included in the request is invalid.")
    k = keys[access]
    if abs(seconds_of(date) - now) > SKEW:
        raise Refused(skewed, "Signature %s: %s is now %s than the server's %s" % (
            ("expired", date, "earlier", int(now)) if seconds_of(date) < now else
            ("not yet current", date, "later", int(now))))
    path, _, query = target.partition("?")
    text = string_to_sign(canonical_request(method, path, query, headers, signed, body), date, "/".join(scope))
    want = hmac_sha256(signing_key(k.secret, date[:8], region, service), text).hex()
    if not hmac.compare_digest(want, signature):
        raise Refused("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you "
                      "provided. Check your AWS Secret Access Key and signing method.")
    if by_name.get("x-amz-security-token") != k.token:
        raise Refused("InvalidClientTokenId", "The security token included in the request is invalid.")
    if k.expires is not None and now >= k.expires:
        raise Refused("ExpiredToken", "The security token included in the request is expired")
    return access


def vectors(folder):
    """How many of the official cases that concern us verify; all of them must."""
    class Key:
        expires = None
    good = 0
    for case in sorted(os.listdir(folder)):
        def text(name):
            with open(os.path.join(folder, case, name), encoding="utf-8", newline="") as f:
                return f.read()
        if not os.path.isdir(os.path.join(folder, case)):
            continue
        context = json.loads(text("context.json"))
        head, _, body = text("header-signed-request.txt").replace("\r\n", "\n").partition("\n\n")
        first, *rest = re.sub(r"\n[ \t]+", " ", head).split("\n")
        method, target = first.rpartition(" HTTP")[0].split(" ", 1)
        # SQS and STS have no path but /, and want the token signed.
        if target.partition("?")[0] != "/" or context.get("omit_session_token"):
            continue
        key = Key()
        key.secret, key.token = context["credentials"]["secret_access_key"], context["credentials"].get("token")
        verify(method, target, [tuple(h.split(":", 1)) for h in rest if h], body.encode(),
               {context["credentials"]["access_key_id"]: key}, context["region"], context["service"],
               seconds_of(re.sub("[-:]", "", context["timestamp"])))
        good += 1
    return good


if __name__ == "__main__":
    print("%d verified" % vectors(sys.argv[1]))
