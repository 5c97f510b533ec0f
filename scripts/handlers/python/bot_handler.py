"""Handlers for bot-operator's Exec= in Python 3.9 or later, standard library only.

    import bot_handler

    def handle(message):
        order = message.json()
        ...                                   # returning is "done"

    bot_handler.run(handle)

What handle() raises says what becomes of the message:

    Retry(delay=30, error_type="external_api", detail="...")   try again, in 30 s
    Retry()                 try again, after the time that Backoff= says
    RateLimited(60)         try again; the whole queue pauses for a minute
    Dead("invalid_format", "no customer")    never again: to the dead letters
    TimeoutError            retry, counted as timeout
    MemoryError             retry, counted as out_of_memory
    anything else           retry, counted as internal, with the traceback

message.touch(seconds) asks for more time.  When a message is over its time,
TimeoutError is raised inside handle().  print() goes to the log.
"""
import json as _json
import os
import signal
import sys
import time
import traceback

__all__ = ["run", "Message", "Retry", "RateLimited", "Dead"]

_DETAIL_MAX = 4000
_OUT_MAX = 65536
_HOLD = 0.0005          # answers wait at most so long to be written together


class Retry(Exception):
    """The message shall come again; delay in seconds, None: as Backoff= says."""

    def __init__(self, delay=None, error_type="internal", detail=""):
        super().__init__(detail or error_type)
        self.delay, self.error_type, self.detail = delay, error_type, detail


class RateLimited(Retry):
    """The other side wants less: nothing of this queue is started for so long."""

    def __init__(self, delay, detail=""):
        super().__init__(delay, "rate_limited", detail)


class Dead(Exception):
    """It will never work: to the dead letters."""

    def __init__(self, error_type="internal", detail=""):
        super().__init__(detail or error_type)
        self.error_type, self.detail = error_type, detail


class _Leave(BaseException):
    """Raised by SIGTERM while waiting for a message."""


class Message:
    """body (bytes), queue, attempt (from 1), timeout (seconds, 0: none), attributes."""

    __slots__ = ("id", "queue", "attempt", "timeout", "body", "_raw", "_attributes", "_channel")

    @property
    def attributes(self):
        """What came with it, as a dict; "id" is the broker's message id."""
        if self._attributes is None:
            self._attributes = _json.loads(self._raw)
        return self._attributes

    def text(self):
        return self.body.decode("utf-8")

    def json(self):
        return _json.loads(self.body)

    def touch(self, seconds):
        """Asks for so much time from now on."""
        self._channel.touch(self, seconds)


def _word(s):
    s = "".join(c if c.isalnum() and c.isascii() or c in "_.-" else "_" for c in str(s))[:63]
    return s.encode() or b"internal"


def _failure(head, error_type, detail):
    data = str(detail).encode("utf-8", "replace")[-_DETAIL_MAX:]
    return b"%s %s %d\n%s" % (head, _word(error_type), len(data), data)


class _Channel:
    def __init__(self, handle, fd):
        self.handle, self.fd = handle, fd
        self.out, self.out_bytes, self.held_since = [], 0, 0.0
        self.deadline = None        # of the running message
        self.running = self.leaving = False

    # ---- out ----

    def flush(self):
        data, self.out, self.out_bytes = b"".join(self.out), [], 0
        while data:
            data = data[os.write(self.fd, data):]

    def answer(self, frame):
        if not self.out:
            self.held_since = time.monotonic()
        self.out.append(frame)
        self.out_bytes += len(frame)

    def touch(self, message, seconds):
        if self.deadline is not None:
            self.deadline = max(self.deadline, time.monotonic() + seconds)
        self.answer(b"TOUCH %d %d\n" % (message.id, max(0, int(seconds * 1000))))
        self.flush()

    # ---- one message ----

    def on_sigterm(self, _signo, _frame):
        self.leaving = True
        if not self.running:
            raise _Leave()
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise TimeoutError("over its time")

    def call(self, message):
        """The answer's frame."""
        ident = message.id
        try:
            self.handle(message)
            return b"DONE %d\n" % ident
        except Retry as e:
            delay = b"-" if e.delay is None else b"%d" % max(0, int(e.delay * 1000))
            return _failure(b"RETRY %d %s" % (ident, delay), e.error_type, e.detail)
        except Dead as e:
            return _failure(b"DEAD %d" % ident, e.error_type, e.detail)
        except TimeoutError:
            return _failure(b"RETRY %d -" % ident, "timeout", traceback.format_exc())
        except MemoryError:
            return _failure(b"RETRY %d -" % ident, "out_of_memory", "MemoryError")
        except Exception:
            return _failure(b"RETRY %d -" % ident, "internal", traceback.format_exc())

    def run_one(self, fields, attributes, body):
        m = Message()
        m.id, m.queue, m.attempt = int(fields[1]), fields[2].decode(), int(fields[3])
        m.timeout, m.body = int(fields[4]) / 1000, body
        m._raw, m._attributes, m._channel = attributes, None, self
        now = time.monotonic()
        if self.out and (now - self.held_since > _HOLD or self.out_bytes > _OUT_MAX):
            self.flush()
        self.deadline = now + m.timeout if m.timeout else None
        self.running = True
        try:
            frame = self.call(m)
        except BaseException:       # exit(), Ctrl-C: what is answered is answered
            self.flush()
            raise
        finally:
            self.running = False
        self.answer(frame)

    # ---- in ----

    def frames(self, buf):
        """Runs all the complete frames in buf; returns what is left of it."""
        pos = 0
        while True:
            end = buf.find(b"\n", pos)
            if end < 0:
                return buf[pos:]
            if buf.startswith(b"MSG ", pos):
                fields = buf[pos:end].split(b" ")
                a = end + 1 + int(fields[5])
                b = a + int(fields[6])
                if b > len(buf):
                    return buf[pos:]
                self.run_one(fields, buf[end + 1:a], buf[a:b])
                pos = b
                continue
            if buf.startswith(b"DRAIN", pos):
                self.leaving = True
                return b""
            pos = end + 1           # HELLO, CANCEL: nothing to do

    def loop(self):
        self.answer(b"READY 1\n")
        rest, need = b"", 0
        while True:
            self.flush()
            if self.leaving:
                return
            try:
                data = os.read(self.fd, 262144)
            except _Leave:
                return
            if not data:
                return
            if rest:
                # A large body comes in many pieces: join them once.
                pieces, have = [rest, data], len(rest) + len(data)
                need = self.missing(rest)
                while have < need and not self.leaving:
                    data = os.read(self.fd, 1048576)
                    if not data:
                        return
                    pieces.append(data)
                    have += len(data)
                data = b"".join(pieces)
            rest = self.frames(data)

    @staticmethod
    def missing(rest):
        """How long the frame at the start of rest is, if its line is complete."""
        end = rest.find(b"\n")
        if end < 0 or not rest.startswith(b"MSG "):
            return 0
        fields = rest[:end].split(b" ")
        return end + 1 + int(fields[5]) + int(fields[6])


def run(handle):
    """Runs handle(message) for each message until the operator has no more."""
    fd = os.environ.get("BOT_OPERATOR_FD")
    if fd is None:
        sys.exit("This program is a handler: name it in Exec= of a [Pool] of bot-operator.")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    channel = _Channel(handle, int(fd))
    os.set_inheritable(channel.fd, False)
    signal.signal(signal.SIGTERM, channel.on_sigterm)
    try:
        channel.loop()
    except (_Leave, BrokenPipeError, ConnectionResetError):
        pass
