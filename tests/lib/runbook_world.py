"""runbook_world.py - the machine in which the commands of the documents run.

The package is installed and started as its scripts do it; redis-server and
rabbitmq-server are real; client-sample is the example that is shipped, with a
drop-in: a handler that does what the body of a message says (HANDLER below),
a queue "payments" of Redis and "invoices" of RabbitMQ.  Besides what
packages have there is "eventually COMMAND" for the notes above blocks.
"""
import os
import tempfile

import booted
import packages

# For who writes pages: what is in BUILD_DIR (configured with --prefix=/usr
# --sysconfdir=/etc --localstatedir=/var --libexecdir=/usr/libexec) as it is,
# without making packages; what apt does cannot be tried then.
FROM_BUILD = os.environ.get("BOT_RUNBOOK_FROM") == "build"
# In addition to what BASE of booted.py has.
PACKAGES = ["redis-server", "redis-tools", "rabbitmq-server", "curl", "jq", "openssl", "python3-minimal"]

HANDLER = '''"""A handler that does what the body says; the name of a behaviour anywhere in it."""
import os
import sys
import time

sys.path.insert(0, "/usr/share/bot-operator/handlers")
import bot_handler


def handle(message):
    body = message.text()
    if "later" in body:
        raise bot_handler.Retry(delay=0.5, error_type="external_api", detail="503 from the shop")
    if "broken" in body:
        raise bot_handler.Dead("invalid_format", "no customer")
    if "crash" in body:
        os._exit(3)
    if "pause" in body:
        raise bot_handler.RateLimited(300, "429 from the shop")
    if "slow" in body:
        time.sleep(60)
    if "short" in body:
        time.sleep(0.2)


bot_handler.run(handle)
'''

DROP_IN = """# The test's own.
[Pool mail]
Command=
Exec=/usr/bin/python3 /usr/local/lib/client-sample/handler.py
Workers=2-8
Timeout=3s
KillGrace=1s
MemoryMax=256M

[Queue orders]
MaxAttempts=2
Backoff=500ms-1s
RateLimit=1000/s

[Queue payments]
Type=redis
Address=127.0.0.1:6379
Key=payments
Pool=mail
MaxAttempts=3
Backoff=500ms-1s
BacklogInterval=500ms

[Queue invoices]
Type=rabbitmq
Address=127.0.0.1
Name=invoices
Declare=quorum
Pool=mail
MaxAttempts=3
Backoff=500ms-1s
"""

FRESH = """
cd /etc/bot-operator && find . -name '*.conf' ! -name bot-operator.conf ! -name client-sample.conf \\
	! -name 50-test.conf -delete
rm -rf /etc/systemd/system/bot-operator*.service.d
systemctl list-units --plain --no-legend 'bot-operator@*.service' 'bot-operator-backup@*.service' | cut -d' ' -f1 |
	grep -v '@client-sample' | xargs -r systemctl disable --now --quiet
systemctl daemon-reload
systemctl is-active --quiet redis-server || systemctl start redis-server
systemctl disable --now --quiet bot-operator-backup@client-sample.service \\
	bot-operator-report-daily@client-sample.timer
systemctl enable --quiet bot-operator@client-sample.service
systemctl reset-failed 'bot-operator*' 2>/dev/null || true
rm -f /run/bot-operator/*.role
systemctl restart bot-operator.service bot-operator@client-sample.service
eventually "botctl -i client-sample --json status | jq -e '.status == \\"ok\\"'"
"""

EVENTUALLY = """#!/bin/bash
# eventually COMMAND: runs the line until it succeeds, for a minute.
end=$(($(date +%s) + 60))
until bash -o pipefail -c "$*" >/tmp/eventually.out 2>&1; do
	if [ "$(date +%s)" -ge $end ]; then
		cat /tmp/eventually.out
		echo "not within a minute: $*"
		exit 1
	fi
	sleep 0.2
done
"""


class Machine(packages.Machine):
    """With what the documents speak of besides."""

    def __init__(self, name):
        packages.needed()
        booted.Booted.__init__(self, name, PACKAGES, packages.libraries())


class World:
    """Enter it for the machine, with everything up."""

    def __init__(self):
        booted.needed()
        if FROM_BUILD:
            self.booted = booted.Booted("vm1", packages=PACKAGES)
        else:
            self.booted = Machine("vm1")

    def __enter__(self):
        self.machine = self.booted.__enter__()
        try:
            self.make()
        except BaseException:
            self.booted.__exit__(None, None, None)
            raise
        return self.machine

    def __exit__(self, *exc):
        return self.booted.__exit__(*exc)

    def make(self):
        m = self.machine
        m.write("/usr/local/bin/eventually", EVENTUALLY, 0o755)
        m.write("/usr/local/lib/client-sample/handler.py", HANDLER)
        m.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 vm1\n")
        m.run("systemctl start redis-server")
        self.install(m)
        m.run("cp /usr/share/doc/bot-operator/examples/client-sample.conf /etc/bot-operator/client-sample.conf")
        m.write("/etc/bot-operator/client-sample.conf.d/50-test.conf", DROP_IN)
        m.run("botctl -i client-sample check-config")
        m.run("eventually 'rabbitmqctl -q await_startup && rabbitmqctl -q list_queues'")
        m.run("systemctl enable --now bot-operator@client-sample.service")
        self.fresh()

    def install(self, m):
        """The package, and a newer version of it that apt has."""
        if FROM_BUILD:
            m.install_build()
            m.run("chmod 755 / && systemd-sysusers && systemd-tmpfiles --create && journalctl --update-catalog && "
                  "systemctl daemon-reload && systemctl preset bot-operator.service && "
                  "systemctl start bot-operator.service")
            return
        m.run("grep -l path-exclude=/usr/share/doc /etc/dpkg/dpkg.cfg.d/* | xargs -r rm")
        m.install()
        old, = packages.files("deb", "bot-operator_*.deb")
        with tempfile.TemporaryDirectory() as d:
            newer = os.path.join(d, os.path.basename(old).replace("_", "_9+", 1))
            packages.raised(old, newer, "9+" + os.path.basename(old).split("_")[1])
            m.publish(newer)

    def fresh(self):
        """As it was at the beginning, for the next page."""
        self.machine.run(FRESH, timeout=180)
