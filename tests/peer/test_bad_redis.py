"""A scripted peer in the place of a Redis server: what real servers never do.

In each case a good queue works beside the bad one, the status names the
trouble, and nothing is delivered from garbage.
"""
import os
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from rig import wait_for  # noqa: E402


class Peer:
    """Accepts; answers each command by script(connection, argv) -> bytes, or
    None to say nothing, or raises EOFError to hang up."""

    def __init__(self, script, tls=None, greeting=b""):
        self.script, self.tls, self.greeting = script, tls, greeting
        self.accepted = 0
        self.commands = []
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(32)
        self.port = self.sock.getsockname()[1]
        self.open = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            self.accepted += 1
            self.open.append(c)
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        try:
            if self.tls:
                c = self.tls.wrap_socket(c, server_side=True)
                self.open.append(c)
            f = c.makefile("rwb")
            if self.greeting:
                f.write(self.greeting)
                f.flush()
            while True:
                argv = rig.resp_read(f)
                self.commands.append(argv)
                answer = self.script(argv)
                if answer is None:
                    continue
                f.write(answer)
                f.flush()
        except (OSError, EOFError, ValueError, rig.RedisError):
            pass
        finally:
            c.close()

    def close(self):
        self.sock.close()
        for c in self.open:
            try:
                c.close()
            except OSError:
                pass


def polite(argv, entries=None):
    """Enough of a Redis for the handshake, and an empty stream."""
    name = argv[0].upper()
    if name in (b"AUTH", b"SELECT", b"CLIENT", b"XGROUP"):
        return b"+OK\r\n"
    if name == b"PING":
        return b"+PONG\r\n"
    if name == b"SCRIPT":
        return b"$40\r\n" + b"0" * 40 + b"\r\n"
    if name == b"INFO":
        body = b"# Server\r\nredis_version:7.0.15\r\n"
        return b"$%d\r\n%s\r\n" % (len(body), body)
    if name in (b"XREADGROUP", b"XAUTOCLAIM", b"XRANGE", b"XPENDING"):
        return entries if entries and name == b"XREADGROUP" else b"*-1\r\n"
    return b"*0\r\n"


def bad(r, script, expect=None, tls=False, keys="", greeting=b"", kinds=None):
    """Runs the daemon with the bad peer beside a good server."""
    r.expect_log("bad|good")
    cert = r.certificate() if tls else None
    peer = Peer(script, cert.server_context() if tls else None, greeting)
    redis = r.redis()
    text = """
[Pool work]
Module={build}/tests/bench/noop_module.so
[Queue good]
Type=redis
Address=%s
Key=jobs
[Queue bad]
Type=redis
Address=127.0.0.1:%d
Key=jobs
ResponseTimeout=300ms
ConnectTimeout=500ms
%s
""" % (redis.socket, peer.port, keys)
    if tls:
        text += "TLS=yes\nTLSCAFile=%s\n" % cert.ca
    d = r.daemon(text, wait="status")
    try:
        redis.pipeline([("XADD", "jobs", "*", "body", "x%d" % i) for i in range(500)])
        d.wait_queue("good", done=500)
        seen = []

        def named():
            q = d.queue("bad")
            e = q.get("error")
            if e and e["code"] != "connecting" and e not in seen:
                seen.append(e)
            return not q["connected"] and any(expect.lower() in e["code"].lower() + " " + (e["class"] + " " + e["text"]).lower() for e in seen)
        try:
            wait_for("the status to name it", named)
        except AssertionError as e:
            raise AssertionError("%s: %s" % (e, seen))
        assert d.queue("bad")["received"] == 0
        before = peer.accepted
        wait_for("it to try again", lambda: peer.accepted > before)
        wait_for("degraded", lambda: d.status()["status"] == "degraded")
        assert d.get("/.well-known/engine-status")[0] == 200
        redis.pipeline([("XADD", "jobs", "*", "body", "y")])
        d.wait_queue("good", done=501)
        assert d.rss_kib() < 200 * 1024
        d.stop()
    finally:
        peer.close()
    return seen


def test_garbage_for_an_answer(r):
    bad(r, lambda argv: b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol")


def test_garbage_before_anything_was_asked(r):
    bad(r, polite, "protocol", greeting=b"\x00\x01\x02\xff\xfe220 smtp ready\r\n")


def test_half_an_answer_and_silence(r):
    bad(r, lambda argv: b"$100\r\nabc", "time")


def test_half_an_answer_and_the_end(r):
    def script(argv):
        raise EOFError
    bad(r, script, "transient")


def test_announces_a_huge_string(r):
    # What was announced costs nothing; that it does not come is noticed.
    bad(r, lambda argv: b"$9999999999\r\n", "time")


def test_announces_a_huge_array(r):
    bad(r, lambda argv: b"*2147483647\r\n", "protocol")


def test_nests_deeply(r):
    bad(r, lambda argv: b"*1\r\n" * 100000, "protocol")


def test_a_negative_length(r):
    bad(r, lambda argv: b"$-7\r\nabc\r\n", "protocol")


def test_refuses_every_command(r):
    bad(r, lambda argv: b"-ERR go away\r\n", "go away")


def test_no_permission_is_named(r):
    bad(r, lambda argv: b"-NOPERM this user has no permissions\r\n", "auth")


def test_loading_is_named(r):
    bad(r, lambda argv: b"-LOADING Redis is loading the dataset in memory\r\n", "LOADING")


def test_a_cluster_is_named(r):
    def script(argv):
        return b"-MOVED 3999 127.0.0.1:6381\r\n" if argv[0].upper() in (b"XGROUP", b"EVALSHA", b"EVAL", b"XREADGROUP") \
            else polite(argv)
    bad(r, script, "MOVED")


def test_silent_at_every_step_of_the_handshake(r):
    """Answers the first n commands and then never again."""
    for n in range(0, 4):
        count = {}

        def script(argv):
            me = threading.get_ident()
            count[me] = count.get(me, 0) + 1
            return polite(argv) if count[me] <= n else None
        sub = rig.Rig("silent%d" % n)
        failed = True
        try:
            bad(sub, script, "time")
            failed = False
        finally:
            sub.close(failed)


def test_tls_peer_that_speaks_no_tls(r):
    cert = r.certificate()
    bad(r, polite, "tls", keys="TLS=yes\nTLSCAFile=%s\n" % cert.ca, greeting=b"-ERR plain text here\r\n")


def test_tls_certificate_of_another_ca(r):
    other = os.path.join(r.dir, "other")
    os.makedirs(other)
    ca = rig.Certificate(other)
    r.certificate()
    peer_cert = r.certificate()
    assert peer_cert.ca != ca.ca
    r.expect_log("bad|good")
    peer = Peer(polite, peer_cert.server_context())
    d = r.daemon("""
[Pool work]
Module={build}/tests/bench/noop_module.so
[Queue bad]
Type=redis
Address=127.0.0.1:%d
Key=jobs
TLS=yes
TLSCAFile=%s
""" % (peer.port, ca.ca), wait="status")
    wait_for("the refusal to be named", lambda: "tls_verify" in str(d.queue("bad").get("error")))
    error = d.queue("bad")["error"]
    assert error["class"] == "auth" and "127.0.0.1" in error["text"], error
    assert peer.commands == [], "it spoke to a peer that it does not trust"
    peer.close()


def test_tls_that_stops_in_the_handshake(r):
    """Accepts TCP and never answers the hello."""
    cert = r.certificate()
    kept = []

    class Mute(Peer):
        def serve(self, c):
            kept.append(c)
    r.expect_log("bad")
    peer = Mute(polite)
    d = r.daemon("""
[Pool work]
Module={build}/tests/bench/noop_module.so
[Queue bad]
Type=redis
Address=localhost:%d
Key=jobs
TLS=yes
TLSCAFile=%s
ConnectTimeout=300ms
ResponseTimeout=300ms
""" % (peer.port, cert.ca), wait="status")
    wait_for("the time-out to be named", lambda: "time" in str(d.queue("bad").get("error")), 30)
    peer.close()


if __name__ == "__main__":
    rig.main(globals())
