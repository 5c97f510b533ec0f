"""amqp.py - AMQP 0-9-1 in pure Python, for the tests.

Three layers: the codec (frames, methods, properties, field tables), Client (a
blocking connection that puts in, takes out and looks), and Server (one
connection as a broker sees it, for peers that misbehave on purpose).
Numbers are those of the AMQP 0-9-1 specification and of RabbitMQ's extensions.
"""
import collections
import contextlib
import io
import os
import socket
import struct

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"
PROTOCOL = b"AMQP\x00\x00\x09\x01"
BASIC = 60
TIMEOUT = float(os.environ.get("TEST_DEADLINE", "20"))

# name, class id, method id, arguments as TYPE:NAME
METHODS_TEXT = """
connection.start 10 10 octet:version_major octet:version_minor table:server_properties longstr:mechanisms longstr:locales
connection.start-ok 10 11 table:client_properties shortstr:mechanism longstr:response shortstr:locale
connection.secure 10 20 longstr:challenge
connection.secure-ok 10 21 longstr:response
connection.tune 10 30 short:channel_max long:frame_max short:heartbeat
connection.tune-ok 10 31 short:channel_max long:frame_max short:heartbeat
connection.open 10 40 shortstr:vhost shortstr:reserved_1 bit:reserved_2
connection.open-ok 10 41 shortstr:reserved_1
connection.close 10 50 short:reply_code shortstr:reply_text short:class_id short:method_id
connection.close-ok 10 51
connection.blocked 10 60 shortstr:reason
connection.unblocked 10 61
connection.update-secret 10 70 longstr:new_secret shortstr:reason
channel.open 20 10 shortstr:reserved_1
channel.open-ok 20 11 longstr:reserved_1
channel.flow 20 20 bit:active
channel.flow-ok 20 21 bit:active
channel.close 20 40 short:reply_code shortstr:reply_text short:class_id short:method_id
channel.close-ok 20 41
exchange.declare 40 10 short:reserved_1 shortstr:exchange shortstr:type bit:passive bit:durable bit:auto_delete bit:internal bit:nowait table:arguments
exchange.declare-ok 40 11
exchange.delete 40 20 short:reserved_1 shortstr:exchange bit:if_unused bit:nowait
exchange.delete-ok 40 21
queue.declare 50 10 short:reserved_1 shortstr:queue bit:passive bit:durable bit:exclusive bit:auto_delete bit:nowait table:arguments
queue.declare-ok 50 11 shortstr:queue long:message_count long:consumer_count
queue.bind 50 20 short:reserved_1 shortstr:queue shortstr:exchange shortstr:routing_key bit:nowait table:arguments
queue.bind-ok 50 21
queue.purge 50 30 short:reserved_1 shortstr:queue bit:nowait
queue.purge-ok 50 31 long:message_count
queue.delete 50 40 short:reserved_1 shortstr:queue bit:if_unused bit:if_empty bit:nowait
queue.delete-ok 50 41 long:message_count
basic.qos 60 10 long:prefetch_size short:prefetch_count bit:global_
basic.qos-ok 60 11
basic.consume 60 20 short:reserved_1 shortstr:queue shortstr:consumer_tag bit:no_local bit:no_ack bit:exclusive bit:nowait table:arguments
basic.consume-ok 60 21 shortstr:consumer_tag
basic.cancel 60 30 shortstr:consumer_tag bit:nowait
basic.cancel-ok 60 31 shortstr:consumer_tag
basic.publish 60 40 short:reserved_1 shortstr:exchange shortstr:routing_key bit:mandatory bit:immediate
basic.return 60 50 short:reply_code shortstr:reply_text shortstr:exchange shortstr:routing_key
basic.deliver 60 60 shortstr:consumer_tag longlong:delivery_tag bit:redelivered shortstr:exchange shortstr:routing_key
basic.get 60 70 short:reserved_1 shortstr:queue bit:no_ack
basic.get-ok 60 71 longlong:delivery_tag bit:redelivered shortstr:exchange shortstr:routing_key long:message_count
basic.get-empty 60 72 shortstr:reserved_1
basic.ack 60 80 longlong:delivery_tag bit:multiple
basic.reject 60 90 longlong:delivery_tag bit:requeue
basic.recover-async 60 100 bit:requeue
basic.recover 60 110 bit:requeue
basic.recover-ok 60 111
basic.nack 60 120 longlong:delivery_tag bit:multiple bit:requeue
tx.select 90 10
tx.select-ok 90 11
tx.commit 90 20
tx.commit-ok 90 21
tx.rollback 90 30
tx.rollback-ok 90 31
confirm.select 85 10 bit:nowait
confirm.select-ok 85 11
"""

PROPERTIES = (
    ("content_type", "shortstr"), ("content_encoding", "shortstr"), ("headers", "table"), ("delivery_mode", "octet"),
    ("priority", "octet"), ("correlation_id", "shortstr"), ("reply_to", "shortstr"), ("expiration", "shortstr"),
    ("message_id", "shortstr"), ("timestamp", "longlong"), ("type", "shortstr"), ("user_id", "shortstr"),
    ("app_id", "shortstr"), ("cluster_id", "shortstr"))

BY_NAME, BY_ID = {}, {}
for _line in METHODS_TEXT.split("\n")[1:-1]:
    _name, _class, _method, *_args = _line.split()
    _fields = [tuple(a.split(":")) for a in _args]
    BY_NAME[_name] = (int(_class), int(_method), _fields)
    BY_ID[int(_class), int(_method)] = (_name, _fields)

INTEGERS = {"octet": "B", "short": "H", "long": "I", "longlong": "Q"}
FIELD_NUMBERS = {"b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I", "l": "q", "f": "f", "d": "d", "T": "Q"}

Frame = collections.namedtuple("Frame", "type channel payload")
Message = collections.namedtuple("Message", "body properties exchange routing_key redelivered tag left")


class Typed(collections.namedtuple("Typed", "kind value")):
    """A field value whose type is chosen: Typed("s", 7) is a short int."""


class ProtocolError(Exception):
    """The peer's bytes make no sense."""


class Closed(Exception):
    """The peer closed; code and text are what it said."""

    def __init__(self, code, text):
        super().__init__("%d %s" % (code, text))
        self.code, self.text = code, text


class ConnectionClosed(Closed):
    pass


class ChannelClosed(Closed):
    """The client has opened its channel again when this is raised."""


class NotRouted(Closed):
    pass


class NotConfirmed(Exception):
    pass


# ---- values ----

def shortstr(v):
    v = v.encode() if isinstance(v, str) else bytes(v)
    return struct.pack("B", len(v)) + v


def longstr(v):
    v = v.encode() if isinstance(v, str) else bytes(v)
    return struct.pack(">I", len(v)) + v


def table(d):
    return longstr(b"".join(shortstr(k) + field(v) for k, v in (d or {}).items()))


def field(v):
    if isinstance(v, Typed):
        kind, v = v
    elif v is None:
        kind = "V"
    elif isinstance(v, bool):
        kind = "t"
    elif isinstance(v, int):
        kind = "I" if -2 ** 31 <= v < 2 ** 31 else "l"
    elif isinstance(v, float):
        kind = "d"
    elif isinstance(v, str):
        kind = "S"
    elif isinstance(v, (bytes, bytearray)):
        kind = "x"
    elif isinstance(v, dict):
        kind = "F"
    else:
        kind = "A"
    return kind.encode() + field_of(kind, v)


def field_of(kind, v):
    if kind in FIELD_NUMBERS:
        return struct.pack(">" + FIELD_NUMBERS[kind], v)
    if kind == "t":
        return struct.pack("B", bool(v))
    if kind == "D":             # (places, mantissa)
        return struct.pack(">Bi", *v)
    if kind in "Sx":
        return longstr(v)
    if kind == "F":
        return table(v)
    if kind == "A":
        return longstr(b"".join(field(x) for x in v))
    if kind == "V":
        return b""
    return bytes(v)             # of a kind that nobody knows


class Reader:
    def __init__(self, data):
        self.f = io.BytesIO(data)

    def take(self, n):
        data = self.f.read(n)
        if len(data) != n:
            raise ProtocolError("%d bytes expected, %d there" % (n, len(data)))
        return data

    def unpack(self, fmt):
        return struct.unpack(">" + fmt, self.take(struct.calcsize(">" + fmt)))[0]

    def left(self):
        here = self.f.tell()
        end = self.f.seek(0, 2)
        self.f.seek(here)
        return end - here

    def value(self, kind):
        if kind in INTEGERS:
            return self.unpack(INTEGERS[kind])
        if kind == "shortstr":
            return text(self.take(self.unpack("B")))
        if kind == "longstr":
            return text(self.take(self.unpack("I")))
        return self.table()

    def table(self):
        r = Reader(self.take(self.unpack("I")))
        out = {}
        while r.left():
            name = text(r.take(r.unpack("B")))
            out[name] = r.field()
        return out

    def field(self):
        kind = self.take(1).decode("latin-1")
        if kind in FIELD_NUMBERS:
            return self.unpack(FIELD_NUMBERS[kind])
        if kind == "t":
            return self.unpack("B") != 0
        if kind == "D":
            return self.unpack("B"), self.unpack("i")
        if kind == "S":
            return text(self.take(self.unpack("I")))
        if kind == "x":
            return self.take(self.unpack("I"))
        if kind == "F":
            return self.table()
        if kind == "A":
            r = Reader(self.take(self.unpack("I")))
            out = []
            while r.left():
                out.append(r.field())
            return out
        if kind == "V":
            return None
        raise ProtocolError("a field of type %r" % kind)


def text(data):
    """str where it is UTF-8, else the bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


# ---- methods, properties, frames ----

def method(name, **args):
    """The payload of a method frame; arguments left out are zero or empty."""
    class_id, method_id, fields = BY_NAME[name]
    out = struct.pack(">HH", class_id, method_id)
    bits, nbits = 0, 0
    for kind, key in fields + [("end", "")]:
        if kind == "bit":
            bits |= bool(args.pop(key, False)) << nbits
            nbits += 1
            continue
        if nbits:
            out += struct.pack("B", bits)
            bits, nbits = 0, 0
        if kind in INTEGERS:
            out += struct.pack(">" + INTEGERS[kind], args.pop(key, 0))
        elif kind in ("shortstr", "longstr", "table"):
            out += globals()[kind](args.pop(key, {} if kind == "table" else ""))
    if args:
        raise TypeError("%s has no %s" % (name, ", ".join(args)))
    return out


class Method(dict):
    """Its arguments, by name and as attributes; name is the method's."""

    def __init__(self, name, channel, args):
        super().__init__(args)
        self.name, self.channel = name, channel

    def __getattr__(self, key):
        try:
            return self[key]
        except KeyError:
            raise AttributeError(key)

    def __repr__(self):
        return "%s(%d) %s" % (self.name, self.channel, dict.__repr__(self))


def decode_method(payload, channel=0):
    r = Reader(payload)
    ids = r.unpack("H"), r.unpack("H")
    if ids not in BY_ID:
        raise ProtocolError("method %d.%d" % ids)
    name, fields = BY_ID[ids]
    args, bits, nbits = {}, 0, 8
    for kind, key in fields:
        if kind == "bit":
            if nbits == 8:
                bits, nbits = r.unpack("B"), 0
            args[key] = bool(bits >> nbits & 1)
            nbits += 1
        else:
            nbits = 8
            args[key] = r.value(kind)
    return Method(name, channel, args)


def header(size, properties=None, class_id=BASIC):
    """The payload of a content header frame."""
    flags, out = 0, b""
    properties = dict(properties or {})
    for i, (name, kind) in enumerate(PROPERTIES):
        v = properties.pop(name, None)
        if v is None:
            continue
        flags |= 1 << (15 - i)
        out += struct.pack(">" + INTEGERS[kind], v) if kind in INTEGERS else globals()[kind](v)
    if properties:
        raise TypeError("no property %s" % ", ".join(properties))
    return struct.pack(">HHQH", class_id, 0, size, flags) + out


def decode_header(payload):
    """(body size, properties)"""
    r = Reader(payload)
    r.unpack("H"), r.unpack("H")
    size, flags = r.unpack("Q"), r.unpack("H")
    return size, {name: r.value(kind) for i, (name, kind) in enumerate(PROPERTIES) if flags >> (15 - i) & 1}


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + END


def content(channel, body, properties=None, frame_max=131072):
    """The header and body frames of a message."""
    out = frame(HEADER, channel, header(len(body), properties))
    for i in range(0, len(body), frame_max - 8):
        out += frame(BODY, channel, body[i:i + frame_max - 8])
    return out


def read_frame(f):
    head = f.read(7)
    if len(head) < 7:
        raise EOFError("connection closed")
    if head[:4] == b"AMQP":
        raise ProtocolError("the peer wants another version: %r" % (head + f.read(1)))
    kind, channel, n = struct.unpack(">BHI", head)
    payload = f.read(n)
    end = f.read(1)
    if len(payload) < n or not end:
        raise EOFError("connection closed in a frame")
    if end != END:
        raise ProtocolError("a frame that ends with %r" % end)
    return Frame(kind, channel, payload)


class Wire:
    """Frames over a socket."""

    def __init__(self, sock):
        self.sock = sock
        self.f = sock.makefile("rb")

    def write(self, data):
        self.sock.sendall(data)

    def send(self, name, channel=0, **args):
        self.write(frame(METHOD, channel, method(name, **args)))

    def read(self):
        return read_frame(self.f)

    def drop(self):
        """No goodbye: as a process that was killed."""
        for x in (self.f, self.sock):
            with contextlib.suppress(OSError):
                x.close()


# ---- a client ----

class Client(Wire):
    """One connection with one channel in confirm mode.  Channel errors raise
    ChannelClosed and leave a fresh channel behind."""

    def __init__(self, port, user="guest", password="guest", vhost="/", host="127.0.0.1", ssl=None, mechanism="PLAIN",
                 timeout=TIMEOUT):
        sock = socket.create_connection((host, port), timeout)
        sock.settimeout(timeout)
        if ssl:
            sock = ssl.wrap_socket(sock, server_hostname=host)
        super().__init__(sock)
        self.frame_max = 131072
        self.delivered = collections.deque()
        try:
            self.write(PROTOCOL)
            self.server_properties = self.expect("connection.start").server_properties
            self.send("connection.start-ok", mechanism=mechanism, locale="en_US",
                      response="\0%s\0%s" % (user, password) if mechanism == "PLAIN" else "",
                      client_properties={"product": "tests", "capabilities": {
                          "publisher_confirms": True, "consumer_cancel_notify": True, "basic.nack": True,
                          "authentication_failure_close": True}})
            tune = self.expect("connection.tune")
            self.frame_max = tune.frame_max or self.frame_max
            self.send("connection.tune-ok", channel_max=tune.channel_max, frame_max=self.frame_max, heartbeat=0)
            self.send("connection.open", vhost=vhost)
            self.expect("connection.open-ok")
            self.open_channel()
        except BaseException:
            self.drop()
            raise

    def open_channel(self):
        self.published, self.confirmed, self.nacked, self.returned = 0, 0, False, []
        self.send("channel.open", 1)
        self.expect("channel.open-ok")
        self.call("confirm.select", "confirm.select-ok")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def next(self):
        """The next method that is not seen to here."""
        while True:
            f = self.read()
            if f.type == HEARTBEAT:
                continue
            if f.type != METHOD:
                raise ProtocolError("a frame of type %d without a method" % f.type)
            m = decode_method(f.payload, f.channel)
            if m.name == "basic.return":
                self.returned.append((m, self.read_content()))
            elif m.name in ("basic.ack", "basic.nack"):
                self.confirmed = max(self.confirmed, m.delivery_tag)
                self.nacked |= m.name == "basic.nack"
                return m
            elif m.name == "basic.deliver":
                self.delivered.append(self.message(m))
                return m
            elif m.name == "connection.close":
                self.send("connection.close-ok")
                self.drop()
                raise ConnectionClosed(m.reply_code, m.reply_text)
            elif m.name == "channel.close":
                self.send("channel.close-ok", 1)
                self.open_channel()
                raise ChannelClosed(m.reply_code, m.reply_text)
            else:
                return m

    def expect(self, *names):
        while True:
            m = self.next()
            if m.name in names:
                return m
            if m.name not in ("basic.ack", "basic.nack", "basic.deliver", "basic.cancel", "connection.blocked",
                              "connection.unblocked"):
                raise ProtocolError("%s instead of %s" % (m.name, " or ".join(names)))

    def call(self, name, *answers, **args):
        self.send(name, 1, **args)
        return self.expect(*answers)

    def read_content(self):
        f = self.read()
        size, properties = decode_header(f.payload)
        body = b""
        while len(body) < size:
            body += self.read().payload
        return body, properties

    def message(self, m):
        body, properties = self.read_content()
        return Message(body, properties, m.exchange, m.routing_key, m.redelivered, m.delivery_tag,
                       m.get("message_count"))

    # ---- what tests ask for ----

    def declare(self, queue, durable=True, passive=False, exclusive=False, auto_delete=False, arguments=None):
        """(messages ready, consumers)"""
        m = self.call("queue.declare", "queue.declare-ok", queue=queue, durable=durable, passive=passive,
                      exclusive=exclusive, auto_delete=auto_delete, arguments=arguments or {})
        return m.message_count, m.consumer_count

    def count(self, queue):
        """Messages that are ready; None when there is no such queue."""
        try:
            return self.declare(queue, passive=True)[0]
        except ChannelClosed as e:
            if e.code == 404:
                return None
            raise

    def consumers(self, queue):
        return self.declare(queue, passive=True)[1]

    def delete(self, queue):
        return self.call("queue.delete", "queue.delete-ok", queue=queue).message_count

    def purge(self, queue):
        return self.call("queue.purge", "queue.purge-ok", queue=queue).message_count

    def exchange(self, name, kind="direct", durable=True, arguments=None):
        self.call("exchange.declare", "exchange.declare-ok", exchange=name, type=kind, durable=durable,
                  arguments=arguments or {})

    def bind(self, queue, exchange, key="", arguments=None):
        self.call("queue.bind", "queue.bind-ok", queue=queue, exchange=exchange, routing_key=key,
                  arguments=arguments or {})

    def publish(self, queue, *bodies, exchange="", headers=None, mandatory=True, **properties):
        """Returns when the broker has confirmed all of them."""
        properties.setdefault("delivery_mode", 2)
        if headers is not None:
            properties["headers"] = headers
        out = b""
        for body in bodies:
            body = body.encode() if isinstance(body, str) else body
            out += frame(METHOD, 1, method("basic.publish", exchange=exchange, routing_key=queue,
                                           mandatory=mandatory))
            out += content(1, body, properties, self.frame_max)
            self.published += 1
            if len(out) > 1 << 20:
                self.write(out)
                out = b""
        self.write(out)
        while self.confirmed < self.published:
            self.expect("basic.ack", "basic.nack")
        nacked, self.nacked = self.nacked, False
        returned, self.returned = self.returned, []
        if returned:
            raise NotRouted(returned[0][0].reply_code, returned[0][0].reply_text)
        if nacked:
            raise NotConfirmed("basic.nack")

    def get(self, queue, ack=True):
        """The next message, or None."""
        m = self.call("basic.get", "basic.get-ok", "basic.get-empty", queue=queue, no_ack=ack)
        return None if m.name == "basic.get-empty" else self.message(m)

    def get_all(self, queue):
        return list(iter(lambda: self.get(queue), None))

    def consume(self, queue, prefetch=0):
        self.call("basic.qos", "basic.qos-ok", prefetch_count=prefetch)
        return self.call("basic.consume", "basic.consume-ok", queue=queue).consumer_tag

    def take(self):
        """The next delivery of consume()."""
        while not self.delivered:
            self.expect("basic.deliver")
        return self.delivered.popleft()

    def ack(self, message):
        self.send("basic.ack", 1, delivery_tag=message.tag)

    def close(self):
        with contextlib.suppress(OSError, EOFError, ProtocolError, Closed):
            self.send("connection.close", reply_code=200, reply_text="bye")
            while self.next().name != "connection.close-ok":
                pass
        self.drop()


# ---- the other side ----

STARTED = {
    "product": "RabbitMQ", "version": "3.10.8", "platform": "a script", "capabilities": {
        "publisher_confirms": True, "exchange_exchange_bindings": True, "basic.nack": True,
        "consumer_cancel_notify": True, "connection.blocked": True, "consumer_priorities": True,
        "authentication_failure_close": True, "per_consumer_qos": True, "direct_reply_to": True}}


class Server(Wire):
    """One accepted connection of a scripted broker, polite where nothing else
    is asked of it.

    script(server, method) is called for every method that comes in, "header"
    standing for the protocol header.  It may answer itself and return True;
    else answer() does.  Bodies of messages that are published are collected.
    """

    def __init__(self, sock, script=None, queues=None):
        super().__init__(sock)
        self.script = script or (lambda server, m: False)
        self.queues = {} if queues is None else queues
        self.seen = []                  # names of methods
        self.published = []             # [basic.publish, body, properties]
        self.acks = []                  # [kind, delivery tag, multiple]
        self.heartbeats = 0
        self.tags = collections.Counter()
        self.unfinished = None

    def run(self):
        """Until the peer goes away."""
        hello = self.f.read(8)
        if len(hello) < 8:
            return
        self.hello = hello
        self.handle(Method("header", 0, {}))
        while True:
            f = self.read()
            if f.type == METHOD:
                m = decode_method(f.payload, f.channel)
                if m.name == "basic.publish":
                    self.unfinished = [m, b"", None, None]
                else:
                    self.handle(m)
            elif f.type in (HEADER, BODY):
                p = self.unfinished
                if f.type == HEADER:
                    p[3], p[2] = decode_header(f.payload)
                else:
                    p[1] += f.payload
                if len(p[1]) >= p[3]:
                    self.published.append(p[:3])
                    self.handle(p[0])
            elif f.type == HEARTBEAT:
                self.heartbeats += 1

    def handle(self, m):
        self.seen.append(m.name)
        if m.name in ("basic.ack", "basic.nack", "basic.reject"):
            self.acks.append((m.name, m.delivery_tag, m.get("multiple", False)))
        if not self.script(self, m):
            self.answer(m)

    def answer(self, m):
        """What a broker says that has the queues that it is asked for."""
        ch = m.channel
        if m.name == "header":
            self.send("connection.start", version_major=0, version_minor=9, server_properties=STARTED,
                      mechanisms="AMQPLAIN PLAIN EXTERNAL", locales="en_US")
        elif m.name == "connection.start-ok":
            self.send("connection.tune", channel_max=2047, frame_max=131072, heartbeat=60)
        elif m.name == "queue.declare":
            self.send("queue.declare-ok", ch, queue=m.queue, message_count=self.queues.get(m.queue, 0))
        elif m.name == "basic.consume":
            self.consumer = ch, m.consumer_tag or "tag"
            if not m.nowait:
                self.send("basic.consume-ok", ch, consumer_tag=self.consumer[1])
        elif m.name == "basic.cancel":
            if not m.nowait:
                self.send("basic.cancel-ok", ch, consumer_tag=m.consumer_tag)
        elif m.name == "basic.publish":
            self.tags[ch] += 1
            if "confirm.select" in self.seen:
                self.send("basic.ack", ch, delivery_tag=self.tags[ch])
        elif m.name == "basic.get":
            self.send("basic.get-empty", ch)
        elif m.name + "-ok" in BY_NAME and not m.get("nowait"):
            self.send(m.name + "-ok", ch)

    def deliver(self, body, properties=None, tag=1, **args):
        ch, consumer = self.consumer
        args = dict(dict(routing_key="jobs", consumer_tag=consumer), **args)
        self.write(frame(METHOD, ch, method("basic.deliver", delivery_tag=tag, **args)) +
                   content(ch, body, properties))


class Listener:
    """Accepts on a free port, each connection in a thread of its own."""

    def __init__(self, script=None, make=Server, tls=None):
        import threading
        self.script, self.make, self.tls = script, make, tls
        self.servers = []
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(32)
        self.port = self.sock.getsockname()[1]
        self.spawn = lambda fn, *a: threading.Thread(target=fn, args=a, daemon=True).start()
        self.spawn(self.accept)

    @property
    def accepted(self):
        return len(self.servers)

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            self.spawn(self.serve, sock)

    def serve(self, sock):
        server = None
        try:
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            server = self.make(sock, self.script)
            self.servers.append(server)
            server.run()
        except (OSError, EOFError, ValueError, ProtocolError):
            pass
        finally:
            if server:
                server.drop()
            sock.close()

    def close(self):
        # A thread in accept() would keep the socket listening.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for s in self.servers:
            with contextlib.suppress(OSError):
                s.sock.shutdown(socket.SHUT_RDWR)
