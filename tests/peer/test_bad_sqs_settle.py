"""SQS of a scripted AWS over TLS: settlements, leases and dead letters when the
service does them in part, late, twice, or not at all.
"""
import json
import os
import re
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from aws_peer import Reply, answer, edit, error, fail_entries, half, held, late, never, reset, status  # noqa: E402
from rig import wait_for  # noqa: E402
from sqs_world import MODULE, dead, settled_once, together, visibility, world  # noqa: E402

# ---- settling ----

def test_deletes_go_in_tens(r):
    with world(r) as w:
        w.jobs.fill(*["m%d" % i for i in range(500)])
        d = w.start(pool=MODULE, Receivers="1-4", Prefetch="100")
        d.wait_queue("jobs", 40, done=500)
        w.wait_empty()
        batches = [len(q.body["Entries"]) for q in w.peer.asked("DeleteMessageBatch")]
        assert sum(batches) == 500 and max(batches) <= 10, batches
        assert len(batches) <= 100, "%d requests for 500 deletions" % len(batches)
        # On a busy machine some ask for the rest that there is room for.
        asked = [q.body.get("MaxNumberOfMessages") for q in w.peer.asked("ReceiveMessage")[:10]]
        assert asked.count(10) >= 7, asked


def test_deletes_that_fail_in_part_are_repeated(r):
    with world(r) as w:
        seen = {}

        def first_twice(entry):
            seen[entry["ReceiptHandle"]] = seen.get(entry["ReceiptHandle"], 0) + 1
            return seen[entry["ReceiptHandle"]] <= 2 and sum(map(ord, entry["ReceiptHandle"])) % 3 == 0
        rule = w.peer.rule("DeleteMessageBatch", fail_entries("InternalError", pick=first_twice))
        w.start(workers="4-4", Lease="30s")
        w.jobs.fill(*["m%d" % i for i in range(60)])
        settled_once(w, 60, settle_errors=0)
        assert rule.hits and max(seen.values()) == 3


def test_deletes_that_all_fail_are_repeated(r):
    with world(r) as w:
        w.peer.rule("DeleteMessageBatch", fail_entries("InternalError"), times=3)
        w.peer.rule("DeleteMessageBatch", status(503), times=2)
        w.peer.rule("DeleteMessageBatch", reset(), times=2)
        w.start(Lease="30s")
        w.jobs.fill(*["m%d" % i for i in range(20)])
        settled_once(w, 20, settle_errors=0)


def test_deletes_whose_answers_are_lost(r):
    """Done at the service, unknown here: asked again, which does no harm."""
    with world(r) as w:
        w.peer.rule("DeleteMessageBatch", half("close"), times=2)
        w.peer.rule("DeleteMessageBatch", never(apply=True), times=1)
        w.start(Lease="30s")
        w.jobs.fill(*["m%d" % i for i in range(20)])
        settled_once(w, 20, settle_errors=0)


def test_a_delete_answer_that_leaves_out_entries(r):
    """Neither successful nor failed: not taken for done."""
    with world(r) as w:
        def forget(request, go):
            entries, request.body["Entries"] = request.body["Entries"], request.body["Entries"][1:]
            if not request.body["Entries"]:
                request.body["Entries"] = entries
                return Reply(200, {})
            return go()
        rule = w.peer.rule("DeleteMessageBatch", forget, times=3)
        w.start(Lease="30s")
        w.jobs.fill(*["m%d" % i for i in range(20)])
        settled_once(w, 20)
        assert rule.hits == 3


def test_a_delete_answer_with_entries_that_nobody_sent(r):
    with world(r) as w:
        def more(value):
            value.setdefault("Successful", []).extend([{"Id": "nobody"}, {"Id": ""}, {}])
            value["Failed"] = [{"Id": "neither", "Code": "X", "SenderFault": True}, {"Id": None}]
        w.peer.rule("DeleteMessageBatch", edit(more))
        w.start()
        w.jobs.fill(*["m%d" % i for i in range(20)])
        settled_once(w, 20)


def test_a_delete_whose_handle_is_refused(r):
    """Nothing can be done: it is counted, named, and not asked for ever."""
    r.expect_log("settled|ReceiptHandleIsInvalid")
    with world(r) as w:
        rule = w.peer.rule("DeleteMessageBatch", fail_entries("ReceiptHandleIsInvalid", True))
        d = w.start(Lease="30s")
        w.jobs.fill("m0")
        d.wait_queue("jobs", settle_errors=1, in_flight=0)
        assert rule.hits <= 3, rule.hits
        assert "ReceiptHandleIsInvalid" in d.log()
        rule.remove()
        assert w.jobs.bodies() == ["m0"]


def test_a_retry_is_in_whole_seconds_rounded_up(r):
    with world(r) as w:
        d = w.start(Backoff="300ms-300ms")
        w.jobs.fill("once")
        d.wait_queue("jobs", done=1, retried=1)
        assert [x[2] for x in visibility(w)] == [1], visibility(w)
        runs = [q.time for q in w.peer.asked("ReceiveMessage") if q.reply and b"once" in q.reply.body]
        assert len(runs) == 2


def test_a_retry_without_delay_comes_at_once(r):
    with world(r) as w:
        handler = r.write("handler.py", """
import sys
sys.path.insert(0, %r)
import bot_handler


def handle(message):
    if message.attempt == 1:
        raise bot_handler.Retry(0, "external_api")
    if message.attempt == 2:
        raise bot_handler.Retry(1.2, "external_api")


bot_handler.run(handle)
""" % os.path.join(rig.SOURCE, "scripts", "handlers", "python"))
        d = w.start(pool="Exec=%s %s" % (sys.executable, handler))
        w.jobs.fill("x")
        d.wait_queue("jobs", done=1, retried=2)
        assert [x[2] for x in visibility(w)] == [0, 2], visibility(w)


def test_retries_that_fail_in_part_are_repeated(r):
    with world(r) as w:
        rule = w.peer.rule("ChangeMessageVisibilityBatch", fail_entries(
            "InternalError", pick=lambda e: e["VisibilityTimeout"] == 2), times=2)
        d = w.start(Backoff="2s-2s", Lease="30s")
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
        w.peer.rule("ChangeMessageVisibilityBatch", held(go_on, first="wait"),
                    when=lambda q: all(e["VisibilityTimeout"] == 4 for e in q.body["Entries"]))
        d = w.start("[ $body = slow ] && { sleep 2.6; exit 75; }", Backoff="60s-60s", Lease="4s", ResponseTimeout="10s",
                    MaxAttempts="9")
        w.jobs.fill("slow")
        wait_for("the renewal", lambda: any(x[2] == 4 for x in visibility(w)))
        wait_for("the failure", lambda: d.queue("jobs")["failed" if "failed" in d.queue("jobs") else "running"] in (
            0, 1) and d.queue("jobs")["running"] == 0)
        time.sleep(0.5)
        go_on.set()
        d.wait_queue("jobs", retried=1, in_flight=0)
        m = w.jobs.messages[0]
        left = m.visible_at - time.monotonic()
        assert 50 < left <= 60, "it comes back in %.1f s instead of 60; changes: %s" % (left, visibility(w))
        assert d.queue("jobs")["received"] == 1


def test_invariant_5_a_renewal_never_overwrites_a_release(r):
    """The same at a stop: what was given back stays given back."""
    with world(r) as w:
        go_on = threading.Event()
        w.peer.rule("ChangeMessageVisibilityBatch", held(go_on, first="wait"),
                    when=lambda q: all(e["VisibilityTimeout"] == 3 for e in q.body["Entries"]))
        d = w.start("sleep 2.2", workers="1-1", Prefetch="4", Lease="3s", ResponseTimeout="10s")
        w.jobs.fill(*["m%d" % i for i in range(4)])
        d.wait_queue("jobs", in_flight=4)
        wait_for("the renewal", lambda: any(x[2] == 3 for x in visibility(w)))
        d.signal(15)
        time.sleep(0.3)
        go_on.set()
        assert d.wait() == 0
        waiting, flying, _ = w.jobs.counts()
        assert flying == 0 and waiting == 3, (w.jobs.counts(), visibility(w))


def test_a_retry_goes_though_the_renewal_is_never_answered(r):
    with world(r) as w:
        r.expect_log("jobs|lease")
        w.peer.rule("ChangeMessageVisibilityBatch", never(),
                    when=lambda q: all(e["VisibilityTimeout"] == 4 for e in q.body["Entries"]), times=1)
        d = w.start("[ $body = slow ] && [ $BOT_ATTEMPT = 1 ] && { sleep 2.3; exit 75; }", Backoff="1s-1s", Lease="4s")
        w.jobs.fill("slow")
        d.wait_queue("jobs", done=1)
        w.wait_empty()


def test_leases_are_renewed_in_batches_from_the_real_deadline(r):
    with world(r) as w:
        d = w.start("sleep 1", workers="1-1", Lease="2s", Prefetch="8")
        w.jobs.fill(*["m%d" % i for i in range(8)])
        d.wait_queue("jobs", 30, done=8)
        assert w.out() and len(w.out()) == 8 and d.queue("jobs")["received"] == 8
        renewals = [q for q in w.peer.asked("ChangeMessageVisibilityBatch")]
        assert max(len(q.body["Entries"]) for q in renewals) > 1, "one request for each"
        assert len(renewals) < 40, len(renewals)


def test_a_renewal_that_fails_is_repeated(r):
    with world(r) as w:
        rule = w.peer.rule("ChangeMessageVisibilityBatch", fail_entries("InternalError"), times=2)
        d = w.start("sleep 5", workers="1-1", Lease="4s")
        w.jobs.fill("m0")
        q = d.wait_queue("jobs", 20, done=1)
        assert rule.hits == 2 and q["received"] == 1 and q["leases_lost"] == 0, q


def test_a_lease_that_is_lost_is_named(r):
    """The service knows the handle no more: the verdict is not settled."""
    r.expect_log("lease")
    with world(r) as w:
        d = w.start("[ -e %s/first ] || { touch %s/first; sleep 4; }" % (r.dir, r.dir), Lease="2s")
        w.jobs.fill("m0")
        d.wait_queue("jobs", running=1)
        with w.peer.sqs.cond:
            w.jobs.messages[0].visible_at = time.monotonic() + 3600
            w.jobs.messages[0].handle = "handle-of-another"
        d.wait_queue("jobs", leases_lost=1)
        with w.peer.sqs.cond:
            w.jobs.messages[0].visible_at = 0
        d.wait_queue("jobs", done=1)
        w.wait_empty()


def test_resets_in_the_middle_of_load(r):
    """Every seventh request ends in RST, done at the service or not."""
    r.expect_log("jobs|lease")
    with world(r) as w:
        count = [0]

        def seventh(request):
            count[0] += 1
            return count[0] % 7 == 0

        def act(request, go):
            return reset(apply=count[0] % 2 == 0)(request, go)
        rule = w.peer.rule("*", act, when=seventh)
        n = 200
        d = w.start(workers="4-4", Prefetch="40", Receivers="1-4", Lease="3s", MaxAttempts="100")
        w.jobs.fill(*["m%d" % i for i in range(n)])
        wait_for("all of them; %d hits" % rule.hits, lambda: len(set(w.out())) == n, 60)
        rule.remove()
        w.wait_empty(40)
        assert rule.hits > 5 and w.dead.bodies() == [] and d.queue("jobs")["dead"] == 0
        w.heal_and_work()


def test_all_connections_cut_under_load(r):
    r.expect_log("jobs|lease")
    with world(r) as w:
        n = 300
        d = w.start("sleep 0.005", workers="4-4", Prefetch="40", Receivers="2-4", Lease="3s", MaxAttempts="100")
        w.jobs.fill(*["m%d" % i for i in range(n)])
        for part in (1, 2, 3):
            wait_for("part of the work", lambda: d.queue("jobs")["done"] >= n * part // 5)
            w.peer.cut_all()
        wait_for("all of them", lambda: len(set(w.out())) == n, 60)
        w.wait_empty(40)
        assert w.dead.bodies() == []


def test_receives_whose_answers_are_lost(r):
    """They are in flight at the service and nobody has them: they come again."""
    r.expect_log("jobs")
    with world(r) as w:
        w.peer.rule("ReceiveMessage", half("close"), times=3, when=lambda q: bool(w.jobs.counts()[0]))
        d = w.start(Lease="2s", MaxAttempts="2")
        w.jobs.fill(*["m%d" % i for i in range(30)])
        wait_for("all of them", lambda: len(set(w.out())) == 30, 40)
        w.wait_empty()
        assert d.queue("jobs")["dead"] == 0 and w.dead.bodies() == []


def test_late_answers_of_all_kinds(r):
    with world(r) as w:
        w.peer.rule("*", late(0.2))
        w.start(workers="4-4", Prefetch="40", Receivers="1-4")
        w.jobs.fill(*["m%d" % i for i in range(100)])
        settled_once(w, 100, settle_errors=0)


def test_crashes_are_counted_across_retries(r):
    """SQS keeps no such number with a message; the second worker that dies is the last."""
    r.expect_log("jobs|worker|dead letters")
    with world(r) as w:
        d = w.start("case $body in poison*) kill -9 $$ ;; esac", MaxAttempts="9")
        w.jobs.fill("poison", "fine")
        q = d.wait_queue("jobs", done=1, dead=1)
        assert q["retried"] == 1, q
        m = w.dead.messages[0]
        assert m.attributes["bot-crashes"]["StringValue"] == "2", m.attributes
        w.wait_empty()


# ---- burying ----

def test_invariant_1_a_dead_letter_that_cannot_be_sent(r):
    """Never deleted before its copy is safe; it waits, its lease renewed."""
    r.expect_log("jobs|dead letter|settled")
    with world(r) as w:
        rule = w.peer.rule("SendMessage*", error("AccessDenied", 403, coral=True), queue="jobs-dead")
        d = w.start(Lease="3s")
        w.jobs.fill("dead", "fine")
        d.wait_queue("jobs", done=1)
        wait_for("it to be tried", lambda: rule.hits >= 2)
        assert w.jobs.bodies() == ["dead"], w.jobs.bodies()
        assert "AccessDenied" in d.log()
        rule.remove()
        wait_for("it to be buried", lambda: w.dead.bodies() == ["dead"], 40)
        w.wait_empty()
        assert "fine" in w.out()


def test_invariant_1_a_dead_letter_whose_answer_is_lost(r):
    """There, perhaps twice, but never not at all."""
    def check(w, action):
        rule = w.peer.rule("SendMessage*", action, queue="jobs-dead", times=1)
        w.start(Lease="3s")
        w.jobs.fill("dead")
        w.wait_empty(30)
        assert set(w.dead.bodies()) == {"dead"} and len(w.dead.bodies()) <= 2, w.dead.bodies()
        assert rule.hits == 1
    r.expect_log("jobs|dead letter|settled")
    together(r, (half("close"), reset(apply=True), never(apply=True), status(500), answer({}), answer(b"garbage")), check)


def test_invariant_1_a_buried_one_that_cannot_be_deleted(r):
    """The copy is safe; the deletion is repeated, and the copy is not."""
    r.expect_log("jobs|dead letter")
    with world(r) as w:
        w.peer.rule("DeleteMessageBatch", fail_entries("InternalError"), times=3)
        d = w.start(Lease="30s")
        w.jobs.fill("dead")
        d.wait_queue("jobs", dead=1)
        w.wait_empty()
        assert w.dead.bodies() == ["dead"]


def test_a_dead_letter_of_the_greatest_size(r):
    """Ours are left out rather than that it does not fit."""
    r.expect_log("dead letters")
    with world(r) as w:
        body = "dead" + "x" * (1048576 - 4 - 60)
        w.jobs.fill(body, attributes={"colour": {"DataType": "String", "StringValue": "blue"}})
        d = w.start(MaxBytes="2M", ResponseTimeout="10s", Lease="20s")
        d.wait_queue("jobs", 30, dead=1)
        m = w.dead.messages[0]
        assert m.body == body and m.attributes["colour"]["StringValue"] == "blue"


def test_a_body_over_maxbytes_is_buried_whole(r):
    r.expect_log("dead letters")
    with world(r) as w:
        d = w.start(MaxBytes="1000")
        w.jobs.fill("y" * 5000, "fine")
        d.wait_queue("jobs", done=1, dead=1)
        assert w.dead.bodies() == ["y" * 5000]
        assert w.dead.messages[0].attributes["bot-error-type"]["StringValue"] == "invalid_format"


def test_dead_letters_keep_every_attribute(r):
    r.expect_log("dead letters")
    attributes = {"text": {"DataType": "String", "StringValue": "z\u00fcrich"},
                  "kind": {"DataType": "String.json", "StringValue": "{}"},
                  "raw": {"DataType": "Binary.png", "BinaryValue": "AAEC/w=="},
                  "n": {"DataType": "Number", "StringValue": "12345678901234567890.125"}}
    with world(r) as w:
        d = w.start()
        w.jobs.fill("dead", attributes=attributes, system={"AWSTraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793"})
        d.wait_queue("jobs", dead=1)
        m = w.dead.messages[0]
        assert {k: v for k, v in m.attributes.items() if not k.startswith("bot-")} == attributes, m.attributes
        ours = {k: v["StringValue"] for k, v in m.attributes.items() if k.startswith("bot-")}
        assert sorted(ours) == ["bot-attempts", "bot-detail", "bot-died", "bot-error-type", "bot-origin-id",
                                "bot-queue"], ours


def test_fifo_dies_twice_within_the_deduplication_window(r):
    """Buried, redriven, buried again in five minutes: SQS drops what it takes for
    a duplicate, and says that it is sent."""
    r.expect_log("dead letters")
    with world(r, name="jobs.fifo") as w:
        d = w.start()
        w.jobs.fill("dead", group="g")
        for n in (1, 2, 3):
            d.wait_queue("jobs", 30, dead=n)
            w.wait_empty()
            assert w.dead.bodies() == ["dead"], "lost in burial %d" % n
            assert w.dead.messages[0].group == "g"
            lines = d.botctl("--json", "dead", "list", "jobs").stdout.splitlines()
            if n < 3:
                d.botctl("dead", "redrive", "jobs", json.loads(lines[0])["item"]["id"])


def test_fifo_order_when_a_batch_of_one_group_fails(r):
    """Real SQS gives several of a group at once: after a failure the later ones wait."""
    with world(r, name="jobs.fifo") as w:
        names = ["g.%d" % i for i in range(8)]
        w.jobs.fill(*names, group="g")
        w.jobs.fill(*["h.%d" % i for i in range(8)], group="h")
        d = w.start("""case $body in
g.2) echo try >> %s/tries; [ "$(wc -l < %s/tries)" -ge 3 ] || exit 75 ;;
esac""" % (r.dir, r.dir), workers="4-4", Backoff="1s-1s")
        d.wait_queue("jobs", 30, done=16)
        ran = w.out()
        assert [x for x in ran if x.startswith("g.")] == names, ran
        assert [x for x in ran if x.startswith("h.")] == ["h.%d" % i for i in range(8)], ran
        w.wait_empty()
        assert d.queue("jobs")["dead"] == 0


def test_fifo_receives_are_repeated_with_their_attempt_id(r):
    """An answer that is lost does not block its groups until the lease ends."""
    r.expect_log("jobs")
    with world(r, name="jobs.fifo") as w:
        d = w.start(Lease="3s")
        w.peer.rule("ReceiveMessage", half("close"), times=1, when=lambda q: bool(w.jobs.counts()[0]))
        w.jobs.fill("a", "b", group="g")
        d.wait_queue("jobs", 30, done=2)
        assert w.out() == ["a", "b"]
        ids = [q.body.get("ReceiveRequestAttemptId") for q in w.peer.asked("ReceiveMessage")]
        assert all(i is None or re.match(r"[A-Za-z0-9!-~]{1,128}$", i) for i in ids), ids


# ---- botctl dead ----

def test_dead_list_names_what_it_is_refused(r):
    with world(r) as w:
        w.dead.fill("x")
        rule = w.peer.rule("ReceiveMessage", error("AccessDenied", 403, coral=True), queue="jobs-dead")
        w.start()
        p = dead(w, "list", check=False)
        assert p.returncode != 0 and "because the test says so" in p.stdout + p.stderr, p
        rule.remove()
        lines = w.d.botctl("--json", "dead", "list", "jobs").stdout.splitlines()
        assert json.loads(lines[0])["item"]["id"] == w.dead.messages[0].id, lines
        wait_for("it to be given back", lambda: w.dead.counts() == (1, 0, 0))


def test_dead_list_of_more_than_ten(r):
    with world(r) as w:
        w.dead.fill(*["d%d" % i for i in range(35)])
        w.start()
        lines = w.d.botctl("--json", "dead", "list", "jobs").stdout.splitlines()
        ids = [json.loads(x)["item"]["id"] for x in lines[:-1]]
        assert len(set(ids)) == len(ids) == 35, len(ids)
        wait_for("all to be given back", lambda: w.dead.counts() == (35, 0, 0))
        assert "s3cr3t" not in "".join(lines)


def test_dead_redrive_all(r):
    with world(r) as w:
        w.start()
        attributes = {"colour": {"DataType": "String", "StringValue": "blue"}}
        w.dead.fill(*["d%d" % i for i in range(35)], attributes=attributes)
        dead(w, "redrive", "--all")
        w.d.wait_queue("jobs", 30, done=35)
        w.wait_empty()
        wait_for("an empty dead letter queue", lambda: w.dead.bodies() == [])
        assert sorted(w.out()) == sorted("d%d" % i for i in range(35))


def test_dead_redrive_all_without_the_right_to_move(r):
    """StartMessageMoveTask is a right of its own: one by one, or refused by name."""
    with world(r) as w:
        w.peer.rule("StartMessageMoveTask", error("AccessDeniedException", 403))
        w.start()
        w.dead.fill("a", "b")
        p = dead(w, "redrive", "--all", check=False)
        if p.returncode == 0:
            w.d.wait_queue("jobs", done=2)
            wait_for("an empty dead letter queue", lambda: w.dead.bodies() == [])
        else:
            assert "because the test says so" in p.stdout + p.stderr, p


def test_invariant_1_dead_redrive_cut_off(r):
    """Still dead or redriven, never neither."""
    def check(w, case):
        w.start()
        w.dead.fill("d0")
        item = json.loads(w.d.botctl("--json", "dead", "list", "jobs").stdout.splitlines()[0])["item"]["id"]
        w.peer.rule(*case, times=1)
        dead(w, "redrive", item, check=False)
        wait_for("it to run, or to be dead still", lambda: "d0" in w.out() or w.dead.counts() == (1, 0, 0))
    r.expect_log("jobs|dead|settled")
    together(r, (("SendMessage*", reset(apply=False)), ("SendMessage*", reset(apply=True)),
             ("SendMessage*", status(500)), ("DeleteMessage*", status(500))), check)


def test_dead_purge_all_explains_the_sixty_seconds(r):
    with world(r) as w:
        w.start()
        w.dead.fill(*["d%d" % i for i in range(12)])
        dead(w, "purge", "--all")
        wait_for("none", lambda: w.dead.bodies() == [])
        if not w.peer.asked("PurgeQueue"):
            return
        w.dead.fill("late")
        p = dead(w, "purge", "--all", check=False)
        if p.returncode != 0:
            assert "60 s" in p.stdout + p.stderr or "60 seconds" in p.stdout + p.stderr, p
            assert w.dead.bodies() == ["late"]
        else:
            wait_for("none", lambda: w.dead.bodies() == [])


# ---- leaving ----

def test_stop_with_a_service_that_does_not_answer(r):
    r.expect_log("jobs|settled|lease")
    with world(r) as w:
        d = w.start("sleep 0.2", Prefetch="10")
        w.jobs.fill(*["m%d" % i for i in range(10)])
        d.wait_queue("jobs", in_flight=10)
        w.peer.rule("*", never())
        begin = time.monotonic()
        d.signal(15)
        assert d.wait(20) == 0
        assert time.monotonic() - begin < 10


def test_stop_sends_what_is_collected(r):
    with world(r) as w:
        d = w.start("sleep 0.5", workers="4-4", Prefetch="10")
        w.peer.rule("DeleteMessageBatch", late(0.5))
        w.jobs.fill(*["m%d" % i for i in range(10)])
        d.wait_queue("jobs", running=4)
        assert d.stop() == 0
        ran = w.out()
        assert sorted(ran + w.jobs.bodies()) == sorted("m%d" % i for i in range(10)), (ran, w.jobs.bodies())
        assert w.jobs.counts()[1] == 0
        # And nothing is asked for once it was told to stop.
        assert d.p.returncode == 0


if __name__ == "__main__":
    rig.main(globals(), jobs=3)
