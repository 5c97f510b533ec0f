"""The scripted Pub/Sub itself (tests/lib/pubsub_peer.py, google_peer.py), asked by
a client of a few lines: tests must not pass because the peer does nothing.
"""
import os
import socket
import ssl
import struct
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import google_peer  # noqa: E402
import h2peer  # noqa: E402
import hpack  # noqa: E402
import protobuf  # noqa: E402
import pubsub_peer as p  # noqa: E402
import rig  # noqa: E402
from rig import wait_for  # noqa: E402

SUB = "projects/p1/subscriptions/jobs"


class Client:
    """One connection; reads until what is wanted has come."""

    def __init__(self, peer, context=None):
        s = socket.create_connection(("127.0.0.1", peer.port), 5)
        s.settimeout(5)
        self.sock = context.wrap_socket(s, server_hostname="localhost") if context else s
        self.scheme = "https" if context else "http"
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.next_id = 1
        self.frames = []                # (kind, flags, stream, payload)
        self.headers, self.data, self.ended = {}, {}, set()
        self.sock.sendall(h2peer.PREFACE + h2peer.frame(h2peer.SETTINGS))

    def start(self, method, request, end=True, service=p.SUBSCRIBER, **metadata):
        n, self.next_id = self.next_id, self.next_id + 2
        headers = [(":method", "POST"), (":scheme", self.scheme), (":path", service + method), (":authority", "x"),
                   ("te", "trailers"), ("content-type", "application/grpc")] + list(metadata.items())
        self.sock.sendall(h2peer.frame(h2peer.HEADERS, h2peer.END_HEADERS, n, self.encoder.encode(headers)))
        self.say(n, p.METHODS[service + method][0], request, end)
        return n

    def say(self, n, name, request, end=False):
        data = h2peer.message(protobuf.encode(name, request))
        for i in range(0, len(data), 16384):
            self.sock.sendall(h2peer.frame(h2peer.DATA, 0, n, data[i:i + 16384]))
        if end:
            self.sock.sendall(h2peer.frame(h2peer.DATA, h2peer.END_STREAM, n))

    def read(self, n):
        data = b""
        while len(data) < n:
            part = self.sock.recv(n - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def one(self):
        head = self.read(9)
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        payload = self.read(int.from_bytes(head[:3], "big"))
        self.frames.append((kind, flags, stream, payload))
        if kind == h2peer.HEADERS:
            self.headers.setdefault(stream, []).append({k: v for k, v, _ in self.decoder.decode(payload)})
        elif kind == h2peer.DATA:
            self.data[stream] = self.data.get(stream, b"") + payload
            for s in (0, stream) if payload else ():
                self.sock.sendall(h2peer.frame(h2peer.WINDOW_UPDATE, 0, s, struct.pack(">I", len(payload))))
        if kind in (h2peer.HEADERS, h2peer.DATA) and flags & h2peer.END_STREAM or kind == h2peer.RST_STREAM:
            self.ended.add(stream)

    def until(self, condition):
        while not condition():
            self.one()

    def messages(self, n, name):
        data, out = self.data.get(n, b""), []
        while len(data) >= 5:
            size = int.from_bytes(data[1:5], "big")
            if len(data) < 5 + size:
                break
            out.append(None if data[0] else protobuf.decode(name, data[5:5 + size]))
            data = data[5 + size:]
        return out

    def call(self, method, request, service=p.SUBSCRIBER, **metadata):
        """(grpc-status or None, response or None, trailers)"""
        n = self.start(method, request, service=service, **metadata)
        self.until(lambda: n in self.ended)
        trailers = self.headers.get(n, [{}])[-1]
        got = self.messages(n, p.METHODS[service + method][1])
        return trailers.get("grpc-status"), got[0] if got else None, trailers

    def received(self, n):
        return [m for x in self.messages(n, "StreamingPullResponse") for m in x["received_messages"]]


def stream(c, most=1000, **kw):
    return c.start("StreamingPull", {"subscription": SUB, "stream_ack_deadline_seconds": 10, "client_id": "c",
                                     "max_outstanding_messages": most}, end=False, **kw)


def with_peer(test, certificate=None, **kw):
    peer = p.PubsubPeer(certificate, **kw)
    try:
        peer.service.subscription("jobs")
        return test(peer)
    finally:
        peer.close()


def test_unary_calls():
    def test(peer):
        jobs = peer.service.subscriptions[SUB]
        c = Client(peer)
        code, got, _ = c.call("GetSubscription", {"subscription": SUB})
        assert code == "0" and got["topic"] == "projects/p1/topics/jobs-topic", got
        assert c.call("GetSubscription", {"subscription": SUB + "x"})[0] == "5"
        code, got, _ = c.call("Publish", {"topic": jobs.topic, "messages": [
            {"data": b"hello", "attributes": {"a": "b"}, "ordering_key": "k"}, {"data": b"x" * 100000}]}, p.PUBLISHER)
        assert code == "0" and len(got["message_ids"]) == 2, got
        code, got, _ = c.call("Pull", {"subscription": SUB, "max_messages": 10})
        first, second = got["received_messages"]
        assert first["message"]["data"] == b"hello" and first["message"]["attributes"] == {"a": "b"}, first
        assert first["message"]["ordering_key"] == "k" and len(second["message"]["data"]) == 100000
        assert abs(first["message"]["publish_time"]["seconds"] - time.time()) < 5
        ack = {"subscription": SUB, "ack_ids": [first["ack_id"]]}
        assert c.call("Acknowledge", ack)[0] == "0" and jobs.bodies() == ["x" * 100000]
        back = {"subscription": SUB, "ack_ids": [second["ack_id"]], "ack_deadline_seconds": 0}
        assert jobs.counts() == (0, 1) and c.call("ModifyAckDeadline", back)[0] == "0" and jobs.counts() == (1, 0)
        assert peer.complaints + peer.service.complaints == []
        assert c.call("ModifyAckDeadline", dict(back, ack_deadline_seconds=601))[0] == "3"
        assert c.call("Acknowledge", dict(ack, ack_ids=["x"] * 2501))[0] == "3"
        assert len(peer.service.complaints) == 2, peer.service.complaints
        assert [x.method for x in peer.asked()][:2] == ["GetSubscription"] * 2
    with_peer(test)


def test_streaming_pull_keeps_to_max_outstanding():
    def test(peer):
        jobs = peer.service.subscriptions[SUB]
        c = Client(peer)
        n = stream(c, most=3)
        jobs.fill(*["m%d" % i for i in range(5)])
        c.until(lambda: len(c.received(n)) == 3)
        assert jobs.counts() == (2, 3)
        a = [m["ack_id"] for m in c.received(n)]
        assert c.call("Acknowledge", {"subscription": SUB, "ack_ids": a[:1]})[0] == "0"
        c.until(lambda: len(c.received(n)) == 4)
        assert jobs.counts() == (1, 3) and [m["message"]["data"] for m in c.received(n)][3] == b"m3"
        jobs.expire()
        c.until(lambda: len(c.received(n)) == 7)
        assert c.received(n)[4]["ack_id"] != a[1]
        peer.stream().finish("ABORTED", "100 % \u00fcber")
        c.until(lambda: n in c.ended)
        t = c.headers[n][-1]
        assert t["grpc-status"] == "10" and urllib.parse.unquote(t["grpc-message"]) == "100 % \u00fcber", t
        m = stream(c)
        c.until(lambda: m in c.headers)
        c.say(m, "StreamingPullRequest", {}, end=True)
        c.until(lambda: m in c.ended)
        assert c.headers[m][-1]["grpc-status"] == "0"
        assert peer.complaints == [], peer.complaints
    with_peer(test)


def test_order_and_exactly_once():
    def test(peer):
        s = peer.service.subscription("jobs", exactly_once=True, ordered=True)
        c = Client(peer)
        n = stream(c)
        s.fill("a", "b", key="k")
        c.until(lambda: len(c.received(n)) == 2)
        assert c.messages(n, "StreamingPullResponse")[0]["subscription_properties"]["exactly_once_delivery_enabled"]
        old = [m["ack_id"] for m in c.received(n)]
        assert c.call("ModifyAckDeadline", {"subscription": SUB, "ack_ids": old[:1]})[0] == "0"
        c.until(lambda: len(c.received(n)) == 4)        # the later one too
        code, _, t = c.call("Acknowledge", {"subscription": SUB, "ack_ids": [old[0], c.received(n)[2]["ack_id"]]})
        assert code == "3" and s.bodies() == ["b"], s.bodies()
        info = details(t)
        assert info["reason"] == "EXACTLY_ONCE_ACKID_FAILURE", info
        assert info["metadata"] == {old[0]: "PERMANENT_FAILURE_INVALID_ACK_ID"}, info
        peer.rule("Acknowledge", p.fail_ids("TRANSIENT_FAILURE_X"), times=1)
        last = c.received(n)[3]["ack_id"]
        code, _, t = c.call("Acknowledge", {"subscription": SUB, "ack_ids": [last]})
        assert details(t)["metadata"] == {last: "TRANSIENT_FAILURE_X"} and s.bodies() == ["b"]
        assert c.call("Acknowledge", {"subscription": SUB, "ack_ids": [last]})[0] == "0" and s.bodies() == []
    with_peer(test)


def details(trailers):
    import base64
    b = trailers["grpc-status-details-bin"]
    s = protobuf.decode("Status", base64.b64decode(b + "=" * (-len(b) % 4)))
    return protobuf.decode("ErrorInfo", s["details"][0]["value"])


def test_bad_answers_are_as_bad_as_they_say():
    get = ("GetSubscription", {"subscription": SUB})

    def test(peer):
        def ask(action):
            rule = peer.rule("GetSubscription", action, times=1)
            c = Client(peer)
            try:
                return c.call(*get), c
            except (EOFError, ConnectionError) as e:
                return e, c
            finally:
                assert rule.hits == 1
        (code, got, _), c = ask(p.status("NOT_FOUND"))
        assert (code, got) == ("5", None) and len(c.headers[1]) == 1
        (code, got, _), c = ask(p.status("NOT_FOUND", opened=True))
        assert code == "5" and len(c.headers[1]) == 2
        _, c = ask(p.rst(h2peer.REFUSED_STREAM))
        assert c.frames[-1][0] == h2peer.RST_STREAM and c.frames[-1][3] == b"\0\0\0\7"
        e, _ = ask(p.hang_up())
        assert isinstance(e, EOFError), e
        e, _ = ask(p.hang_up(reset=True))
        assert isinstance(e, ConnectionResetError), e
        e, c = ask(p.goaway(close=True))
        assert isinstance(e, EOFError) and (h2peer.GOAWAY, 0, 0, b"\0" * 8) in c.frames
        (code, got, _), c = ask(p.goaway(refuse=False))
        assert code == "0" and (h2peer.GOAWAY, 0, 0, b"\0\0\0\1\0\0\0\0") in c.frames
        (code, got, _), c = ask(p.missing_trailers())
        assert code is None and len(c.headers[1]) == 1
        _, c = ask(p.data_first())
        assert 1 not in c.headers and c.data[1] == b"\0\0\0\0\0"
        (code, got, _), c = ask(p.drip(0.001))
        assert code == "0" and got["name"] == SUB and max(len(f[3]) for f in c.frames if f[0] == h2peer.DATA) == 1
        (code, _, _), c = ask(p.http_status(503))
        assert c.headers[1][0][":status"] == "503" and code is None
        for action, start in ((p.compressed(), b"\1"), (p.cut_message(), b"\0\0\0\0\x64")):
            (code, _, _), c = ask(action)
            assert c.data[1].startswith(start) and code == "0"
        (code, got, _), _ = ask(p.edit(lambda x: {"name": "other"}))
        assert code == "0" and got["name"] == "other"
        begin = time.monotonic()
        assert ask(p.late(0.2))[0][0] == "0" and time.monotonic() - begin >= 0.2
        try:
            peer.rule("GetSubscription", p.malformed(), times=1)
            Client(peer).call(*get)
            raise RuntimeError("it was well formed")
        except protobuf.Malformed:
            pass
        peer.rule("GetSubscription", p.oversized(), times=1)
        c = Client(peer)
        c.start(*get)
        c.until(lambda: 1 in c.data)
        assert c.data[1][:5] == b"\0\x7f\xff\xff\xff"
        peer.raw = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        c = Client(peer)
        assert c.read(12) == b"HTTP/1.1 400"
    with_peer(test)


def test_silence():
    def test(peer):
        c = Client(peer)
        assert c.call("GetSubscription", {"subscription": SUB})[0] == "0"
        ping = h2peer.frame(h2peer.PING, 0, 0, b"12345678")
        c.sock.sendall(ping)
        c.until(lambda: c.frames[-1][:2] == (h2peer.PING, h2peer.ACK))
        peer.mute_all()
        before = len(c.frames)
        c.sock.sendall(ping)
        c.start("GetSubscription", {"subscription": SUB})
        c.sock.settimeout(0.3)
        try:
            c.one()
            raise RuntimeError("it said %r" % c.frames[before:])
        except socket.timeout:
            pass
        assert Client(peer).call("GetSubscription", {"subscription": SUB})[0] == "0"
    with_peer(test)


def test_tls_and_tokens(r):
    google = google_peer.GooglePeer()
    context = r.certificate().client_context()
    context.set_alpn_protocols(["h2"])

    def test(peer):
        c = Client(peer, context)
        assert c.sock.selected_alpn_protocol() == "h2"
        q = {"subscription": SUB}
        assert c.call("GetSubscription", q)[0] == "16"
        t = google.issue()["access_token"]
        assert c.call("GetSubscription", q, authorization="Bearer " + t)[0] == "0"
        google.revoke_all()
        assert c.call("GetSubscription", q, authorization="Bearer " + t)[0] == "16"
        assert google.refused == [(t, "revoked")] and google.seen == [t]
        peer.authorize = None
        big = peer.service.subscriptions[SUB].fill(*["x" * 500000] * 3)
        n = stream(c)
        c.until(lambda: len(c.received(n)) == len(big))
    try:
        with_peer(test, r.certificate(), authorize=google.authorize)
    finally:
        google.close()


def test_a_token_endpoint_and_metadata(r):
    google = google_peer.GooglePeer()

    def get(path, data=None, **headers):
        request = urllib.request.Request(google.url + path, data, {k.replace("_", "-"): v for k, v in headers.items()})
        try:
            with urllib.request.urlopen(request, timeout=5) as x:
                return x.status, x.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()
    try:
        form = {"grant_type": "refresh_token", "client_id": "c.apps.googleusercontent.com",
                "client_secret": google.CLIENT_SECRET, "refresh_token": google.REFRESH}
        code, text = get("/token", urllib.parse.urlencode(form).encode())
        assert code == 200 and google.authorize(google.issued[0]) and google.issued[0].encode() in text
        assert get("/token", urllib.parse.urlencode(dict(form, refresh_token="x")).encode())[0] == 400
        assert get(google_peer.TOKEN)[0] == 403 and len(google.complaints) == 1
        assert get(google_peer.TOKEN, Metadata_Flavor="Google")[0] == 200
        google.rule("*/token", google_peer.reply(503), times=1)
        assert get(google_peer.TOKEN, Metadata_Flavor="Google")[0] == 503
        assert get(google_peer.TOKEN, Metadata_Flavor="Google")[0] == 200
        google.backlog["num_undelivered_messages"] = (12, 90)
        path = "/v3/projects/p1/timeSeries?" + urllib.parse.urlencode({
            "filter": 'metric.type="pubsub.googleapis.com/subscription/num_undelivered_messages" AND '
                      'resource.labels.subscription_id="jobs"', "interval.startTime": "x", "interval.endTime": "y"})
        assert get(path)[0] == 401
        code, text = get(path, Authorization="Bearer " + google.issued[-1])
        assert code == 200 and b'"int64Value": "12"' in text, text
    finally:
        google.close()


def test_signatures_are_checked(r):
    google = google_peer.GooglePeer()
    try:
        path = google.service_file(r)
        assert os.stat(path).st_mode & 0o77 == 0
        key, _ = google.accounts["jobs@p1.iam.gserviceaccount.com"]
        data = r.write("signed", "header.claims")
        signature = r.path("signature")
        key.run("dgst", "-sha256", "-sign", os.path.join(r.dir, "service.json.pem"), "-out", signature, data)
        with open(signature, "rb") as f:
            s = f.read()
        assert key.verifies(b"header.claims", s) and not key.verifies(b"header.claimz", s)
        assert not google.authorize("ya29.made-up") and not google.authorize("e30.e30.e30")
    finally:
        google.close()


if __name__ == "__main__":
    assert ssl.HAS_ALPN
    rig.main(globals(), jobs=3)
