"""h2peer.py - an HTTP/2 server whose frames are made by hand, and gRPC calls on it.

A thread reads each connection and answers what must be answered (SETTINGS,
PING, WINDOW_UPDATE); each call gets a thread of its own, which runs
Peer.on_call(call).  A test may reach into both at any time: Connection sends
any frame, right or wrong; Call speaks gRPC, or breaks off.  h2c by prior
knowledge, or TLS with ALPN h2.

Numbers: RFC 9113, and "gRPC over HTTP/2" (PROTOCOL-HTTP2.md of grpc).
"""
import base64
import collections
import os
import socket
import ssl
import struct
import threading
import time
import traceback
import urllib.parse

import hpack
from aws_peer import HttpPeer

DEADLINE = float(os.environ.get("TEST_DEADLINE", "20"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM) = range(12)
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 3, 4, 5

CODES = ("OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
         "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS "
         "UNAUTHENTICATED").split()


class Gone(Exception):
    """The call or its connection is at its end; nothing can be said any more."""


class Tls:
    """TLS that one thread may read while others write, which SSLSocket is not
    made for."""

    def __init__(self, sock, context):
        self.sock, self.lock = sock, threading.Lock()
        self.inside, self.outside = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.obj = context.wrap_bio(self.inside, self.outside, server_side=True)
        while True:
            try:
                self.obj.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self.feed(sock.recv(65536))
        self.flush()

    def flush(self):
        if self.outside.pending:
            self.sock.sendall(self.outside.read())

    def feed(self, data):
        if not data:
            raise EOFError
        self.inside.write(data)

    def recv(self, n):
        while True:
            with self.lock:
                try:
                    return self.obj.read(n)
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    return b""
            data = self.sock.recv(65536)
            if not data:
                return b""
            with self.lock:
                self.feed(data)

    def sendall(self, data):
        with self.lock:
            self.obj.write(data)
            self.flush()


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    """length: what it claims to have, when that is to be wrong."""
    n = len(payload) if length is None else length
    return struct.pack(">BHBBI", n >> 16, n & 0xffff, kind, flags, stream) + payload


def message(payload, compressed=False, length=None):
    """A gRPC message with its prefix."""
    return struct.pack(">BI", int(compressed), len(payload) if length is None else length) + payload


class Connection:
    """cond guards all that is not the reader's own."""

    def __init__(self, peer, n, sock):
        self.peer, self.n, self.sock = peer, n, sock
        self.cond = threading.Condition()
        self.out = threading.Lock()     # a frame at a time; also the encoder's
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.calls = {}
        self.last_id = 0
        self.window, self.initial_window, self.max_frame = 65535, 65535, 16384
        self.settings = {}              # that it sent
        self.goaway_got = None          # (last id, code)
        self.went_away = None           # GOAWAY was sent: calls above are not seen
        self.pings = 0                  # that it sent
        self.mute = False               # nothing is said, what comes is not looked at
        self.ended = False
        self.io = sock

    # ---- saying ----

    def write(self, data):
        with self.out:
            self.write_locked(data)

    def write_locked(self, data):
        if self.ended:
            raise Gone
        if self.mute:
            return
        try:
            self.io.sendall(data)
        except (OSError, ValueError):
            raise Gone from None

    def frame(self, *args, **kw):
        self.write(frame(*args, **kw))

    def headers(self, stream, headers, end=False):
        """The block's order on the wire is that of the encoder's table."""
        with self.out:
            self.write_locked(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream,
                                    self.encoder.encode(headers)))

    def send_settings(self, **settings):
        names = {"max_streams": MAX_CONCURRENT_STREAMS, "window": INITIAL_WINDOW_SIZE, "max_frame": MAX_FRAME_SIZE}
        self.frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", names[k], v) for k, v in settings.items()))

    def ping(self, data=b"ping peer"[:8]):
        self.frame(PING, 0, 0, data)

    def goaway(self, code=NO_ERROR, last=None, debug=b""):
        """last: the greatest call that is still worked on; None: all so far."""
        with self.cond:
            last = self.last_id if last is None else last
            self.went_away = last
        self.frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + debug)

    def close(self, reset=False):
        try:
            if reset:
                # No FIN: the reader wakes up and closes it, which is the RST.
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.sock.shutdown(socket.SHUT_RD)
            else:
                self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    # ---- hearing ----

    def run(self):
        try:
            if self.peer.tls:
                self.io = Tls(self.sock, self.peer.tls)
            if self.peer.raw is not None:
                self.write(self.peer.raw)
                if self.peer.raw_then == "close":
                    return
                self.mute = True
            elif not self.mute:
                if self.peer.settings is not None:
                    self.send_settings(**self.peer.settings)
                if self.peer.window:
                    self.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self.peer.window))
                if self.read(len(PREFACE)) != PREFACE:
                    self.complain("no preface")
                    return
            self.loop()
        except (OSError, EOFError, ValueError, Gone):
            pass
        except hpack.Error as e:
            self.complain(str(e))
        finally:
            self.finish()

    def read(self, n):
        parts = []
        while n:
            data = self.io.recv(min(n, 1 << 20))
            if not data:
                raise EOFError
            parts.append(data)
            n -= len(data)
        return b"".join(parts)

    def loop(self):
        block = None
        while True:
            if self.mute:
                if not self.io.recv(65536):
                    return
                continue
            head = self.read(9)
            n = int.from_bytes(head[:3], "big")
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big") & 0x7fffffff
            if n > 16384:
                self.complain("a frame of %d bytes" % n)
                return
            payload = self.read(n)
            if self.mute:
                continue
            if block and kind != CONTINUATION:
                self.complain("frame %d inside a header block" % kind)
                return
            if kind in (HEADERS, CONTINUATION):
                if kind == HEADERS:
                    pad = payload[0] if flags & PADDED else 0
                    payload = payload[flags & PADDED and 1:len(payload) - pad]
                    payload = payload[5:] if flags & WITH_PRIORITY else payload
                    block = [stream, bool(flags & END_STREAM), payload]
                else:
                    block[2] += payload
                if flags & END_HEADERS:
                    self.on_headers(*block)
                    block = None
            else:
                self.on_frame(kind, flags, stream, payload)

    def on_headers(self, stream, end, block):
        headers = self.decoder.decode(block)
        with self.cond:
            if stream <= self.last_id or stream % 2 == 0:
                self.complain("the call %d after %d" % (stream, self.last_id))
                return
            if self.went_away is not None and stream > self.went_away:
                return                  # as if it had never been heard
            self.last_id = stream
            call = self.calls[stream] = Call(self, stream, headers)
        self.peer.begin(call)
        if end:
            call.take(b"", True)

    def on_frame(self, kind, flags, stream, payload):
        call = self.calls.get(stream)
        if kind == DATA:
            pad = payload[0] if flags & PADDED else 0
            data = payload[flags & PADDED and 1:len(payload) - pad]
            if payload and not self.peer.hold_window:
                self.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload)))
                if not flags & END_STREAM and call:
                    self.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", len(payload)))
            if call:
                call.take(data, bool(flags & END_STREAM))
        elif kind == RST_STREAM and call:
            call.cut(struct.unpack(">I", payload)[0])
        elif kind == SETTINGS and not flags & ACK:
            with self.cond:
                for i in range(0, len(payload), 6):
                    key, value = struct.unpack_from(">HI", payload, i)
                    self.settings[key] = value
                    if key == INITIAL_WINDOW_SIZE:
                        for c in self.calls.values():
                            c.window += value - self.initial_window
                        self.initial_window = value
                    elif key == MAX_FRAME_SIZE:
                        self.max_frame = value
                self.cond.notify_all()
            self.frame(SETTINGS, ACK)
        elif kind == PING and not flags & ACK:
            self.pings += 1
            if not self.peer.no_pong:
                self.frame(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            last, code = struct.unpack_from(">II", payload)
            self.goaway_got = (last, code)
            if code:
                self.complain("GOAWAY %d %r" % (code, payload[8:]))
        elif kind == WINDOW_UPDATE:
            n = struct.unpack(">I", payload)[0]
            with self.cond:
                if stream == 0:
                    self.window += n
                elif call:
                    call.window += n
                self.cond.notify_all()

    def complain(self, text):
        self.peer.complain("connection %d: %s" % (self.n, text))

    def finish(self):
        with self.cond:
            self.ended = True
            calls = list(self.calls.values())
            self.cond.notify_all()
        for c in calls:
            c.cut(None)


class Call:
    """One call.  Its thread and a test may both speak, for which say_once is."""

    def __init__(self, connection, stream, headers):
        self.connection, self.id, self.peer = connection, stream, connection.peer
        self.cond = connection.cond
        self.headers = headers
        self.metadata = {name: value for name, value, _ in headers}
        self.never_indexed = {name for name, _, never in headers if never}
        self.path = self.metadata.get(":path", "")
        self.method = self.path.rpartition("/")[2]
        self.time = time.monotonic()
        self.window = connection.initial_window
        self.buffer = b""
        self.messages = collections.deque()     # not yet taken by receive()
        self.all = []                           # every message, as bytes
        self.half_closed = None                 # when
        self.half_closes = 0
        self.reset = None                       # the code of their RST_STREAM
        self.dead = False                       # cut off, or finished by us
        self.opened = False                     # HEADERS are sent
        self.status = None                      # the code that was sent
        self.requests = []                      # decoded, by who can

    def __repr__(self):
        return "<%.3f #%d/%d %s %s %s>" % (self.time, self.connection.n, self.id, self.method, self.requests[:3],
                                          self.status)

    # ---- what the connection's thread tells ----

    def take(self, data, end):
        with self.cond:
            self.buffer += data
            while len(self.buffer) >= 5:
                flag, n = struct.unpack_from(">BI", self.buffer)
                if flag:
                    self.connection.complain("a compressed message in %s" % self.path)
                if len(self.buffer) < 5 + n:
                    break
                body, self.buffer = self.buffer[5:5 + n], self.buffer[5 + n:]
                self.messages.append(body)
                self.all.append(body)
            if end:
                self.half_closes += 1
                self.half_closed = time.monotonic()
                if self.buffer:
                    self.connection.complain("half a message in %s" % self.path)
            self.cond.notify_all()

    def cut(self, code):
        with self.cond:
            self.dead = True
            if code is not None:
                self.reset = code
            self.cond.notify_all()

    # ---- hearing ----

    @property
    def alive(self):
        return not (self.dead or self.connection.ended or self.peer.closing.is_set())

    def receive(self, timeout=DEADLINE):
        """The next message; None: half closed, or nothing came in time."""
        end = time.monotonic() + timeout
        with self.cond:
            while True:
                if self.messages:
                    return self.messages.popleft()
                if self.half_closed:
                    return None
                if not self.alive:
                    raise Gone
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self.cond.wait(min(left, 0.2))

    def sleep(self, seconds):
        """True while the call lives."""
        end = time.monotonic() + seconds
        with self.cond:
            while self.alive and time.monotonic() < end:
                self.cond.wait(max(min(end - time.monotonic(), 0.2), 0))
        return self.alive

    def park(self):
        """Until the call or its connection ends."""
        while self.sleep(1):
            pass

    # ---- saying ----

    def open(self, *more):
        with self.cond:
            if self.opened:
                return
            self.opened = True
        self.connection.headers(self.id, [(":status", "200"), ("content-type", "application/grpc")] + list(more))

    def data(self, data, end=False):
        """As windows allow."""
        at = 0
        while True:
            with self.cond:
                while True:
                    if not self.alive:
                        raise Gone
                    n = min(len(data) - at, self.window, self.connection.window, self.connection.max_frame)
                    if n > 0 or at == len(data):
                        break
                    self.cond.wait(0.2)
                self.window -= n
                self.connection.window -= n
            last = at + n == len(data)
            self.connection.frame(DATA, END_STREAM if end and last else 0, self.id, data[at:at + n])
            at += n
            if last:
                break
        if end:
            self.over()

    def send(self, payload):
        self.open()
        self.data(message(payload))

    def drip(self, data, seconds, step=1):
        """So many bytes at a time, each in a frame of its own."""
        self.open()
        for i in range(0, len(data), step):
            self.data(data[i:i + step])
            if not self.sleep(seconds):
                raise Gone

    def finish(self, code="OK", text="", details=None):
        """The status; trailers-only when nothing was said.  details: bytes of a
        google.rpc.Status."""
        with self.cond:
            if not self.alive or self.status is not None:
                raise Gone
            self.status = code
            alone, self.opened = not self.opened, True
        number = CODES.index(code) if code in CODES else code
        out = [(":status", "200"), ("content-type", "application/grpc")] if alone else []
        out.append(("grpc-status", str(number)))
        if text:
            out.append(("grpc-message", urllib.parse.quote(text, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")))
        if details:
            out.append(("grpc-status-details-bin", base64.b64encode(details).decode().rstrip("=")))
        self.connection.headers(self.id, out, end=True)
        self.over()

    def rst(self, code):
        self.connection.frame(RST_STREAM, 0, self.id, struct.pack(">I", code))
        self.over()

    def over(self):
        """Said to its end; what still comes of it is dropped."""
        with self.cond:
            self.dead = True
            self.connection.calls.pop(self.id, None)
            self.cond.notify_all()


class H2Peer(HttpPeer):
    """on_call(call) is the server; a call that it leaves open stays open.

    settings, window: of new connections (None: no SETTINGS at all).  raw: said
    instead of HTTP/2, raw_then "close" or None (kept open and silent).
    muted: new connections never say a byte.
    """

    def __init__(self, certificate=None, context=None, alpn=("h2",)):
        self.settings = {"max_streams": 100}
        self.window = 0
        self.raw = self.raw_then = None
        self.muted = self.no_pong = self.hold_window = False
        self.complaints = []
        self.calls = []
        self.all_connections = []
        if context is None and certificate:
            context = certificate.server_context()
            if alpn:
                context.set_alpn_protocols(list(alpn))
        super().__init__(None, context)

    def complain(self, text):
        with self.lock:
            self.complaints.append(text)

    def serve(self, n, sock):
        sock.settimeout(DEADLINE * 30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        c = Connection(self, n, sock)
        c.mute = self.muted
        with self.lock:
            self.all_connections.append(c)
        try:
            c.run()
        finally:
            with self.lock:
                self.open.pop(n, None)
            sock.close()

    def begin(self, call):
        with self.lock:
            self.calls.append(call)
        threading.Thread(target=self.work, args=(call,), daemon=True).start()

    def work(self, call):
        try:
            self.on_call(call)
        except Gone:
            pass
        except Exception:
            # A test must see it.
            self.complain("%s: %s" % (call.path, traceback.format_exc()))

    def on_call(self, call):
        call.finish("UNIMPLEMENTED")

    # ---- for tests ----

    def connections_now(self):
        with self.lock:
            return [c for c in self.all_connections if not c.ended]

    def mute_all(self):
        """The open connections die without a byte, as behind a lost route; new
        ones are fine."""
        for c in self.connections_now():
            c.mute = True

    def goaway_all(self, **kw):
        for c in self.connections_now():
            try:
                c.goaway(**kw)
            except Gone:
                pass

    def called(self, method=None):
        with self.lock:
            return [c for c in self.calls if method is None or c.method == method]
