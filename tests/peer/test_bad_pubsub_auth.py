"""Pub/Sub of a script with Google's token servers beside it: who we say that we
are, tokens that end before their time, servers that give none, the backlog of
Cloud Monitoring; and that no token is ever said aloud.
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import google_peer as g  # noqa: E402
import pubsub_peer as p  # noqa: E402
import rig  # noqa: E402
from pubsub_world import fill, rate, settled_once, together, world, world_of  # noqa: E402
from rig import wait_for  # noqa: E402

USER = world_of(auth="user")


def bearers(w, calls=None):
    return [c.metadata.get("authorization", "")[7:] for c in (w.peer.asked() if calls is None else calls)]


# ---- each kind of credentials ----

def kind(r, named, **kw):
    r.expect_log("dead letters")
    with world(r, **kw) as w:
        d = w.start(log="debug")
        w.jobs.fill("once", "dead", "fine")
        d.wait_queue("jobs", done=2, dead=1)
        methods = {c.method for c in w.peer.asked()}
        assert methods >= {"GetSubscription", "StreamingPull", "Acknowledge", "ModifyAckDeadline", "Publish"}, methods
        assert all(bearers(w)) and w.google.refused == [], (bearers(w), w.google.refused)
        assert named in d.queue("jobs")["credentials"], d.queue("jobs")["credentials"]
        return w


def test_credentials_of_a_user(r):
    """A refresh token, exchanged once for all calls."""
    w = kind(r, "user", auth="user")
    assert len([q for q in w.google.requests if q.path == "/token"]) <= 2    # one is Monitoring's
    assert len(set(bearers(w))) == 1 and set(bearers(w)) <= set(w.google.issued)


def test_credentials_of_a_service_account(r):
    """It signs for itself: nobody is asked."""
    w = kind(r, "service account jobs@p1.iam.gserviceaccount.com", auth="service")
    assert [q for q in w.google.requests if q.path == "/token"] == []
    assert len(set(bearers(w))) == 1 and bearers(w)[0].count(".") == 2


def test_credentials_of_the_metadata_server(r):
    w = kind(r, "metadata server", auth="metadata", tls=True)
    assert len([q for q in w.google.requests if q.path == g.TOKEN]) <= 2
    assert len(set(bearers(w))) == 1 and set(bearers(w)) <= set(w.google.issued)


def test_plaintext_without_a_file_needs_no_credentials(r):
    """Nor are those sent that the environment has: it is an emulator."""
    with world(r) as w:
        env = dict(w.env(), GOOGLE_APPLICATION_CREDENTIALS=w.google.user_file(r))
        w.start(env=env)
        w.heal_and_work()
        assert bearers(w) and not any(bearers(w)) and w.google.requests == []


def test_the_environment_s_file_over_tls(r):
    with world(r, tls=True, auth="user") as w:
        w.file, path = None, w.file
        w.start(env=g.clean_env(GOOGLE_APPLICATION_CREDENTIALS=path))
        w.heal_and_work()
        assert len(set(bearers(w))) == 1 and set(bearers(w)) <= set(w.google.issued)


def test_whose_quota_it_is(r):
    with world(r, auth="user") as w:
        w.file = w.google.user_file(r, quota_project_id="quota-7")
        d = w.start()
        w.jobs.fill("once")
        d.wait_queue("jobs", done=1)
        assert {c.metadata.get("x-goog-user-project") for c in w.peer.asked()} == {"quota-7"}


def test_no_quota_project_unless_it_is_named(r):
    with world(r, auth="user") as w:
        w.start()
        w.heal_and_work()
        assert not any("x-goog-user-project" in c.metadata for c in w.peer.asked())


def test_invariant_7_pubsub_secrets_stay(r):
    def check(w, auth):
        env_file = w.r.path("worker-env")
        d = w.start("cat /proc/$$/environ /proc/$PPID/environ > %s; tr '\\0' ' ' < /proc/$PPID/cmdline >> %s" % (
            env_file, env_file), log="debug")
        w.jobs.fill("once", "dead", "fine")
        d.wait_queue("jobs", done=2, dead=1)
        with open(env_file, errors="replace") as f:
            text = f.read()
        assert "BOT_QUEUE" in text and not any(s in text for s in w.SECRETS), "the worker knows them"
        w.check_secrets()
        with open("/proc/%d/cmdline" % d.pid) as f:
            assert not any(s in f.read() for s in w.SECRETS)
        # Nor when it is refused, and the refusal repeats it.
        said = bearers(w)[-1]
        w.peer.rule("*", p.status("UNAUTHENTICATED", "the token %s is no good" % said))
        w.finish(follows=False)
        assert said not in w.wait_error("UNAUTHENTICATED")["text"]
        assert said not in d.log()
    r.expect_log("jobs|dead letters|token")
    for auth in ("user", "service"):
        together(r, (auth,), check, make=world_of(auth=auth))


# ---- tokens that are refused ----

def test_a_token_that_is_revoked(r):
    """Refused once: another is fetched, the call sent again, and nobody hears of it."""
    r.expect_log("token")
    with world(r, auth="user") as w:
        d = w.start()
        w.heal_and_work()
        w.google.revoke_all()
        fill(w, 10)
        d.wait_queue("jobs", 30, done=11, settle_errors=0)
        w.wait_empty()
        q = d.queue("jobs")
        assert q["connects"] == 1 and q["connected"] and len(w.google.issued) <= 4, (q, w.google.issued)


def test_a_stream_that_is_refused_for_its_token(r):
    r.expect_log("token")
    with world(r, auth="user") as w:
        d = w.start()
        w.heal_and_work()
        w.google.revoke_all()
        w.finish("UNAUTHENTICATED", "the token has ended")
        wait_for("a stream with a new token", lambda: w.peer.streams() and
                 w.google.authorize(bearers(w, w.peer.streams()[-1:])[0]))
        w.heal_and_work()
        assert d.queue("jobs")["connects"] == 1


def test_tokens_that_are_all_refused(r):
    """One new token is tried, then it is down, and asks neither side all the time."""
    r.expect_log("jobs|token")
    with world(r, auth="user") as w:
        w.peer.authorize = lambda bearer: False
        d = w.start(wait="status")
        e = w.wait_error("UNAUTHENTICATED")
        assert e["class"] == "auth" and len(e["text"]) > 20, e
        w.others_work()
        before = len(w.google.issued)
        assert rate(w, 3) < 10
        assert len(w.google.issued) - before <= 6, "it hammers the token endpoint"
        w.peer.authorize = w.google.authorize
        w.d.wait_queue("jobs", 70, connected=True)
        w.heal_and_work()
        assert d.queue("jobs")["done"] == 1


def test_a_service_account_that_is_not_known(r):
    r.expect_log("jobs|token")
    with world(r, auth="service") as w:
        address, key = w.google.accounts.popitem()
        w.start(wait="status")
        e = w.wait_error("UNAUTHENTICATED")
        assert e["class"] == "auth", e
        w.google.accounts[address] = key
        w.d.wait_queue("jobs", 70, connected=True)
        w.heal_and_work()


def test_tokens_revoked_in_the_middle_of_load(r):
    r.expect_log("token|jobs")
    with world(r, auth="user") as w:
        n = 300
        d = w.start("sleep 0.01", workers="4-4")
        fill(w, n)
        for part in (1, 2, 3):
            wait_for("part of the work", lambda: d.queue("jobs")["done"] >= n * part // 5, 40)
            before = len(w.google.issued)
            w.google.revoke_all()
            # Those that follow one another fast are spaced out.
            wait_for("a new token", lambda: len(w.google.issued) > before, 40)
        settled_once(w, n, settle_errors=0)


def test_short_lived_tokens_are_renewed_in_time(r):
    """Of five seconds each: no call is ever made with one that has ended."""
    with world(r, auth="user", lifetime=5) as w:
        d = w.start()
        end, n = time.monotonic() + 12, 0
        while time.monotonic() < end:
            fill(w, 1)
            n += 1
            d.wait_queue("jobs", done=n)
        assert len(w.google.issued) >= 3 and w.google.refused == [], (w.google.issued, w.google.refused)
        assert d.queue("jobs")["connects"] == 1


# ---- servers that give no token ----

def without_token(r, action, words, cls="auth|transient|protocol", path="/token", heal=True, **kw):
    r.expect_log("jobs|token")
    kw.setdefault("auth", "user")
    with world(r, **kw) as w:
        rule = w.google.rule("*" + path, action)
        w.start(wait="status")

        def named():
            e = w.error()
            return all(x.lower() in e.get("text", "").lower() for x in words) and e
        e = wait_for("an error with %s" % (words,), named, 40)
        assert e["class"] in cls.split("|"), e
        w.others_work()
        assert w.peer.called() == [], "it asked without a token"
        before = len(w.google.requests)
        assert rate(w, 2) < 5 and len(w.google.requests) - before < 10
        w.d.check_turns()
        rule.remove()
        if heal:
            w.d.wait_queue("jobs", 70, connected=True)
            w.heal_and_work()


def test_a_grant_that_is_refused(r):
    without_token(r, g.grant_refused(), ("invalid_grant", "gcloud auth application-default login"), "auth")


def test_a_token_endpoint_that_fails(r):
    without_token(r, g.reply(503), ("503",), "transient")


def test_a_token_endpoint_that_never_answers(r):
    without_token(r, g.never(), ("127.0.0.1",), "transient")


def test_a_token_endpoint_that_answers_rubbish(r):
    without_token(r, g.reply(200, b"<html>login to the wifi</html>"), (), "protocol|auth")


def test_a_metadata_server_without_an_account(r):
    without_token(r, g.reply(404, b"", {"Metadata-Flavor": "Google"}), ("service account",), "auth", g.TOKEN,
                  auth="metadata", tls=True)


def test_a_metadata_server_that_is_another_s(r):
    """Without its header it is a captive portal, say: what it gives is not used."""
    without_token(r, g.reply(200, {"access_token": "ya29.s3cr3t-of-others", "expires_in": 3600}), ("metadata",),
                  path=g.TOKEN, auth="metadata", tls=True)


def test_no_credentials_says_where_was_looked(r):
    r.expect_log("jobs")
    with world(r, tls=True, auth="user") as w:
        w.file, path = None, w.file
        home = os.path.join(r.dir, "home")
        w.start(wait="status", env=g.clean_env(HOME=home))
        e = w.wait_error("google_credentials")
        assert e["class"] == "auth" and w.peer.called() == [], e
        text = e["text"] + w.d.log()
        for place in ("GOOGLE_APPLICATION_CREDENTIALS", "application_default_credentials.json", "metadata"):
            assert place in text, (place, text)
        with open(path) as f:
            r.write("home/.config/gcloud/application_default_credentials.json", f.read(), 0o600)
        w.d.wait_queue("jobs", 70, connected=True)
        w.heal_and_work()


def test_a_file_that_is_no_good_is_named_and_healed(r):
    def check(w, text):
        right, w.file = w.file, w.r.write("bad.json", text, 0o600)
        w.start(wait="status")
        e = w.wait_error("google_credentials")
        assert e["class"] == "auth" and "bad.json" in e["text"], e
        with open(right) as f:
            w.r.write("bad.json", f.read(), 0o600)
        w.d.wait_queue("jobs", 70, connected=True)
        w.heal_and_work()
    r.expect_log("jobs")
    together(r, ("", "{", "[]", '{"type":"authorized_user"}', '{"type":"service_account","private_key":"x",'
                 '"client_email":"a@b"}', '{"type":"something_new"}'), check, make=USER)


def test_stop_while_a_token_is_waited_for(r):
    r.expect_log("jobs|token")
    with world(r, auth="user") as w:
        w.google.rule("/token", g.never())
        d = w.start(wait="status")
        wait_for("it to ask", lambda: w.google.requests)
        begin = time.monotonic()
        assert d.stop() == 0
        assert time.monotonic() - begin < 6


def test_the_token_endpoint_away_while_tokens_are_good(r):
    """Renewed early: an endpoint that is away for a while is a warning."""
    r.expect_log("token")
    with world(r, auth="user", lifetime=15) as w:
        d = w.start()
        w.heal_and_work()
        rule = w.google.rule("/token", g.reply(500))
        wait_for("it to be asked in vain", lambda: rule.hits, 30)
        w.heal_and_work()
        rule.remove()
        wait_for("a new token", lambda: len(w.google.issued) >= 2, 30)
        w.heal_and_work()
        assert d.queue("jobs")["connects"] == 1


# ---- the backlog ----

def backlog(w):
    q = w.d.queue("jobs")
    return q["backlog"], q["backlog_age_seconds"], q["backlog_sampled_seconds"]


def test_the_backlog_and_how_old_it_is(r):
    with world(r, auth="user") as w:
        w.google.backlog.update(num_undelivered_messages=(12345, 90), oldest_unacked_message_age=(77, 90))
        w.start()
        wait_for("the backlog", lambda: backlog(w)[0] == 12345)
        n, age, sampled = backlog(w)
        assert age == 77 and 85 <= sampled <= 130, (n, age, sampled)
        asked = [q for q in w.google.requests if "timeSeries" in q.path]
        assert len(asked) < 10, "%d questions: it is sampled once a minute" % len(asked)


def test_a_backlog_that_nobody_knows(r):
    """No sample: not 0."""
    with world(r, auth="user") as w:
        w.start()
        wait_for("the question", lambda: [q for q in w.google.requests if "timeSeries" in q.path])
        w.heal_and_work()
        assert backlog(w)[0] is None


def test_a_backlog_that_may_not_be_seen(r):
    """A notice, once; everything else goes on."""
    def check(w, row):
        action, words = row
        w.google.rule("*timeSeries", action)
        d = w.start()
        wait_for("it to be said", lambda: "backlog" in d.log().lower() and all(x in d.log() for x in words))
        w.heal_and_work()
        assert backlog(w)[0] is None and d.queue("jobs")["connected"] and d.queue("jobs")["error"] is None
        assert len([x for x in d.log().splitlines() if "backlog is not known" in x]) == 1, d.log()
        assert d.queue("jobs")["backlog_error"] in d.log()
    together(r, (
        (g.refusal(403, "PERMISSION_DENIED"), ("PERMISSION_DENIED", "roles/monitoring.viewer")),
        (g.refusal(403, "PERMISSION_DENIED", reason="SERVICE_DISABLED"),
         ("SERVICE_DISABLED", "gcloud services enable")),
        (g.refusal(404, "NOT_FOUND"), ("NOT_FOUND",)),
        (g.refusal(429, "RESOURCE_EXHAUSTED"), ("RESOURCE_EXHAUSTED",)),
        (g.reply(200, b"rubbish"), ("backlog",))), check, make=USER)


def test_monitoring_that_never_answers(r):
    with world(r, auth="user") as w:
        w.google.rule("*timeSeries", g.never())
        d = w.start()
        w.heal_and_work()
        begin = time.monotonic()
        assert d.stop() == 0
        assert time.monotonic() - begin < 6


def test_dead_letters_in_the_backlog(r):
    with world(r, auth="user") as w:
        w.google.backlog.update(num_undelivered_messages=(3, 60))
        w.start()
        wait_for("both", lambda: backlog(w)[0] == 3 and w.d.queue("jobs")["dead_backlog"] == 3)
        filters = [q.path for q in w.google.requests if "timeSeries" in q.path]
        assert any("jobs-dead-pull" in x for x in filters), filters


if __name__ == "__main__":
    rig.main(globals(), jobs=3)
