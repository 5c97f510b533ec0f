"""scripts/notify-failure: Slack is told although the daemon is dead."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import rig  # noqa: E402
from sink_peer import Reply, not_ok, status  # noqa: E402
from test_slack import HOOK, TOKEN, WORLD, slack  # noqa: E402

SCRIPT = os.path.join(rig.SOURCE, "scripts", "notify-failure")
JOURNAL = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/asked"
printf '2026-11-23T16:00:00+0000 h bot-operator[7]: queue a: not "connected" \\\\ <gone> & ```away``` \\303\\251 \\377\\n'
printf '2026-11-23T16:00:01+0000 h bot-operator[7]: the last one\\n'
"""


def run(r, text, *args, journal=JOURNAL, env=None):
    tools = os.path.dirname(r.write("tools/journalctl", journal, 0o755))
    r.write("tools/systemctl", "#!/bin/sh\necho Result=core-dump\necho ExecMainStatus=6\n", 0o755)
    conf = r.write("test.conf", text.replace("{dir}", r.dir))
    p = subprocess.run([SCRIPT, "--config", conf, *args, "test"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, universal_newlines=True, timeout=90,
                       env=dict(os.environ, PATH=tools + ":" + os.environ["PATH"],
                                BOTCTL=os.path.join(rig.BUILD, "botctl"), **(env or {})))
    assert "s3cr3t" not in p.stdout + p.stderr, p
    return p


def check_message(m):
    assert m["text"].startswith("CRITICAL test@") and "bot-operator@test.service has failed" in m["text"], m
    assert "Result=core-dump ExecMainStatus=6" in m["text"], m
    lines = m["blocks"][1]["text"]["text"]
    assert 'not "connected" \\ &lt;gone&gt; &amp; \'\'\'away\'\'\' \u00e9' in lines, lines
    assert lines.endswith("the last one\n```"), lines
    assert "journalctl -u bot-operator@test.service -e" in m["blocks"][2]["text"]["text"], m


def test_by_token_and_by_webhook(r):
    with slack(r) as peer:
        p = run(r, WORLD + TOKEN % peer.base)
        assert p.returncode == 0 and "Slack was told" in p.stdout, p
        check_message(peer.channel("#alerts-critical")[0])
        p = run(r, WORLD + HOOK)
        assert p.returncode == 0, p
        check_message(peer.channel(peer.HOOK)[0])
        with open(r.path("tools", "asked")) as f:
            assert f.readline().startswith("-u bot-operator@test.service -p warning -n 15 "), "journalctl"


def test_a_dry_run_posts_nothing(r):
    with slack(r) as peer:
        p = run(r, WORLD + TOKEN % peer.base, "--dry-run")
        head, body = p.stdout.split("\n", 1)
        assert p.returncode == 0 and head.startswith("to #alerts-critical, with the token in "), p
        check_message(json.loads(body))
        assert json.loads(body)["channel"] == "#alerts-critical"
        assert not peer.requests


def test_what_slack_refuses_is_a_failure(r):
    with slack(r) as peer:
        peer.rule("*", not_ok("invalid_auth"), 1)
        p = run(r, WORLD + TOKEN % peer.base)
        assert p.returncode == 1 and "invalid_auth" in p.stderr, p
        def parrot(request, go):
            return Reply(404, "no " + request.path + request.headers.get("Authorization", ""))
        peer.rule("*", parrot, 2)
        for text in TOKEN % peer.base, HOOK:
            p = run(r, WORLD + text)
            assert p.returncode == 1 and "Slack answers 404" in p.stderr, p
        peer.rule("*", status(503, "busy", Retry_After=1), 1)
        p = run(r, WORLD + TOKEN % peer.base)
        assert p.returncode == 0 and peer.channel("#alerts-critical"), p
    p = run(r, WORLD + TOKEN % "http://127.0.0.1:%d" % rig.free_port(), "--dry-run")
    assert p.returncode == 0, p


def test_without_a_way_it_says_so(r):
    p = run(r, WORLD)
    assert p.returncode == 0 and "there is no [Slack]" in p.stderr, p
    p = run(r, WORLD + "[Slack]\nWebhookFile=/nonexistent/hook\n")
    assert p.returncode == 1 and "LoadCredential=hook:PATH" in p.stderr, p
    p = run(r, WORLD + "[Slack]\nWebhokFile=x\n")
    assert p.returncode == 1 and 'did you mean "WebhookFile"?' in p.stderr, p
    # The dead service's credentials are gone; its own have the same names.
    with slack(r) as peer:
        mine = os.path.dirname(r.write("mine/hook", peer.base + peer.HOOK))
        p = run(r, WORLD + "[Slack]\nWebhookFile=/run/credentials/bot-operator@test.service/hook\n",
                env={"CREDENTIALS_DIRECTORY": mine})
        assert p.returncode == 0 and peer.channel(peer.HOOK), p


def test_a_long_journal_is_cut_to_what_slack_takes(r):
    journal = "#!/bin/sh\nfor i in $(seq 15); do echo '" + "<&>" * 120 + "' line $i; done\n"
    with slack(r) as peer:
        p = run(r, WORLD + TOKEN % peer.base, journal=journal)
        assert p.returncode == 0, p
        assert peer.channel("#alerts-critical")[0]["blocks"][1]["text"]["text"].endswith("line 15\n```")


if __name__ == "__main__":
    rig.main(globals(), jobs=2)
