"""netns.py - a network of its own for a test program: only loopback, with addresses that are nobody's.

192.0.2.0/24, 198.51.100.0/24 and 203.0.113.0/24 are for documentation (RFC 5737), 2001:db8::/32 likewise (RFC 3849):
there they are this host's, so that a daemon can be asked from them.
"""
import ctypes
import os
import shutil
import socket
import subprocess

CLONE_NEWNET = 0x40000000
ADDRESSES = ["192.0.2.10/24", "198.51.100.10/24", "203.0.113.10/24"]
ADDRESSES6 = ["2001:db8::10/64", "2001:db8:1::10/64"]

reason = "not entered"


def enter():
    """This process and its children from now on; why not, or None."""
    global reason
    reason = try_to_enter()
    return reason


def try_to_enter():
    if os.geteuid() != 0:
        return "a network of its own needs root"
    if not shutil.which("ip"):
        return "ip(8) is not installed"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        return "no network of its own to be had: " + os.strerror(ctypes.get_errno())
    for args in [["link", "set", "lo", "up"]] + [["addr", "add", a, "dev", "lo"] for a in ADDRESSES] + \
            [["-6", "addr", "add", a, "dev", "lo", "nodad"] for a in ADDRESSES6]:
        p = subprocess.run(["ip"] + args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        if p.returncode != 0 and "-6" not in args:
            return "ip %s: %s" % (" ".join(args), p.stdout.strip())
    return None


def connect(source, port, timeout=20):
    """From that address to a port of this host; under the other address of the same kind."""
    s = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET)
    s.settimeout(timeout)
    s.bind((source, 0))
    s.connect((source, port))
    return s
