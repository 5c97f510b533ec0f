"""scripts/posthog-dashboards against a scripted page of PostHog that keeps what it was given."""
import contextlib
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from sink_peer import PostHogPage, Reply, status  # noqa: E402

SCRIPT = os.path.join(rig.SOURCE, "scripts", "posthog-dashboards")
QUEUES, ERRORS = "Bot Operator → Queue Processing Metrics", "Bot Operator → Error Analysis"
INSIGHTS = {
    QUEUES: ["Messages processed per hour", "Average processing time", "Processing time, 95th percentile",
             "Queue depth over time", "Age of the oldest message", "Worker utilisation", "Processing rate"],
    ERRORS: ["Error rate by error type", "Error rate", "Dead letters", "Dead letters that wait", "Retries",
             "Top errors"],
}
ALL = 2 + sum(map(len, INSIGHTS.values()))


@contextlib.contextmanager
def page():
    peer = PostHogPage()
    try:
        yield peer
    finally:
        peer.stop()


def run(r, host, *args, key=PostHogPage.KEY, project=PostHogPage.PROJECT, good=True):
    path = r.write("key", key + "\n", 0o600)
    p = subprocess.run([sys.executable, SCRIPT, "--host", host, "--project", str(project), "--key-file", path, *args],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       env=dict(os.environ, PYTHONIOENCODING="utf-8"), timeout=120)
    p.stdout, p.stderr = p.stdout.decode(), p.stderr.decode()
    assert "s3cr3t" not in p.stdout + p.stderr, p
    assert "Traceback" not in p.stderr and (p.returncode == 0) == good, p
    return p.stdout if good else p.stderr


def changes(peer):
    return [(q.method, q.path) for q in peer.requests if q.method != "GET"]


def state(peer):
    return json.dumps([peer.dashboards, peer.insights], sort_keys=True)


def test_made_once(r):
    with page() as peer:
        # Others' dashboards are there, some pages of them.
        for i in range(5):
            peer.post(type("Q", (), {"body": {"name": "somebody's %d" % i, "tags": []}}), "dashboards",
                      peer.dashboards, 0)
        # Only said.
        before = state(peer)
        out = run(r, peer.base, "--dry-run")
        assert out.count("made: ") == ALL and state(peer) == before and not changes(peer), out
        out = run(r, peer.base)
        assert out.count("made: ") == ALL and out.count("see: ") == 2, out
        made = {d["name"]: d for d in peer.dashboards.values() if "Bot" in d["name"]}
        assert set(made) == set(INSIGHTS) and all(d["pinned"] and d["tags"] == ["bot-operator"] for d in made.values())
        for name, d in made.items():
            shown = [i for i in peer.insights.values() if i["dashboards"] == [d["id"]]]
            assert [i["name"] for i in shown] == INSIGHTS[name] and all(i["saved"] for i in shown), shown
            for i in shown:
                q = i["query"]
                assert q["kind"] == "InsightVizNode" and q["source"]["kind"] == "TrendsQuery", i
                for s in q["source"]["series"]:
                    assert s["kind"] == "EventsNode" and s["math"] in ("sum", "avg", "max") and s["math_property"], i
                assert q["source"]["trendsFilter"]["display"] in ("ActionsLineGraph", "ActionsBar", "ActionsBarValue")
        # Again: nothing.
        before, n = state(peer), len(changes(peer))
        out = run(r, peer.base)
        assert out.count("unchanged: ") == ALL and state(peer) == before and len(changes(peer)) == n, out


def test_what_differs_is_changed_and_the_rest_stays(r):
    with page() as peer:
        run(r, peer.base)
        by_name = {i["name"]: i for i in peer.insights.values()}
        by_name["Top errors"]["query"]["source"]["dateRange"] = {"date_from": "-1d"}
        by_name["Retries"]["description"] = "?"
        by_name["Dead letters"]["deleted"] = True
        boards = {d["name"]: d for d in peer.dashboards.values()}
        boards[QUEUES].update(description="mine", tags=["ours"])
        # What people have made there: another insight, and one of the same name elsewhere.
        more = dict(by_name["Top errors"], id=500, name="Mine")
        peer.insights[500] = more
        peer.insights[501] = dict(more, id=501, name="Retries", dashboards=[], description="elsewhere")
        before, n = state(peer), len(changes(peer))
        out = run(r, peer.base, "--dry-run")
        assert state(peer) == before and len(changes(peer)) == n
        again = run(r, peer.base)
        assert again == out, (out, again)
        for line in ("changed: insight Top errors (query)", "changed: insight Retries (description)",
                     "made: insight Dead letters", "changed: dashboard %s (description, tags)" % QUEUES):
            assert line in out.splitlines(), out
        assert out.count("unchanged: ") == ALL - 4, out
        assert by_name["Top errors"]["query"]["source"]["dateRange"] == {"date_from": "-7d"}
        assert sorted(boards[QUEUES]["tags"]) == ["bot-operator", "ours"], boards[QUEUES]
        assert peer.insights[500] == more and peer.insights[501]["description"] == "elsewhere"
        assert sorted(m for m, _ in changes(peer)[n:]) == ["PATCH", "PATCH", "PATCH", "POST"], changes(peer)[n:]
        assert run(r, peer.base).count("unchanged: ") == ALL


def test_one_that_was_interrupted_is_completed(r):
    with page() as peer:
        peer.rule("*/insights/", status(500, "oh"), after=3)
        said = run(r, peer.base, good=False)
        assert "PostHog answers 500 to POST insights/ (it says: oh)" in said, said
        # Nothing was tried twice: whether it had worked is not known.
        assert len(peer.seen("/insights/")) == 4
        peer.rules.all.clear()
        out = run(r, peer.base)
        assert out.count("unchanged: ") == 4 and out.count("made: ") == ALL - 4, out
        assert len(peer.insights) == ALL - 2 and len(peer.dashboards) == 2


def test_less_and_errors_of_the_server_are_waited_out(r):
    with page() as peer:
        peer.rule("*/dashboards/", status(503), 1)
        peer.rule("*/insights/", status(429, {"detail": "throttled"}, Retry_After=1), 2, after=1)
        out = run(r, peer.base)
        assert out.count("made: ") == ALL and len(peer.insights) == ALL - 2, out


def test_what_is_wrong_is_said(r):
    with page() as peer:
        def parrot(request, go):
            return Reply(403, {"detail": "API key %s lacks insight:write" % request.headers["Authorization"]})
        said = run(r, peer.base, key="phx_s3cr3twrong", good=False)
        assert "PostHog does not know the key in %s" % r.path("key") in said and "dashboard:write" in said, said
        said = run(r, peer.base, project=78, good=False)
        assert "there is no project 78 at " + peer.base in said and "Project not found." in said, said
        said = run(r, peer.base, key="phc_s3cr3t", good=False)
        assert "has a project key (phc_...); a personal one (phx_...) is needed" in said, said
        said = run(r, peer.base, key="two s3cr3twords", good=False)
        assert "on one line and nothing else" in said, said
        said = run(r, "https://eu.i.posthog.com", good=False)
        assert "the web page is https://eu.posthog.com" in said, said
        said = run(r, "posthog.com", good=False)
        assert "must be like https://us.posthog.com" in said, said
        peer.rule("*/insights/", parrot)
        said = run(r, peer.base, good=False)
        assert "needs the scopes" in said and "lacks insight:write" in said, said
        for action, say in ((status(200, "<html>"), "the answer is no JSON object"),
                            (status(200, {"results": 1}), "no list of results"),
                            (status(302, "", Location="http://127.0.0.1:1/s3cr3t"), "answers with a redirect (302)"),
                            (status(400, {"detail": "no such thing"}), "PostHog answers 400 to GET dashboards/"),
                            (lambda request, go: Reply(200, {"results": [], "next": peer.base + "/?offset=1"}),
                             "more than 100 pages")):
            rule = peer.rule("*/dashboards/", action)
            said = run(r, peer.base, good=False)
            assert say in said, (say, said)
            rule.remove()
    said = run(r, "http://127.0.0.1:%d" % rig.free_port(), good=False)
    assert "cannot be reached: " in said, said
    p = subprocess.run([sys.executable, SCRIPT, "--project", "1", "--key-file", r.path("nowhere")],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert p.returncode == 1 and b"nowhere" in p.stderr and b"Traceback" not in p.stderr, p


if __name__ == "__main__":
    rig.main(globals(), jobs=2)
