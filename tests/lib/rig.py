"""rig.py - the world of a black-box test.

Starts the daemon and real servers in a private folder with free ports, waits
for conditions with deadlines (never for a fixed time), ends what it started
by pid, and fails the test when a process or an unexpected warning is left.

A test file defines functions named test_*, each taking a Rig, and ends with
rig.main(globals()).  Output is TAP.  BUILD_DIR names the build tree.

What takes long to start is made once for a file, by shared().
"""
import base64
import contextlib
import errno
import glob
import inspect
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

import amqp

BUILD = os.path.abspath(os.environ.get("BUILD_DIR", "."))
SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
DEADLINE = float(os.environ.get("TEST_DEADLINE", "20"))


# What depends on what else the machine does: how long a turn takes, and how
# many of the 128 inotify instances of a user are left.
MACHINE = re.compile("the loop was held up|no inotify watch to be had")


class Skip(Exception):
    """A case that cannot run here, with the reason."""


def wait_for(what, condition, deadline=None):
    """Waits until condition() is true and returns its value."""
    end = time.monotonic() + (deadline or DEADLINE)
    step = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("timed out waiting for " + what)
        time.sleep(step)
        step = min(step * 1.5, 0.05)


def free_port():
    """Not one that the kernel gives to connections: it may be used again, or
    for the first time, a while later."""
    while True:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", random.randrange(10000, 32000)))
                return s.getsockname()[1]
            except OSError as e:
                if e.errno != errno.EADDRINUSE:
                    raise


class Process:
    """A child with its output in a file."""

    def __init__(self, rig, name, argv, env=None, stdin=None, **kw):
        self.spawn(rig, name, argv, env, stdin, **kw)
        rig.processes.append(self)

    def spawn(self, rig, name, argv, env=None, stdin=None, **kw):
        self.name = name
        self.log_path = os.path.join(rig.dir, "%s.%d.log" % (name, next(rig.numbers)))
        self.log_file = open(self.log_path, "wb")
        self.p = subprocess.Popen(argv, stdin=stdin or subprocess.DEVNULL, stdout=self.log_file,
                                  stderr=subprocess.STDOUT, env=env, cwd=rig.dir, **kw)

    @property
    def pid(self):
        return self.p.pid

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def alive(self):
        return self.p.poll() is None

    def signal(self, signo):
        self.p.send_signal(signo)

    def wait(self, deadline=None):
        try:
            return self.p.wait(deadline or DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError("%s did not end in time; its log:\n%s" % (self.name, self.log()[-4000:]))

    def stop(self, signo=15, deadline=None):
        if self.alive():
            self.signal(signo)
        return self.wait(deadline)

    def kill(self):
        if self.alive():
            self.p.kill()
        self.p.wait()
        self.log_file.close()


class Redis(Process):
    """A private redis-server: TCP port, Unix socket, optionally TLS and AOF."""

    def __init__(self, rig, tls=False, aof=False, port=None, directory=None, extra=()):
        exe = shutil.which("redis-server")
        if not exe:
            raise Skip("redis-server is not installed")
        self.rig, self.tls, self.aof, self.extra = rig, tls, aof, list(extra)
        self.dir = directory or tempfile.mkdtemp(prefix="redis-", dir=rig.dir)
        self.port = port or free_port()
        self.socket = os.path.join(self.dir, "redis.sock")
        argv = [exe, "--bind", "127.0.0.1", "--unixsocket", self.socket, "--dir", self.dir,
                "--save", "", "--appendonly", "yes" if aof else "no", "--appendfsync", "always",
                "--daemonize", "no"]
        if tls:
            cert = rig.certificate()
            argv += ["--port", "0", "--tls-port", str(self.port), "--tls-cert-file", cert.cert,
                     "--tls-key-file", cert.key, "--tls-ca-cert-file", cert.ca, "--tls-auth-clients", "no"]
        else:
            argv += ["--port", str(self.port)]
        super().__init__(rig, "redis", argv + self.extra)
        wait_for("redis-server", self.ready)

    def ready(self):
        if not self.alive():
            raise AssertionError("redis-server ended:\n" + self.log())
        try:
            return self("PING") == "PONG"
        except (OSError, EOFError, RedisError) as e:
            return isinstance(e, RedisError) and "LOADING" not in str(e)

    def __call__(self, *args):
        """One command over the Unix socket."""
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
            s.settimeout(DEADLINE)
            s.connect(self.socket)
            return resp_call(s.makefile("rwb"), [args])[0]

    def pipeline(self, commands):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
            s.settimeout(DEADLINE)
            s.connect(self.socket)
            f = s.makefile("rwb")
            out = []
            for i in range(0, len(commands), 1000):
                out += resp_call(f, commands[i:i + 1000])
            return out

    def restarted(self):
        """The same data, port and socket in a new process."""
        return Redis(self.rig, self.tls, self.aof, self.port, self.dir, self.extra)


class RedisError(Exception):
    pass


def resp_call(f, commands):
    for args in commands:
        f.write(b"*%d\r\n" % len(args))
        for a in args:
            a = a if isinstance(a, bytes) else str(a).encode()
            f.write(b"$%d\r\n%s\r\n" % (len(a), a))
    f.flush()
    return [resp_read(f) for _ in commands]


def resp_read(f, nested=False):
    line = f.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError("connection closed")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest.decode()
    if kind == b"-":
        if nested:
            return RedisError(rest.decode())
        raise RedisError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        n = int(rest)
        return None if n < 0 else f.read(n + 2)[:-2]
    if kind == b"*":
        n = int(rest)
        return None if n < 0 else [resp_read(f, True) for _ in range(n)]
    raise RedisError("what is %r" % line)


class Rabbit(Process):
    """A private RabbitMQ node with an epmd of its own, all on loopback.

    It takes 5 to 7 s to start: let the tests of a file share() one, with
    queues of their own.  tls: also a TLS port, where a client certificate is
    accepted, and logs in as its common name (EXTERNAL) when the plugin is
    there.  management: its HTTP API.  config: more lines of rabbitmq.conf.
    """
    BIN = os.environ.get("RABBITMQ_BIN", "/usr/lib/rabbitmq/bin")

    @classmethod
    def needed(cls):
        """Where epmd is; Skip when anything is missing."""
        if not os.access(os.path.join(cls.BIN, "rabbitmq-server"), os.X_OK):
            raise Skip("rabbitmq-server is not installed")
        epmd = shutil.which("epmd") or next(iter(glob.glob("/usr/lib*/erlang/bin/epmd")), None)
        if not epmd:
            raise Skip("epmd of Erlang is not installed")
        return epmd

    def __init__(self, rig, tls=False, management=False, config=""):
        epmd = self.needed()
        self.rig = rig
        self.dir = tempfile.mkdtemp(prefix="rabbit-", dir=rig.dir)
        self.node = "bot%d@localhost" % os.getpid() if not rig.processes else \
            "bot%d-%d@localhost" % (os.getpid(), next(rig.numbers))
        self.cookie = "c%d" % os.getpid()
        self.port, dist, epmd_port = free_port(), free_port(), free_port()
        self.tls_port = free_port() if tls else None
        self.management_port = free_port() if management else None
        plugins = ["rabbitmq_management"] if management else []
        conf = """
listeners.tcp.1 = 127.0.0.1:%d
log.console = true
log.console.level = info
log.file = false
collect_statistics_interval = 500
vm_memory_high_watermark.relative = 0.4
disk_free_limit.absolute = 1MB
""" % self.port
        if tls:
            cert = rig.certificate()
            plugins.append("rabbitmq_auth_mechanism_ssl")
            conf += """
listeners.ssl.1 = 127.0.0.1:%d
ssl_options.cacertfile = %s
ssl_options.certfile = %s
ssl_options.keyfile = %s
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
ssl_cert_login_from = common_name
""" % (self.tls_port, cert.ca, cert.cert, cert.key)
        if management:
            conf += "management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %d\n" % self.management_port
        for name, text in (("rabbitmq.conf", conf + config), (".erlang.cookie", self.cookie),
                           # How often it looks for consumers that are timed out, and counts quorum queues.
                           ("advanced.config", "[{rabbit, [{channel_tick_interval, 500}, "
                            "{quorum_tick_interval, 500}]}].\n"),
                           ("enabled_plugins", "[%s].\n" % ",".join(plugins))):
            with open(os.path.join(self.dir, name), "w") as f:
                f.write(text)
            os.chmod(os.path.join(self.dir, name), 0o600)
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        self.env = {
            "PATH": os.environ["PATH"], "HOME": self.dir, "LC_ALL": "C.UTF-8",
            "RUNNING_UNDER_SYSTEMD": "1",       # the script becomes the node: our pid is its pid
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(dist),
            "RABBITMQ_CONFIG_FILE": os.path.join(self.dir, "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": os.path.join(self.dir, "advanced.config"),
            "RABBITMQ_MNESIA_BASE": os.path.join(self.dir, "mnesia"),
            "RABBITMQ_LOG_BASE": os.path.join(self.dir, "log"),
            "RABBITMQ_PID_FILE": os.path.join(self.dir, "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": os.path.join(self.dir, "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            # Several nodes may run beside each other: none keeps to the first processors.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
            "RABBITMQ_CTL_ERL_ARGS": loopback,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
        }
        # Ours, and first: the node would leave the one behind that it starts.
        Process(rig, "epmd", [epmd, "-address", "127.0.0.1", "-port", str(epmd_port)], env=self.env)
        wait_for("epmd", lambda: accepts(epmd_port))
        self.start()
        rig.processes.append(self)

    def start(self):
        self.spawn(self.rig, "rabbitmq", [os.path.join(self.BIN, "rabbitmq-server")], env=self.env)
        wait_for("rabbitmq-server", self.ready, 60)

    def ready(self):
        if not self.alive():
            raise AssertionError("rabbitmq-server ended:\n" + self.log()[-4000:])
        return "Server startup complete" in self.log()

    def restarted(self):
        """The same data and ports in a new process; also when it ended."""
        self.kill()
        self.start()
        return self

    def client(self, **kw):
        return amqp.Client(self.port, **kw)

    def ctl(self, *args, check=True):
        """rabbitmqctl; what it prints.  A second of the processor each."""
        r = subprocess.run([os.path.join(self.BIN, "rabbitmqctl"), "--quiet", *args], env=self.env, cwd=self.dir,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           universal_newlines=True, timeout=60)
        if check and r.returncode != 0:
            raise AssertionError("rabbitmqctl %s: %s" % (" ".join(args), r.stdout))
        return r.stdout

    def eval(self, erlang):
        """What the node says to this expression; at once, where rabbitmqctl
        would start an Erlang of its own for it."""
        exe = shutil.which("erl_call")
        if not exe:
            return self.ctl("eval", erlang).strip()
        r = subprocess.run([exe, "-n", self.node, "-c", self.cookie, "-e"], input=erlang + "\n", env=self.env,
                           cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                           timeout=60)
        said = re.match(r"\{ok, (.*)\}$", r.stdout.strip(), re.DOTALL)
        if not said:
            raise AssertionError("%s: %s" % (erlang, r.stdout))
        return said.group(1)

    def remembers(self, *queues):
        """Waits until quorum queues survive kill -9.  The list of them is
        written a second after they are declared, and 3.10 loses, confirmed or
        not, what a queue holds that it does not find there."""
        names = os.path.join(self.dir, "mnesia", self.node, "quorum", self.node, "names.dets")

        def written():
            with open(names, "rb") as f:
                data = f.read()
            return all(b"%2F_" + q.encode() in data for q in queues)
        wait_for("%s to be written down" % ", ".join(queues), written)

    def unacknowledged(self, queue):
        """As the broker counts; a quorum queue's lags by half a second."""
        return int(self.eval('{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"%s">>)), '
                             '[{_, N}] = rabbit_amqqueue:info(Q, [messages_unacknowledged]), N.' % queue))

    def user(self, name, password, vhost="/", allowed=".*"):
        """A user that may do everything to the names that match."""
        self.eval('rabbit_auth_backend_internal:add_user(<<"%s">>, <<"%s">>, <<"test">>).' % (name, password))
        self.eval('rabbit_auth_backend_internal:set_permissions(<<"%s">>, <<"%s">>, %s, <<"test">>).' % (
            name, vhost, ", ".join(['<<"%s">>' % allowed] * 3)))

    def password(self, name, password):
        self.eval('rabbit_auth_backend_internal:change_password(<<"%s">>, <<"%s">>, <<"test">>).' % (name, password))

    def close_connections(self, why):
        # One may have ended by itself.
        self.eval('[catch rabbit_networking:close_connection(P, "%s") || P <- rabbit_networking:connections()], ok.' %
                  why)

    def memory_alarm(self, on):
        """Set, connections that publish are blocked."""
        self.eval("vm_memory_monitor:set_vm_memory_high_watermark(%s)." % ("0.000001" if on else "0.4"))
        wait_for("the alarm to be heard", lambda: (self.eval("rabbit_alarm:get_alarms().") != "[]") == on)

    def api(self, path, user="guest", password="guest"):
        """GET of the management API."""
        request = urllib.request.Request("http://127.0.0.1:%d/api/%s" % (self.management_port, path), headers={
            "Authorization": "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()})
        with urllib.request.urlopen(request, timeout=DEADLINE) as r:
            return json.load(r)


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Certificate:
    """A CA and a certificate for localhost and 127.0.0.1, by openssl(1)."""

    def __init__(self, directory):
        self.ca = os.path.join(directory, "ca.pem")
        self.cert = os.path.join(directory, "cert.pem")
        self.key = os.path.join(directory, "key.pem")
        self.directory = directory
        self.ca_key = os.path.join(directory, "ca-key.pem")
        self.run("req", "-x509", *self.EC, "-keyout", self.ca_key, "-out", self.ca, "-days", "2", "-subj",
                 "/CN=test ca")
        self.issue(self.cert, self.key, "localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n")

    EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

    def run(self, *argv):
        subprocess.run(("openssl",) + argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def issue(self, cert, key, name, extensions):
        csr = os.path.join(self.directory, "csr.pem")
        ext = os.path.join(self.directory, "ext.cnf")
        with open(ext, "w") as f:
            f.write(extensions)
        self.run("req", *self.EC, "-keyout", key, "-out", csr, "-subj", "/CN=" + name)
        self.run("x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey", self.ca_key, "-CAcreateserial", "-out", cert,
                 "-days", "2", "-extfile", ext)

    def client(self, name):
        """(certificate, key) of a client of that common name."""
        cert, key = (os.path.join(self.directory, "%s-%s.pem" % (name, x)) for x in ("cert", "key"))
        if not os.path.exists(cert):
            self.issue(cert, key, name, "extendedKeyUsage=clientAuth\n")
        return cert, key

    def client_context(self, name=None):
        ctx = ssl.create_default_context(cafile=self.ca)
        if name:
            ctx.load_cert_chain(*self.client(name))
        return ctx

    def server_context(self):
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ctx.load_cert_chain(self.cert, self.key)
        return ctx


class Daemon(Process):
    """bot-operatord with a configuration of its own.

    text is the configuration; {dir}, {source} and {build} are replaced.  An
    [Operator] section with Status= and Control= is added when there is none.
    args: further arguments; launcher: a program that becomes the daemon.
    """

    def __init__(self, rig, text, name="test", env=None, wait="ready", args=(), launcher=(), **kw):
        self.rig = rig
        self.name_ = name
        self.conf = os.path.join(rig.dir, name + ".conf")
        self.control = os.path.join(rig.dir, name + ".sock")
        self.write(text)
        self.env = dict(os.environ, STATE_DIRECTORY=rig.dir, **(env or {}))
        super().__init__(rig, "bot-operatord", [*launcher, os.path.join(BUILD, "bot-operatord"), "--config", self.conf,
                                                *args], env=self.env, **kw)
        self.base = None
        if wait:
            wait_for("the daemon's status address", self._find_base)
        if wait == "ready":
            wait_for("the daemon to be ready", self.ready)

    def write(self, text):
        if "[Operator]" not in text:
            text = "[Operator]\nStatus=127.0.0.1:0\nControl={dir}/%s.sock\n%s" % (self.name_, text)
        for key, value in (("dir", self.rig.dir), ("source", SOURCE), ("build", BUILD)):
            text = text.replace("{%s}" % key, value)
        with open(self.conf, "w") as f:
            f.write(text)

    def _find_base(self):
        if not self.alive():
            raise AssertionError("bot-operatord ended with %s:\n%s" % (self.p.returncode, self.log()))
        m = re.search(r"(http://[0-9.:\[\]a-z]+:\d+)/", self.log())
        if m:
            self.base = m.group(1)
        return self.base

    def get(self, path):
        """(status, text)"""
        try:
            with urllib.request.urlopen(self.base + path, timeout=DEADLINE) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()

    def ready(self):
        if not self.alive():
            raise AssertionError("bot-operatord ended with %s:\n%s" % (self.p.returncode, self.log()))
        return self.get("/readyz")[0] == 200

    def status(self):
        return json.loads(self.get("/.well-known/engine-status")[1])

    def queue(self, name):
        return self.status()["queues"][name]

    def check_turns(self):
        """A loop that waited for a peer would have stood for a second, which is
        the ResponseTimeout= of such tests; what is less is the machine's own
        business, and "make bench" measures it."""
        loop = self.status()["loop"]
        assert loop["longest_turn_ms"] < 900, loop

    def wait_queue(self, name, deadline=None, **want):
        """Waits until the queue's figures are as wanted."""
        last = {}

        def check():
            last.update(self.queue(name))
            return all(last.get(k) == v for k, v in want.items())
        try:
            wait_for("queue %s: %s" % (name, want), check, deadline)
        except AssertionError as e:
            raise AssertionError("%s; it is %s\nlog:\n%s" % (e, json.dumps(last), self.log()[-3000:]))
        return last

    def botctl(self, *args, check=True, stdin=None):
        r = subprocess.run([os.path.join(BUILD, "botctl"), "--config", self.conf, *args], input=stdin,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env, timeout=DEADLINE + 30,
                           universal_newlines=not isinstance(stdin, bytes))
        if check and r.returncode != 0:
            raise AssertionError("botctl %s: exit %d\n%s%s" % (" ".join(args), r.returncode, r.stdout, r.stderr))
        return r

    def rss_kib(self):
        with open("/proc/%d/status" % self.pid) as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


class Rig:
    def __init__(self, name):
        self.dir = tempfile.mkdtemp(prefix="bot-%s-" % name)
        self.processes = []
        self.numbers = itertools.count()
        self.expected = []
        self._certificate = None

    def daemon(self, text, **kw):
        return Daemon(self, text, **kw)

    def redis(self, **kw):
        return Redis(self, **kw)

    def rabbit(self, **kw):
        return Rabbit(self, **kw)

    def sqs(self, **kw):
        """An emulator; only those who use it need node."""
        import fauxsqs
        return fauxsqs.FauxSqs(self, **kw)

    def pubsub(self, **kw):
        """Our fake."""
        import pubsub
        return pubsub.FakePubsub(self, **kw)

    def pubsub_emulator(self, **kw):
        """Google's; Skip where it is not installed."""
        import pubsub
        return pubsub.Emulator(self, **kw)

    def certificate(self):
        if not self._certificate:
            if not shutil.which("openssl"):
                raise Skip("openssl(1) is not installed")
            self._certificate = Certificate(self.dir)
        return self._certificate

    def expect_log(self, pattern):
        """Warnings and errors that this test provokes (a regular expression)."""
        self.expected.append(re.compile(pattern))

    def path(self, *parts):
        p = os.path.join(self.dir, *parts)
        os.makedirs(os.path.dirname(p), exist_ok=True)
        return p

    def write(self, name, text, mode=0o644):
        p = self.path(name)
        with open(p, "wb" if isinstance(text, bytes) else "w") as f:
            f.write(text)
        os.chmod(p, mode)
        return p

    def unexpected(self):
        for p in self.processes:
            if not isinstance(p, Daemon):
                continue
            for line in p.log().splitlines():
                bad = (re.match(r"<[0-4]>", line) and not MACHINE.search(line)) or "Sanitizer" in line or \
                    "runtime error" in line
                if bad and not any(e.search(line) for e in self.expected):
                    yield line

    def drain(self):
        """Ends the daemons in order, as long as their peers are there; None, or
        what is wrong."""
        left = None
        daemons = [p for p in self.processes if isinstance(p, Daemon) and p.alive()]
        for p in daemons:
            p.signal(signal.SIGTERM)
        for p in daemons:
            try:
                p.p.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                left = "bot-operatord did not drain in time"
        return left

    def close(self, failed):
        left = self.drain()
        unexpected = list(self.unexpected())
        logs = [(p.name, p.log()[-6000:]) for p in self.processes if isinstance(p, Daemon)]
        for p in reversed(self.processes):
            p.kill()
        shutil.rmtree(self.dir, ignore_errors=True)
        if failed or left or unexpected:
            for name, log in logs:
                print("# log of %s:\n#   %s" % (name, log.replace("\n", "\n#   ")))
        if not failed and left:
            raise AssertionError(left)
        if not failed and unexpected:
            raise AssertionError("unexpected warnings:\n" + "\n".join(unexpected))


class Shared:
    rig = None
    made = {}


def shared(name, make):
    """What the tests of a file share: make(rig) at the first call, ended after
    the last test."""
    if Shared.rig is None:
        Shared.rig = Rig("shared")
    if name not in Shared.made:
        Shared.made[name] = make(Shared.rig)
    return Shared.made[name]


def main(names, jobs=1):
    """Runs the test_* functions (or those named as arguments), prints TAP.  So
    many at a time, each in a process of its own, when they mostly wait."""
    tests = [(n, f) for n, f in names.items() if n.startswith("test_") and callable(f)]
    if len(sys.argv) > 1:
        tests = [(n, f) for n, f in tests if n in sys.argv[1:]]
    print("1..%d" % len(tests))
    try:
        bad = Jobs(tests).run(jobs) if jobs > 1 and len(tests) > 1 else run(tests)
    finally:
        if Shared.rig:
            Shared.rig.close(False)
    sys.exit(1 if bad else 0)


class Jobs:
    """Tests, so many at a time, each in a fork of this process: an interpreter
    of its own would cost more than many a test.  Printed in their order."""

    def __init__(self, tests):
        self.tests = tests
        self.running, self.ended = {}, {}       # pid: (number, file); number: (status, output)
        self.bad = self.printed = 0

    def run(self, most):
        for i, test in enumerate(self.tests):
            if len(self.running) == most:
                self.wait()
            self.start(i, test)
        while self.running:
            self.wait()
        return self.bad

    def start(self, i, test):
        out = tempfile.TemporaryFile()
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            os._exit(self.child(test))
        self.running[pid] = i, out

    @staticmethod
    def child(test):
        status = 1
        try:
            status = 1 if run([test]) else 0
            if Shared.rig:
                Shared.rig.close(False)
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        return status

    def wait(self):
        pid, status = os.wait()
        i, out = self.running.pop(pid)
        out.seek(0)
        self.ended[i] = status, out.read().decode(errors="replace")
        out.close()
        while self.printed in self.ended:
            self.show(*self.ended.pop(self.printed))

    def show(self, status, text):
        lines = text.splitlines()
        if not any(re.match(r"(not )?ok ", x) for x in lines):
            lines.append("not ok 1 - %s" % self.tests[self.printed][0])
            status = 1
        self.bad += status != 0
        self.printed += 1
        for x in lines:
            print(re.sub(r"^((not )?ok) \d+", r"\1 %d" % self.printed, x))
        sys.stdout.flush()


def run(tests):
    """How many failed."""
    bad = 0
    for i, (name, fn) in enumerate(tests, 1):
        start = time.monotonic()
        rig = Rig(name[5:25])
        line, failed = "ok %d - %s" % (i, name), True
        try:
            args = [rig] if inspect.signature(fn).parameters else []
            try:
                fn(*args)
                failed = False
            finally:
                rig.close(failed or isinstance(sys.exc_info()[1], Skip))
        except Skip as e:
            line += " # SKIP %s" % e
        except BaseException as e:
            bad += 1
            line = "not ok %d - %s" % (i, name)
            print("# " + traceback.format_exc().rstrip().replace("\n", "\n# "))
            if isinstance(e, KeyboardInterrupt):
                print(line)
                raise
        print("%s # %.2f s" % (line, time.monotonic() - start) if "#" not in line else line)
        sys.stdout.flush()
    return bad
