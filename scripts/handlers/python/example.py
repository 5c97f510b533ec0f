#!/usr/bin/env python3
"""An example handler: [Pool example] Exec=/path/to/example.py

It wants JSON such as {"name": "Ada"}.  {"name": "Ada", "do": "retry"} shows
the other ways out: retry, rate_limited, dead, raise, slow.
"""
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bot_handler  # noqa: E402


def handle(message):
    try:
        order = message.json()
        name, what = order["name"], order.get("do")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise bot_handler.Dead("invalid_format", "no name in the body: %s" % e)
    if what == "retry" and message.attempt == 1:
        raise bot_handler.Retry(0.05, "external_api", "the mail server said 503")
    if what == "rate_limited":
        raise bot_handler.RateLimited(1.5)
    if what == "dead":
        raise bot_handler.Dead("invalid_format", "nobody wants this")
    if what == "raise":
        raise KeyError("a bug")
    if what == "slow":
        message.touch(30)
        time.sleep(0.3)
    print("hello, %s" % name)


bot_handler.run(handle)
