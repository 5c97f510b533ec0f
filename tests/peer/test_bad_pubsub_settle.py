"""Pub/Sub of a script: settlements, leases, exactly-once delivery, order and dead
letters when the service does them in part, late, twice, or not at all.
"""
import json
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import h2peer  # noqa: E402
import pubsub_peer as p  # noqa: E402
import rig  # noqa: E402
from pubsub_world import MODULE, dead, fill, settled_once, together, world, world_of  # noqa: E402
from rig import wait_for  # noqa: E402

EXACTLY = world_of(exactly_once=True)
RETRYABLE = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "ABORTED", "UNKNOWN")


def again(r, verdict):
    """A handler that asks for another try the first time, in these words."""
    return "Exec=%s %s" % (sys.executable, r.write("handler.py", """
import sys
sys.path.insert(0, %r)
import bot_handler


def handle(message):
    if message.attempt == 1:
        raise bot_handler.%s
    return None


bot_handler.run(handle)
""" % (os.path.join(rig.SOURCE, "scripts", "handlers", "python"), verdict)))


# ---- acknowledging ----

def test_invariant_1_done_only_after_the_answer(r):
    with world(r) as w:
        go_on = threading.Event()
        w.peer.rule("Acknowledge", p.held(go_on, first="wait"))
        d = w.start()
        fill(w, 3)
        wait_for("the acknowledgement", lambda: w.peer.asked("Acknowledge"))
        wait_for("all to have run", lambda: len(w.out()) == 3)
        q = d.queue("jobs")
        assert q["done"] == 0 and q["in_flight"] == 3, q
        go_on.set()
        settled_once(w, 3, settle_errors=0)


def test_acknowledgements_that_fail_are_repeated(r):
    def check(w, code):
        rule = w.peer.rule("Acknowledge", p.status(code), times=3)
        w.start()
        fill(w, 10)
        settled_once(w, 10, settle_errors=0)
        assert rule.hits == 3
    r.expect_log("jobs")
    together(r, RETRYABLE, check)


def test_acknowledgements_whose_answers_are_lost(r):
    """Done at the service, unknown here: said again, which does no harm."""
    def check(w, action):
        rule = w.peer.rule("Acknowledge", action, times=2)
        w.start()
        fill(w, 10)
        settled_once(w, 10, settle_errors=0, delivered_once=False)
        assert rule.hits == 2
    r.expect_log("jobs")
    together(r, (p.done_but(p.hang_up()), p.done_but(p.rst(h2peer.INTERNAL_ERROR)), p.done_but(p.missing_trailers()),
                 p.done_but(p.status("UNKNOWN")), p.hang_up(reset=True)), check)


def test_an_acknowledgement_that_is_never_answered(r):
    """While its connection is well."""
    def check(w, action):
        rule = w.peer.rule("Acknowledge", action, times=1)
        w.start(Lease="60s")
        fill(w, 3)
        settled_once(w, 3, settle_errors=0)
        assert rule.hits == 1 and w.peer.accepted == 1, "another connection for one slow call"
    r.expect_log("jobs")
    together(r, (p.never(), p.done_but_never()), check)


def test_an_acknowledgement_that_is_refused(r):
    """Nothing can be done: it is counted, named, and not asked for ever."""
    def check(w, code):
        rule = w.peer.rule("Acknowledge", p.status(code))
        d = w.start()
        fill(w, 1)
        d.wait_queue("jobs", settle_errors=1, in_flight=0)
        assert rule.hits <= 2 and code in d.log(), (rule.hits, d.log())
        assert w.jobs.bodies() == ["m0"] and d.queue("jobs")["done"] == 0
        rule.remove()
    r.expect_log("jobs|settled")
    together(r, ("INVALID_ARGUMENT", "NOT_FOUND"), check)


def test_an_acknowledgement_that_may_not_be(r):
    """Somebody may give us the right again: tried, ever more slowly, while the lease lasts."""
    r.expect_log("jobs|settled")
    with world(r) as w:
        rule = w.peer.rule("Acknowledge", p.status("PERMISSION_DENIED"))
        d = w.start()
        fill(w, 2)
        wait_for("it to be named", lambda: "PERMISSION_DENIED" in d.log())
        wait_for("a few tries", lambda: rule.hits >= 4)
        assert rule.hits <= 8, rule.hits
        rule.remove()
        settled_once(w, 2, settle_errors=0)


def test_acknowledgements_fail_until_the_lease_ends(r):
    """Then it is somebody else's, and answered so: not repeated for ever."""
    r.expect_log("jobs|lease|settled")
    with world(r) as w:
        w.peer.rule("Acknowledge", p.status("UNAVAILABLE"))
        w.peer.rule("ModifyAckDeadline", p.status("UNAVAILABLE"))
        d = w.start(Lease="10s")
        fill(w, 1)
        d.wait_queue("jobs", 30, settle_errors=1)
        assert d.queue("jobs")["done"] == 0


def test_acknowledgements_slow_down_when_they_are_throttled(r):
    with world(r) as w:
        rule = w.peer.rule("Acknowledge", p.status("RESOURCE_EXHAUSTED"))
        d = w.start()
        fill(w, 20)
        wait_for("them to run", lambda: len(w.out()) == 20)
        before, begin = rule.hits, time.monotonic()
        wait_for("two seconds", lambda: time.monotonic() - begin > 2)
        assert rule.hits - before < 40, "%d tries in 2 s" % (rule.hits - before)
        rule.remove()
        settled_once(w, 20, settle_errors=0)
        assert d.queue("jobs")["connects"] == 1


# ---- retrying ----

def test_a_retry_is_in_whole_seconds_rounded_up(r):
    with world(r) as w:
        d = w.start(Backoff="300ms-300ms")
        w.jobs.fill("once")
        d.wait_queue("jobs", done=1, retried=1)
        assert w.delays() == [1], w.changes()
        assert [m.attempts for m in w.jobs.acknowledged] == [2]
        # Twice it is the same message, with another receipt.
        assert len({a for a, _ in w.changes()} | {a for _, a, _ in w.peer.ids("Acknowledge")}) == 2


def test_a_retry_without_delay_comes_at_once(r):
    with world(r) as w:
        d = w.start(pool=again(r, 'Retry(0, "external_api")'))
        w.jobs.fill("x")
        d.wait_queue("jobs", done=1, retried=1)
        assert w.delays() == [0], w.changes()


def test_a_retry_in_an_hour(r):
    """600 s is the most that the service takes; it must not come back sooner
    than that, nor be refused."""
    with world(r) as w:
        d = w.start(pool=again(r, 'Retry(3600, "external_api")'), MaxLease="2h")
        w.jobs.fill("x")
        wait_for("a delay", lambda: any(seconds > 500 for _, seconds in w.changes()))
        assert max(seconds for _, seconds in w.changes()) <= 600
        wait_for("it to be away", lambda: d.queue("jobs")["running"] == 0)
        assert w.jobs.bodies() == ["x"] and w.jobs.counts() == (0, 1) and d.queue("jobs")["dead"] == 0


def test_retries_that_fail_are_repeated(r):
    with world(r) as w:
        rule = w.peer.rule("ModifyAckDeadline", p.status("UNAVAILABLE"), times=2,
                           when=lambda c: c.request["ack_deadline_seconds"] == 2)
        d = w.start(Backoff="2s-2s")
        w.jobs.fill(*["once %d" % i for i in range(5)])
        begin = time.monotonic()
        d.wait_queue("jobs", 30, done=5, retried=5)
        # Had it been given up, they would come when the lease ends.
        assert time.monotonic() - begin < 15 and rule.hits == 2
        w.wait_empty()


def test_invariant_5_a_renewal_never_overwrites_a_retry(r):
    """The renewal is on its way when the handler fails, and takes effect late."""
    with world(r) as w:
        go_on = threading.Event()
        w.peer.rule("ModifyAckDeadline", p.held(go_on, first="wait"),
                    when=lambda c: c.request["ack_deadline_seconds"] == 10)
        d = w.start("[ $body = slow ] && { sleep 6; exit 75; }", Backoff="120s-120s", Lease="10s")
        w.jobs.fill("slow")
        wait_for("the renewal", lambda: any(x[1] == 10 for x in w.changes()))
        d.wait_queue("jobs", 30, running=0)
        go_on.set()
        d.wait_queue("jobs", retried=1, in_flight=0)
        left = w.jobs.messages[0].deadline - time.monotonic()
        assert 100 < left <= 120, "it comes back in %.1f s instead of 120; %s" % (left, w.changes())
        assert d.queue("jobs")["received"] == 1


def test_a_retry_goes_though_the_renewal_is_never_answered(r):
    r.expect_log("jobs|lease")
    with world(r) as w:
        w.peer.rule("ModifyAckDeadline", p.never(), when=lambda c: c.request["ack_deadline_seconds"] == 10, times=1)
        d = w.start("[ $body = slow ] && [ $BOT_ATTEMPT = 1 ] && { sleep 6; exit 75; }", Lease="10s")
        w.jobs.fill("slow")
        d.wait_queue("jobs", 40, done=1)
        w.wait_empty()


# ---- leases ----

def test_leases_are_renewed_in_batches_from_the_real_deadline(r):
    with world(r) as w:
        d = w.start("sleep 2.2", workers="1-1", Lease="10s", Prefetch="8")
        fill(w, 8)
        d.wait_queue("jobs", 40, done=8)
        assert len(w.out()) == 8 and d.queue("jobs")["received"] == 8 and d.queue("jobs")["leases_lost"] == 0
        renewals = w.peer.asked("ModifyAckDeadline")
        assert max(len(c.request["ack_ids"]) for c in renewals) > 1, "one call for each"
        assert len(renewals) < 30 and d.queue("jobs")["leases_extended"] >= 4


def test_a_renewal_that_fails_is_repeated(r):
    with world(r) as w:
        rule = w.peer.rule("ModifyAckDeadline", p.status("UNAVAILABLE"), times=2,
                           when=lambda c: c.request["ack_deadline_seconds"] == 10)
        d = w.start("sleep 11", workers="1-1", Lease="10s")
        fill(w, 1)
        q = d.wait_queue("jobs", 30, done=1)
        assert rule.hits == 2 and q["received"] == 1 and q["leases_lost"] == 0, q


def test_redelivered_while_it_runs(r):
    """The service gave it back though the lease was ours: it does not run twice,
    and the newer receipt is the one that counts."""
    r.expect_log("jobs|lease")
    with world(r) as w:
        d = w.start("sleep 2", workers="2-2")
        fill(w, 1)
        d.wait_queue("jobs", running=1)
        w.jobs.expire()
        d.wait_queue("jobs", duplicates=1)
        settled_once(w, 1, settle_errors=0, delivered_once=False)
        said = [a for _, a, _ in w.peer.ids("Acknowledge")]
        assert said == [w.jobs.acknowledged[0].ack_id] and w.jobs.acknowledged[0].attempts == 2, said


# ---- exactly once ----

def test_exactly_once_leases_before_it_runs(r):
    """The deadline is extended, and that is answered, before any handler sees it."""
    with world(r, exactly_once=True) as w:
        go_on = threading.Event()
        w.peer.rule("ModifyAckDeadline", p.held(go_on, first="wait"))
        d = w.start()
        fill(w, 4)
        wait_for("the first extension", lambda: w.peer.asked("ModifyAckDeadline"))
        # Anything else that is done meanwhile would show it.
        w.others_work()
        assert w.out() == [] and d.queue("jobs")["running"] == 0
        go_on.set()
        settled_once(w, 4, settle_errors=0)


def test_exactly_once_is_learned_from_the_stream(r):
    """When the subscription may not be looked at."""
    with world(r, exactly_once=True) as w:
        w.peer.rule("GetSubscription", p.status("PERMISSION_DENIED"))
        w.start()
        fill(w, 4)
        settled_once(w, 4, settle_errors=0)
        first = {a for _, a, _ in w.peer.ids("ModifyAckDeadline")}
        assert len(first) == 4, "not leased before they ran: %s" % first


def test_exactly_once_a_lease_that_is_refused(r):
    """It is somebody else's: no handler sees it; the others run."""
    r.expect_log("jobs|lease")
    with world(r, exactly_once=True) as w:
        w.peer.rule("ModifyAckDeadline", p.fail_ids("PERMANENT_FAILURE_INVALID_ACK_ID", lambda a: a == w.bad))
        w.bad = None
        with w.peer.service.cond:
            m = fill(w, 5)[2]
            w.bad = "ack-%s-1-%s" % (m.id, "x" * 140)
        d = w.start()
        d.wait_queue("jobs", done=4)
        assert sorted(w.out()) == ["m0", "m1", "m3", "m4"], w.out()
        assert d.queue("jobs")["running"] == 0 and w.jobs.bodies() == ["m2"]


def test_exactly_once_a_lease_that_fails_for_now(r):
    def check(w, action):
        rule = w.peer.rule("ModifyAckDeadline", action, times=2)
        w.start()
        fill(w, 5)
        settled_once(w, 5, settle_errors=0)
        assert rule.hits == 2
    r.expect_log("jobs")
    together(r, (p.fail_ids("TRANSIENT_FAILURE_INVALID_ACK_ID"), p.status("UNAVAILABLE")), check, make=EXACTLY)


def third(ack_id):
    return sum(map(ord, ack_id)) % 3 == 0


def test_exactly_once_acknowledgements_that_are_refused(r):
    """Counted for those that are named, and for no other."""
    r.expect_log("jobs|settled")
    with world(r, exactly_once=True) as w:
        named = set()

        def pick(a):
            if third(a) and a.split("-")[2] == "1":
                named.add(a)
            return a in named
        w.peer.rule("Acknowledge", p.fail_ids("PERMANENT_FAILURE_INVALID_ACK_ID", pick))
        d = w.start(Lease="600s", MaxLease="1h")
        fill(w, 30)
        wait_for("all to be settled", lambda: d.queue("jobs")["done"] + d.queue("jobs")["settle_errors"] == 30, 30)
        assert 1 <= len(named) < 30
        q = d.queue("jobs")
        assert q["settle_errors"] == len(named) and q["done"] == 30 - len(named), (q, len(named))
        assert len(w.jobs.bodies()) == len(named)
        # Each of them was said once: it is pointless again.
        said = [a for _, a, _ in w.peer.ids("Acknowledge")]
        assert all(said.count(a) == 1 for a in named)


def test_exactly_once_acknowledgements_that_fail_for_now(r):
    r.expect_log("jobs")
    with world(r, exactly_once=True) as w:
        tries = {}

        def pick(a):
            tries[a] = tries.get(a, 0) + 1
            return third(a) and tries[a] <= 2
        w.peer.rule("Acknowledge", p.fail_ids("TRANSIENT_FAILURE_SERVER_BUSY", pick))
        w.start(Lease="60s")
        fill(w, 30)
        settled_once(w, 30, settle_errors=0)
        assert max(tries.values()) == 3


def test_exactly_once_a_refusal_without_names(r):
    """INVALID_ARGUMENT alone: none is done."""
    r.expect_log("jobs|settled")
    with world(r, exactly_once=True) as w:
        rule = w.peer.rule("Acknowledge", p.status("INVALID_ARGUMENT"), times=1)
        d = w.start(Lease="600s", MaxLease="1h", workers="1-1")
        fill(w, 1)
        d.wait_queue("jobs", settle_errors=1)
        assert rule.hits == 1 and d.queue("jobs")["done"] == 0 and w.jobs.bodies() == ["m0"]


def test_exactly_once_details_that_are_garbage(r):
    """The status counts, whatever its details are."""
    r.expect_log("jobs|settled")
    with world(r, exactly_once=True) as w:
        def act(call, go):
            call.finish("INVALID_ARGUMENT", p.SAYS, os.urandom(300))
        w.peer.rule("Acknowledge", act, times=1)
        d = w.start(Lease="600s", MaxLease="1h")
        fill(w, 1)
        d.wait_queue("jobs", settle_errors=1)
        w.jobs.fill("next")
        d.wait_queue("jobs", done=1)


# ---- order ----

def test_order_when_one_fails(r):
    """The later ones of its key wait; other keys do not."""
    with world(r, ordered=True) as w:
        names = ["g.%d" % i for i in range(6)]
        w.jobs.fill(*names, key="g")
        w.jobs.fill(*["h.%d" % i for i in range(6)], key="h")
        d = w.start("""case $body in
g.2) echo try >> %s/tries; [ "$(wc -l < %s/tries)" -ge 3 ] || exit 75 ;;
esac""" % (r.dir, r.dir), workers="4-4", Backoff="1s-1s")
        d.wait_queue("jobs", 40, done=12)
        ran = w.out()
        assert [x for x in ran if x.startswith("g.")] == names, ran
        assert [x for x in ran if x.startswith("h.")] == ["h.%d" % i for i in range(6)], ran
        w.wait_empty()
        assert d.queue("jobs")["dead"] == 0


def test_order_over_streams_that_end(r):
    # Two that end in a short time count as an outage.
    r.expect_log("because the test says so")
    with world(r, ordered=True) as w:
        d = w.start("sleep 0.05", workers="4-4")
        n = 40
        for i in range(n):
            w.jobs.fill("m%d" % i, key="k%d" % (i % 4))
        for part in (1, 2, 3):
            wait_for("part of the work", lambda: d.queue("jobs")["done"] >= n * part // 4)
            w.finish()
        settled_once(w, n, settle_errors=0)
        for k in range(4):
            of_key = [int(x[1:]) for x in w.out() if int(x[1:]) % 4 == k]
            assert of_key == sorted(of_key), of_key


# ---- burying ----

def test_a_dead_letter_says_why(r):
    r.expect_log("dead letters")
    with world(r, ordered=True) as w:
        d = w.start()
        m = w.jobs.fill("dead", attributes={"colour": "blue", "z\u00fcrich": "\u00fc"}, key="k")[0]
        d.wait_queue("jobs", dead=1)
        w.wait_empty()
        copy = w.dead.messages[0]
        assert copy.body == "dead" and copy.key in ("k", "")
        ours = {k: v for k, v in copy.attributes.items() if k.startswith("bot-")}
        assert {k: v for k, v in copy.attributes.items() if k not in ours} == m.attributes, copy.attributes
        assert sorted(ours) == ["bot-attempts", "bot-crashes", "bot-detail", "bot-died", "bot-error-type",
                                "bot-origin-id", "bot-queue"], ours
        assert ours["bot-queue"] == "jobs" and ours["bot-attempts"] == "1" and ours["bot-origin-id"] == m.id
        assert "no such customer" in ours["bot-detail"], ours
        publish, acknowledge = w.peer.asked("Publish")[0], w.peer.asked("Acknowledge")[0]
        assert publish.time <= acknowledge.time
        assert publish.path.startswith(p.PUBLISHER) and publish.request["topic"] == "projects/p1/topics/jobs-dead"


def test_a_dead_letter_topic_by_its_path(r):
    r.expect_log("dead letters")
    with world(r) as w:
        there = w.peer.service.topic("projects/other/topics/graves")
        d = w.start(DeadLetter="projects/other/topics/graves", DeadLetterSubscription=None)
        w.jobs.fill("dead")
        d.wait_queue("jobs", dead=1)
        w.wait_empty()
        assert [m.body for m in there] == ["dead"]


def test_invariant_1_a_dead_letter_that_cannot_be_published(r):
    """Never acknowledged before its copy is safe; the others go on."""
    def check(w, code):
        rule = w.peer.rule("Publish", p.status(code))
        d = w.start(Lease="10s", Backoff="1s-1s", MaxAttempts="2")
        w.jobs.fill("dead", "fine")
        d.wait_queue("jobs", done=1)
        wait_for("it to be tried", lambda: rule.hits >= 2, 40)
        assert w.jobs.bodies() == ["dead"] and d.queue("jobs")["dead"] == 0
        assert code in d.log() and "jobs-dead" in d.log(), d.log()
        rule.remove()
        wait_for("it to be buried", lambda: w.dead.bodies() == ["dead"], 60)
        w.wait_empty()
        assert "fine" in w.out()
    r.expect_log("jobs|dead letter|settled|lease")
    together(r, ("PERMISSION_DENIED", "NOT_FOUND", "UNAVAILABLE"), check)


def test_invariant_1_a_dead_letter_whose_answer_is_lost(r):
    """There, perhaps twice, but never not at all."""
    def check(w, action):
        rule = w.peer.rule("Publish", action, times=1)
        w.start(Lease="10s")
        w.jobs.fill("dead")
        w.wait_empty(60)
        assert set(w.dead.bodies()) == {"dead"} and len(w.dead.bodies()) <= 2, w.dead.bodies()
        assert rule.hits == 1
    r.expect_log("jobs|dead letter|settled|lease")
    together(r, (p.done_but(p.hang_up()), p.done_but(p.rst(h2peer.INTERNAL_ERROR)), p.done_but_never(),
                 p.hang_up(reset=True), p.malformed(), p.missing_trailers()), check)


def test_invariant_1_an_answer_without_the_id_of_the_copy(r):
    """OK, and nothing published that we know of: not taken for safe."""
    r.expect_log("jobs|dead letter|settled|lease")
    with world(r) as w:
        def act(call, go):
            call.peer.reply(call, {"message_ids": []})
        rule = w.peer.rule("Publish", act, times=1)
        w.start(Lease="10s")
        w.jobs.fill("dead")
        wait_for("it to be there", lambda: w.dead.bodies() == ["dead"], 60)
        w.wait_empty()
        assert rule.hits == 1


def test_invariant_1_a_buried_one_that_cannot_be_acknowledged(r):
    """The copy is safe; the acknowledgement is repeated, and the copy is not."""
    r.expect_log("jobs|dead letter")
    with world(r) as w:
        rule = w.peer.rule("Acknowledge", p.status("UNAVAILABLE"), times=3)
        d = w.start(Lease="60s")
        w.jobs.fill("dead")
        d.wait_queue("jobs", dead=1)
        w.wait_empty()
        assert w.dead.bodies() == ["dead"] and rule.hits == 3


def test_crashes_are_counted_across_retries(r):
    """Pub/Sub keeps no such number with a message; the second worker that dies is the last."""
    r.expect_log("jobs|worker|dead letters")
    with world(r) as w:
        d = w.start("case $body in poison*) kill -9 $$ ;; esac", MaxAttempts="9")
        w.jobs.fill("poison", "fine")
        q = d.wait_queue("jobs", 40, done=1, dead=1)
        assert q["retried"] == 1, q
        assert w.dead.messages[0].attributes["bot-crashes"] == "2", w.dead.messages[0].attributes
        w.wait_empty()


# ---- botctl dead, botctl enqueue ----

def bury(w, *bodies, **attributes):
    topic = "projects/p1/topics/jobs-dead"
    w.peer.service.call("Publish", {"topic": topic, "messages": [
        {"data": b.encode(), "attributes": attributes, "ordering_key": ""} for b in bodies]})


def items(w):
    lines = w.d.botctl("--json", "dead", "list", "jobs").stdout.splitlines()
    return [json.loads(x)["item"] for x in lines[:-1]]


def test_dead_list_redrive_and_purge(r):
    with world(r) as w:
        d = w.start()
        bury(w, "d0", "d1", "d2", colour="blue")
        seen = items(w)
        assert len({x["id"] for x in seen}) == 3, seen
        wait_for("them to be given back", lambda: w.dead_pull.counts() == (3, 0))
        dead(w, "redrive", seen[0]["id"])
        d.wait_queue("jobs", done=1)
        wait_for("one to be gone", lambda: len(w.dead_pull.bodies()) == 2)
        published = w.peer.asked("Publish")[-1].request
        assert published["topic"] == w.jobs.topic and published["messages"][0]["attributes"]["colour"] == "blue"
        dead(w, "purge", items(w)[0]["id"])
        wait_for("another to be gone", lambda: len(w.dead_pull.bodies()) == 1)
        dead(w, "redrive", "--all")
        d.wait_queue("jobs", done=2)
        wait_for("none", lambda: w.dead_pull.bodies() == [])
        w.wait_empty()


def test_dead_list_names_what_it_is_refused(r):
    with world(r) as w:
        bury(w, "x")
        rule = w.peer.rule("*Pull", p.status("PERMISSION_DENIED"),
                           when=lambda c: c.request["subscription"].endswith("/jobs-dead-pull"))
        w.start()
        out = dead(w, "list", check=False)
        assert out.returncode != 0 and p.SAYS in out.stdout + out.stderr, out
        rule.remove()
        assert len(items(w)) == 1
        wait_for("it to be given back", lambda: w.dead_pull.counts() == (1, 0))


def test_invariant_1_dead_redrive_cut_off(r):
    """Still dead or redriven, never neither."""
    def check(w, case):
        method, action = case
        w.start()
        bury(w, "d0")
        item = items(w)[0]["id"]
        w.peer.rule(method, action, times=1)
        dead(w, "redrive", item, check=False)
        w.dead_pull.expire()
        wait_for("it to run, or to be dead still", lambda: "d0" in w.out() or w.dead_pull.bodies() == ["d0"])
    r.expect_log("jobs|dead|settled")
    together(r, (("Publish", p.status("UNAVAILABLE")), ("Publish", p.hang_up()), ("Publish", p.done_but(p.hang_up())),
                 ("Acknowledge", p.status("PERMISSION_DENIED"))), check)


def test_enqueue_publishes_to_the_subscription_s_topic(r):
    with world(r) as w:
        d = w.start()
        d.botctl("enqueue", "jobs", "--body", "hello", "--attribute", "colour=blue")
        d.wait_queue("jobs", done=1)
        q = w.peer.asked("Publish")[0].request
        assert q["topic"] == w.jobs.topic and q["messages"][0]["attributes"] == {"colour": "blue"}, q
        rule = w.peer.rule("Publish", p.status("PERMISSION_DENIED"))
        out = d.botctl("enqueue", "jobs", "--body", "no", check=False)
        assert out.returncode != 0 and p.SAYS in out.stdout + out.stderr and rule.hits, out


# ---- trouble under load ----

def under_load(r, disturb, n=300, **kw):
    """Nothing lost whatever happens to the connection; settled by its receipts."""
    r.expect_log("jobs|lease")
    with world(r, **kw) as w:
        d = w.start("sleep 0.005", workers="4-4", MaxAttempts="100", Lease="30s")
        fill(w, n)
        for part in (1, 2, 3):
            wait_for("part of the work", lambda: d.queue("jobs")["done"] >= n * part // 5, 40)
            disturb(w)
        wait_for("all of them", lambda: len(set(w.out())) == n, 60)
        w.wait_empty(60)
        assert w.dead.bodies() == [] and d.queue("jobs")["settle_errors"] == 0
        ran = w.out()
        assert len(ran) == n, "%d ran twice though the receipts outlive connections" % (len(ran) - n)


def test_all_connections_cut_under_load(r):
    under_load(r, lambda w: w.peer.cut_all())


def test_connections_go_away_under_load(r):
    def away(w):
        w.peer.goaway_all()
        w.finish()
    under_load(r, away)


def test_streams_are_reset_under_load(r):
    under_load(r, lambda w: w.cut(lambda s: s.rst(h2peer.INTERNAL_ERROR)), exactly_once=True)


def test_every_seventh_call_fails(r):
    """By status, reset or the connection's end, done at the service or not."""
    count = [0]
    r.expect_log("jobs|lease")
    with world(r) as w:
        def act(call, go):
            actions = (p.status("UNAVAILABLE"), p.done_but(p.status("INTERNAL")), p.rst(h2peer.REFUSED_STREAM),
                       p.done_but(p.hang_up()), p.hang_up(reset=True))
            actions[count[0] // 7 % len(actions)](call, go)

        def seventh(call):
            count[0] += call.method in ("Acknowledge", "ModifyAckDeadline")
            return call.method in ("Acknowledge", "ModifyAckDeadline") and count[0] % 7 == 0
        rule = w.peer.rule("*", act, when=seventh)
        d = w.start("sleep 0.01", workers="4-4", MaxAttempts="100", Lease="30s")
        n = 300
        fill(w, n)
        wait_for("all of them", lambda: len(set(w.out())) == n, 60)
        w.wait_empty(60)
        assert rule.hits >= 3 and w.dead.bodies() == [] and d.queue("jobs")["settle_errors"] == 0


# ---- leaving ----

def test_stop_gives_back_what_has_not_run(r):
    with world(r) as w:
        d = w.start("sleep 0.5", workers="1-1", Prefetch="10")
        fill(w, 10)
        d.wait_queue("jobs", in_flight=10)
        s = w.peer.stream()
        assert d.stop() == 0
        ran = w.out()
        assert sorted(ran + w.jobs.bodies()) == sorted("m%d" % i for i in range(10)), (ran, w.jobs.bodies())
        assert w.jobs.counts() == (10 - len(ran), 0), "leases are left behind: %s" % w.peer.asked()[-6:]
        # On a stream that is still open they would come at once, which counts as another attempt.
        assert {m.attempts for m in w.jobs.messages} == {1}, [m.attempts for m in w.jobs.messages]
        assert len(ran) < 10 and all(seconds == 0 for _, seconds in w.changes() if seconds != 20), w.changes()
        assert s.half_closes == 1 and s.reset is None, (s.half_closes, s.reset)


def test_stop_sends_what_is_collected(r):
    with world(r) as w:
        d = w.start("sleep 0.5", workers="4-4", Prefetch="10")
        w.peer.rule("Acknowledge", p.late(0.5))
        fill(w, 10)
        d.wait_queue("jobs", running=4)
        assert d.stop() == 0
        ran = w.out()
        assert sorted(ran + w.jobs.bodies()) == sorted("m%d" % i for i in range(10)), (ran, w.jobs.bodies())
        assert w.jobs.counts()[1] == 0


def stop_anyway(disturb):
    def test(r):
        """Within seconds, though nothing is answered."""
        r.expect_log("jobs|settled|lease")
        with world(r) as w:
            d = w.start("sleep 0.2", Prefetch="10")
            fill(w, 10)
            d.wait_queue("jobs", in_flight=10)
            disturb(w)
            begin = time.monotonic()
            d.signal(15)
            assert d.wait(20) == 0
            assert time.monotonic() - begin < 10
    return test


test_stop_while_calls_stall = stop_anyway(lambda w: w.peer.rule("*", p.never()))
test_stop_while_the_connection_stalls = stop_anyway(lambda w: w.peer.mute_all())
test_stop_while_the_service_is_away = stop_anyway(lambda w: w.peer.down())
test_stop_while_calls_are_refused = stop_anyway(lambda w: w.peer.rule("*", p.status("UNAVAILABLE")))


def test_a_full_load_without_trouble(r):
    """What the others are to be compared with."""
    with world(r) as w:
        d = w.start(pool=MODULE)
        fill(w, 2000)
        d.wait_queue("jobs", 40, done=2000, settle_errors=0, retried=0)
        w.wait_empty()


if __name__ == "__main__":
    rig.main(globals(), jobs=3)
