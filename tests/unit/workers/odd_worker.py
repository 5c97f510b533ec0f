#!/usr/bin/env python3
"""A worker that does whatever the body says, above all what it should not.

odd_worker.py [--ready N] [--hold N] [--no-ready] [--start-exit N] [--mark FILE]
"""
import json
import os
import signal
import sys
import time

FD = 3
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
ready = int(args.get("--ready", 1))
hold = int(args.get("--hold", 0))


def send(text):
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[os.write(FD, data):]


def mark(text):
    if "--mark" in args:
        with open(args["--mark"], "a") as f:
            f.write(text + "\n")


def grandchild():
    """A descendant in the same group that does not want to go."""
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        mark(str(os.getpid()))
        time.sleep(60)
        os._exit(0)


def answer(ident, body, attributes):
    word, _, rest = body.partition(" ")
    if word == "exit":
        sys.stderr.write("leaving with %s\n" % rest)
        sys.stderr.flush()
        os._exit(int(rest))
    elif word == "kill":
        os.kill(os.getpid(), int(rest))
    elif word == "garbage":
        send("Hello, I am a print that went astray\n")
        time.sleep(60)
    elif word == "endless":
        send("DONE " + "1" * 5000)
        time.sleep(60)
    elif word == "huge":
        send("DEAD %s x 999999999\n" % ident)
        time.sleep(60)
    elif word == "half":
        send("DEAD %s x 10\nabc" % ident)
        os._exit(0)
    elif word == "unknown":
        send("DONE 4242\nTOUCH 4243 1\nDONE %s\n" % ident)
        return
    elif word == "twice":
        send("DONE %s\nDONE %s\n" % (ident, ident))
        return
    elif word == "sleep":
        time.sleep(float(rest))
    elif word == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        grandchild()
        time.sleep(60)
    elif word == "late":
        # SIGTERM does not stop it; it is done within the grace.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(float(rest))
    elif word == "memory":
        block = []
        while len(block) < int(rest):
            block.append(bytearray(os.urandom(1 << 20)))
    elif word == "tell":
        fds = {}
        for fd in os.listdir("/proc/self/fd"):
            try:
                fds[fd] = os.readlink("/proc/self/fd/" + fd)
            except OSError:
                pass
        import resource
        with open("/proc/self/status") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        what = {"environ": dict(os.environ), "fds": sorted(map(int, fds)), "stdin": fds["0"], "umask":
                os.umask(0o27), "uid": os.getuid(), "groups": os.getgroups(), "pgid": os.getpgrp() == os.getpid(),
                "core": resource.getrlimit(resource.RLIMIT_CORE)[1], "nnp": status["NoNewPrivs"],
                "attributes": json.loads(attributes)}
        detail = json.dumps(what[rest] if rest else what)
        send("DEAD %s told %d\n%s" % (ident, len(detail), detail))
        return
    elif word == "print":
        for i in range(int(rest)):
            print("line %d" % i)
        sys.stdout.flush()
    elif word == "long":
        print("x" * int(rest))
        sys.stdout.flush()
    elif word == "detail":
        send("RETRY %s 250 my_type! %s\n%s" % (ident, rest, "d" * int(rest)))
        return
    elif word == "touch":
        for _ in range(4):
            send("TOUCH %s 400\n" % ident)
            time.sleep(0.2)
    send("DONE %s\n" % ident)


def main():
    if "--start-exit" in args:
        sys.stderr.write("no such table: orders\n")
        sys.stderr.flush()
        os._exit(int(args["--start-exit"]))
    if "--start-if" in args and not os.path.exists(args["--start-if"]):
        sys.exit("not yet")
    if "--no-ready" in args:
        time.sleep(60)
    mark("start %d" % os.getpid())
    send("READY %d\n" % ready)
    if "--then-exit" in args:
        os._exit(int(args["--then-exit"]))
    buf, held = b"", []
    while True:
        while True:
            end = buf.find(b"\n")
            if end < 0:
                break
            f = buf[:end].decode().split(" ")
            if f[0] == "MSG":
                a = end + 1 + int(f[5])
                b = a + int(f[6])
                if len(buf) < b:
                    break
                attributes, body = buf[end + 1:a].decode(), buf[a:b].decode("utf-8", "surrogateescape")
                buf = buf[b:]
                held.append((f[1], body, attributes))
                if len(held) > hold - 1:
                    for one in reversed(held):
                        answer(*one)
                    held = []
                continue
            if f[0] == "DRAIN" and "--stay" not in args:
                mark("drain")
                os._exit(0)
            buf = buf[end + 1:]
        data = os.read(FD, 65536)
        if not data:
            if "--stay" in args:
                time.sleep(60)
            os._exit(0)
        buf += data


main()
