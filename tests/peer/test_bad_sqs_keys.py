"""SQS of a scripted AWS over TLS: signatures, clocks, credentials from each place
that has some, keys that end, proxies, and secrets that stay.
"""
import json
import os
import ssl
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from aws_peer import Metadata, Proxy, Reply, clean_env  # noqa: E402
from rig import wait_for  # noqa: E402
from sqs_world import dead, settled_once, world  # noqa: E402

# ---- signatures ----

def test_every_request_is_signed_by_the_right_key(r):
    with world(r) as w:
        keys = w.peer.issue(token=True)
        del w.peer.keys[w.peer.first.access]
        d = w.start(env=w.peer.env(keys))
        r.expect_log("dead letters")
        w.jobs.fill("once", "dead", "fine", "z\u00fcrich")
        d.wait_queue("jobs", done=3, dead=1)
        assert {q.key for q in w.peer.requests} == {keys.access}
        assert {q.by_name["x-amz-security-token"] for q in w.peer.requests} == {keys.token}
        kinds = {q.target for q in w.peer.requests}
        assert {"ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"} <= kinds, kinds
        agent = {q.by_name.get("user-agent", "") for q in w.peer.requests}
        assert all("bot-operator" in a for a in agent if a), agent


def keys_file(r, keys, secret=None):
    return r.write("credentials", "[default]\naws_access_key_id=%s\naws_secret_access_key=%s\n" % (
        keys.access, secret or keys.secret), 0o600)


def test_a_wrong_secret_is_named_and_healed(r):
    r.expect_log("jobs|credential")
    with world(r) as w:
        path = keys_file(r, w.peer.first, "wrong-s3cr3t")
        w.start(wait="status", env=clean_env(), CredentialsFile=path)
        e = w.wait_error("SignatureDoesNotMatch")
        assert e["class"] == "auth", e
        keys_file(r, w.peer.first)
        w.heal_and_work()


def test_an_unknown_key_is_named_and_healed(r):
    r.expect_log("jobs|credential")
    with world(r) as w:
        stranger = w.peer.issue(token=False)
        del w.peer.keys[stranger.access]
        path = keys_file(r, stranger)
        w.start(wait="status", env=clean_env(), CredentialsFile=path)
        assert w.wait_error("InvalidClientTokenId")["class"] == "auth"
        keys_file(r, w.peer.first)
        w.heal_and_work()


def test_a_wrong_session_token_is_named(r):
    r.expect_log("jobs|credential")
    with world(r) as w:
        env = dict(w.peer.env(), AWS_SESSION_TOKEN="made-up-s3cr3t")
        w.start(wait="status", env=env)
        w.wait_error("InvalidClientTokenId")


def test_the_wrong_region_is_named(r):
    r.expect_log("jobs")
    with world(r) as w:
        w.start(wait="status", Region="us-east-1")
        w.wait_error("SignatureDoesNotMatch")


def skew(seconds, name="SignatureDoesNotMatch"):
    def test(r):
        """Learned from the Date of the refusal; the queue never goes down for it."""
        with world(r) as w:
            w.peer.clock, w.peer.skewed = seconds, name
            # Several requests are on their way with the wrong time.
            d = w.start(Receivers="4-4")
            w.jobs.fill(*["a%d" % i for i in range(10)])
            d.wait_queue("jobs", done=10)
            offset = d.queue("jobs")["clock_offset_seconds"]
            assert abs(offset - seconds) <= 3, offset
            refused = [q for q in w.peer.requests if q.reply and q.reply.status == 403]
            assert 1 <= len(refused) <= 20, len(refused)
            # Somebody sets the clock right in the middle of the work.
            w.peer.clock = 0
            w.jobs.fill(*["b%d" % i for i in range(10)])
            d.wait_queue("jobs", 30, done=20)
            assert abs(d.queue("jobs")["clock_offset_seconds"]) <= 3
            assert d.queue("jobs")["connects"] == 1
            w.wait_empty()
            assert len(w.out()) == 20
    return test


test_clock_an_hour_slow = skew(3600)
test_clock_a_day_fast = skew(-86400)
for _name in ("RequestTimeTooSkewed", "InvalidSignatureException", "RequestExpired", "AuthFailure"):
    globals()["test_clock_by_" + _name] = skew(1800, _name)


# ---- credentials, from each that has some ----

def test_no_credentials_says_who_was_asked(r):
    r.expect_log("jobs")
    with world(r) as w:
        path = os.path.join(r.dir, "home", ".aws", "credentials")
        w.start(wait="status", env=clean_env(HOME=os.path.join(r.dir, "home")))
        e = w.wait_error("aws_no_credentials")
        assert e["class"] == "auth", e
        text = e["text"].lower() + w.d.log().lower()
        for provider in ("environment", "profile default", "metadata"):
            assert provider in text, (provider, text)
        assert w.peer.requests == [], "it asked without keys"
        w.others_work()
        r.write("home/.aws/credentials", "[default]\naws_access_key_id=%s\naws_secret_access_key=%s\n" % (
            w.peer.first.access, w.peer.first.secret), 0o600)
        assert os.path.exists(path)
        w.heal_and_work()
        assert "credentials" in w.d.queue("jobs")["credentials"], w.d.queue("jobs")["credentials"]


def from_provider(r, prepare, named, log=None):
    with world(r) as w:
        if log:
            r.expect_log(log)
        m = w.add(Metadata(w.peer))
        env, keys = prepare(w, m)
        d = w.start(env=env, **keys)
        w.jobs.fill(*["m%d" % i for i in range(20)])
        d.wait_queue("jobs", done=20)
        q = d.queue("jobs")
        assert named in q["credentials"].lower(), q["credentials"]
        given = {k.access for k in m.issued}
        assert {x.key for x in w.peer.requests} <= given and given, ({x.key for x in w.peer.requests}, given)
        assert len(m.issued) == 1, "keys were fetched %d times" % len(m.issued)
        return w, m


def test_credentials_of_instance_metadata(r):
    w, m = from_provider(r, lambda w, m: (m.imds_env(), {}), "metadata")
    assert m.requests[0].method == "PUT"


def test_credentials_of_a_container(r):
    from_provider(r, lambda w, m: (m.container_env(), {}), "container")


def test_credentials_of_a_web_identity(r):
    from_provider(r, lambda w, m: (m.sts_env(r.write("token", m.IDENTITY, 0o600)), {}), "web identity")


def test_credentials_of_a_role(r):
    """AssumeRole by STS, signed with the keys of a source profile."""
    def prepare(w, m):
        config = r.write("config", """[profile jobs]
role_arn = arn:aws:iam::123456789012:role/jobs
source_profile = base
[profile base]
aws_access_key_id = %s
aws_secret_access_key = %s
""" % (w.peer.first.access, w.peer.first.secret), 0o600)
        return clean_env(AWS_ENDPOINT_URL_STS=m.url), {"ConfigFile": config, "Profile": "jobs"}
    from_provider(r, prepare, "role")


def process_config(r, w, body):
    script = r.write("keys.sh", "#!/bin/sh\necho called >> %s/calls\n%s\n" % (r.dir, body), 0o755)
    return r.write("config", "[profile jobs]\ncredential_process = %s 'an argument'\n" % script, 0o600)


def process_json(k, lifetime=3600):
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + lifetime))
    return json.dumps({"Version": 1, "AccessKeyId": k.access, "SecretAccessKey": k.secret, "SessionToken": k.token,
                       "Expiration": end})


def test_credentials_of_a_process(r):
    with world(r) as w:
        k = w.peer.issue()
        config = process_config(r, w, "echo '%s'" % process_json(k))
        d = w.start(env=clean_env(), ConfigFile=config, Profile="jobs")
        w.jobs.fill(*["m%d" % i for i in range(20)])
        d.wait_queue("jobs", done=20)
        assert "credential_process" in d.queue("jobs")["credentials"], d.queue("jobs")["credentials"]
        assert {x.key for x in w.peer.requests} == {k.access}
        with open(r.path("calls")) as f:
            assert f.read() == "called\n"


def test_a_credential_process_that_fails_is_named_and_healed(r):
    r.expect_log("jobs|credential")
    with world(r) as w:
        k = w.peer.issue()
        config = process_config(r, w, "echo 'no token in the slot' >&2; exit 3")
        w.start(wait="status", env=clean_env(), ConfigFile=config, Profile="jobs")
        wait_for("the reason", lambda: "no token in the slot" in w.error().get("text", ""))
        assert w.error()["class"] == "auth", w.error()
        w.others_work()
        process_config(r, w, "echo '%s'" % process_json(k))
        w.heal_and_work()


def test_invariant_3_a_credential_process_that_hangs(r):
    r.expect_log("jobs|credential")
    with world(r) as w:
        config = process_config(r, w, "exec sleep 120")
        w.start(wait="status", env=clean_env(), ConfigFile=config, Profile="jobs")
        wait_for("it to run", lambda: os.path.exists(r.path("calls")))
        w.others_work()
        w.d.check_turns()
        begin = time.monotonic()
        assert w.d.stop() == 0
        assert time.monotonic() - begin < 6


def test_metadata_that_fails_is_named_and_healed(r):
    r.expect_log("jobs|credential")
    with world(r) as w:
        m = w.add(Metadata(w.peer))
        m.fail["/latest/meta-data/iam/*"] = Reply(404)
        w.start(wait="status", env=m.imds_env())
        wait_for("the reason", lambda: w.error().get("class") in ("auth", "transient") and
                 w.error()["code"] != "connecting")
        w.others_work()
        del m.fail["/latest/meta-data/iam/*"]
        w.heal_and_work()


def test_the_region_of_instance_metadata(r):
    with world(r) as w:
        m = w.add(Metadata(w.peer, region="eu-west-1"))
        d = w.start(env=m.imds_env(), Region=None)
        w.heal_and_work()
        assert d.queue("jobs")["region"] == "eu-west-1"


def load_over_expiry(r, env_of, lifetime=3600, end=None):
    """Work goes on while keys end: no message twice, none lost, never down."""
    r.expect_log("credential|Expired")
    with world(r) as w:
        m = w.add(Metadata(w.peer, lifetime))
        n = 400
        d = w.start("sleep 0.01", env=env_of(w, m), workers="2-2", Prefetch="20", Lease="20s")
        w.jobs.fill(*["m%d" % i for i in range(n)])
        if end:
            for part in (1, 2):
                wait_for("part of the work", lambda: d.queue("jobs")["done"] >= n * part // 4)
                old = list(m.issued)
                # They end before they said they would, as when a role is revoked.
                for k in old:
                    k.expires = time.time()
                wait_for("new keys", lambda: len(m.issued) > len(old))
        d.wait_queue("jobs", 60, done=n)
        w.wait_empty()
        assert sorted(w.out()) == sorted("m%d" % i for i in range(n)), len(w.out())
        q = d.queue("jobs")
        assert q["connects"] == 1 and q["settle_errors"] == 0 and q["received"] == n, q
        assert len(m.issued) >= 3
        assert len({x.key for x in w.peer.requests if x.reply and x.reply.status == 200}) >= 2


def test_keys_of_metadata_end_in_the_middle_of_load(r):
    load_over_expiry(r, lambda w, m: m.imds_env(), end=True)


def test_keys_of_a_container_end_in_the_middle_of_load(r):
    load_over_expiry(r, lambda w, m: m.container_env(), end=True)


def test_keys_of_sts_end_in_the_middle_of_load(r):
    load_over_expiry(r, lambda w, m: m.sts_env(r.write("token", m.IDENTITY, 0o600)), end=True)


def test_short_lived_keys_are_renewed_in_time(r):
    """Of three seconds each: nothing is ever signed with one that has ended."""
    with world(r) as w:
        m = w.add(Metadata(w.peer, 3))
        d = w.start(env=m.container_env())
        end = time.monotonic() + 8
        n = 0
        while time.monotonic() < end:
            w.jobs.fill("m%d" % n)
            n += 1
            d.wait_queue("jobs", done=n)
        assert len(m.issued) >= 3
        refused = [x for x in w.peer.requests if x.reply and x.reply.status == 403]
        assert refused == [], refused


def test_metadata_away_while_keys_are_good(r):
    """Keys are renewed early: a metadata service that is away for a while is a warning."""
    r.expect_log("credential")
    with world(r) as w:
        m = w.add(Metadata(w.peer, 12))
        d = w.start(env=m.container_env())
        w.heal_and_work()
        m.fail["/container"] = Reply(500)
        wait_for("the warning", lambda: "could not be refreshed" in d.log())
        w.heal_and_work()
        m.fail.clear()
        wait_for("new keys", lambda: len(m.issued) >= 2)
        w.heal_and_work()
        assert d.queue("jobs")["connects"] == 1


# ---- proxies and secrets ----

def test_a_proxy_by_environment(r):
    cert = r.certificate()
    mine, key = os.path.join(r.dir, "p.pem"), os.path.join(r.dir, "p-key.pem")
    cert.issue(mine, key, "sqs.example.test", "subjectAltName=DNS:sqs.example.test\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mine, key)
    with world(r, context=context) as w:
        proxy = w.add(Proxy(w.peer.port, "user:pw-s3cr3t"))
        w.peer.endpoint = "https://sqs.example.test"
        d = w.start(env=dict(w.peer.env(), HTTPS_PROXY=proxy.url), log="debug")
        w.jobs.fill(*["m%d" % i for i in range(20)])
        settled_once(w, 20)
        assert set(proxy.targets) == {"sqs.example.test:443"}, proxy.targets
        assert all(q.by_name["host"] == "sqs.example.test" for q in w.peer.requests)
        assert d.queue("jobs")["endpoint"] == "https://sqs.example.test"
        assert proxy.requests[0].by_name.get("authorization") is None


def test_a_proxy_that_refuses_is_named(r):
    r.expect_log("jobs")
    with world(r) as w:
        proxy = w.add(Proxy(w.peer.port, "user:pw-s3cr3t"))
        proxy.url = "http://user:wrong-s3cr3t@127.0.0.1:%d" % proxy.port
        w.peer.endpoint = "https://sqs.example.test"
        w.start(wait="status", env=dict(w.peer.env(), HTTPS_PROXY=proxy.url))
        assert w.wait_error("proxy_auth")["class"] == "auth"


def test_invariant_7_sqs_secrets_stay(r):
    with world(r) as w:
        keys = w.peer.issue(token=True)
        env_file = r.path("worker-env")
        r.expect_log("dead letters")
        d = w.start("cat /proc/$$/environ /proc/$PPID/environ > %s; tr '\\0' ' ' < /proc/$PPID/cmdline >> %s" % (
            env_file, env_file), env=w.peer.env(keys), log="debug")
        w.jobs.fill("once", "dead", "fine")
        d.wait_queue("jobs", done=2, dead=1)
        w.others_work()
        with open(env_file, errors="replace") as f:
            text = f.read()
        assert "BOT_QUEUE" in text, text
        assert "s3cr3t" not in text and "AWS_SECRET_ACCESS_KEY" not in text, "the worker knows the keys"
        w.check_secrets()
        assert "s3cr3t" not in "".join(dead(w, *x).stdout for x in (("list",),))
        with open("/proc/%d/cmdline" % d.pid) as f:
            assert "s3cr3t" not in f.read()
        if os.geteuid() != 0:
            assert not os.access("/proc/%d/mem" % d.pid, os.R_OK)


def test_plain_http_to_elsewhere_is_refused(r):
    """Signed requests carry a session token: not in the clear, but on loopback."""
    text = "[Pool work]\nCommand=/bin/true\n[Queue q]\nType=sqs\nRegion=eu-west-1\nName=jobs\nEndpoint=%s\n"
    for url, good in (("http://127.0.0.1:4566", True), ("http://localhost:4566", True),
                      ("https://vpce-1.sqs.eu-west-1.vpce.amazonaws.com", True)):
        path = r.write("check.conf", text % url)
        p = subprocess.run([os.path.join(rig.BUILD, "bot-operatord"), "--config", path, "--check"],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=20)
        assert (p.returncode == 0) == good, (url, p.stdout)


if __name__ == "__main__":
    rig.main(globals(), jobs=3)
