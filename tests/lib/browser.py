"""browser.py - a headless Chromium, driven by the DevTools protocol over a
pipe (--remote-debugging-pipe: JSON with a NUL behind it on fds 3 and 4).

Nothing of it reaches beyond loopback.  What pages print, throw or violate is
collected in Page.complaints.
"""
import base64
import json
import os
import select
import shutil
import sys
import tempfile
import time

import rig

NAMES = ("chromium", "chromium-browser", "google-chrome")


# The browser's ends must be 3 and 4 in it.
PLACE = """import fcntl, os, sys
ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (%d, %d)]
for fd, end in zip((3, 4), ends):
    os.dup2(end, fd)
os.execv(sys.argv[1], sys.argv[1:])
"""


def find():
    for name in NAMES:
        if shutil.which(name):
            return shutil.which(name)
    raise rig.Skip("no browser is installed (%s)" % ", ".join(NAMES))


class Browser:
    def __init__(self, r):
        program = find()
        to_read, self.to_write = os.pipe()
        self.from_read, to_browser_write = os.pipe()
        self.profile = tempfile.mkdtemp(prefix="bot-browser-", dir=r.dir)
        self.process = rig.Process(r, "chromium", [
            sys.executable, "-c", PLACE % (to_read, to_browser_write), program, "--headless=new", "--no-sandbox",
            "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync", "--disable-extensions",
            "--disable-background-networking", "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--user-data-dir=" + self.profile,
            "--remote-debugging-pipe"], pass_fds=(to_read, to_browser_write))
        os.close(to_read)
        os.close(to_browser_write)
        self.last, self.buffer, self.pages, self.answers = 0, b"", {}, {}

    def __del__(self):
        for fd in (self.from_read, self.to_write):
            os.close(fd)

    def pump(self, seconds):
        """Takes what has come, waiting at most so long for anything."""
        if not select.select([self.from_read], [], [], seconds)[0]:
            return
        data = os.read(self.from_read, 1 << 20)
        if not data:
            raise AssertionError("the browser has ended:\n" + self.process.log()[-3000:])
        self.buffer += data
        while b"\0" in self.buffer:
            text, self.buffer = self.buffer.split(b"\0", 1)
            message = json.loads(text.decode())
            if "id" in message:
                self.answers[message["id"]] = message
            elif message.get("sessionId") in self.pages:
                self.pages[message["sessionId"]].event(message["method"], message["params"])

    def call(self, method, session=None, **params):
        self.last += 1
        number, message = self.last, {"id": self.last, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.to_write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 3 * rig.DEADLINE
        while number not in self.answers:
            if time.monotonic() > end:
                raise AssertionError("the browser does not answer to " + method)
            self.pump(0.1)
        answer = self.answers.pop(number)
        if "error" in answer:
            raise AssertionError("%s: %s" % (method, answer["error"]))
        return answer["result"]

    def page(self, **kw):
        return Page(self, **kw)


class Page:
    def __init__(self, browser, width=1280, height=900, scale=1, dark=False, script=True, headers=None):
        self.browser = browser
        self.complaints = []
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        browser.pages[self.session] = self
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(domain + ".enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=width < 500)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        if not script:
            self.call("Emulation.setScriptExecutionDisabled", value=True)
        if headers:
            self.call("Network.setExtraHTTPHeaders", headers=headers)

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def event(self, method, params):
        if method == "Runtime.exceptionThrown":
            self.complaints.append("thrown: %s" % json.dumps(params["exceptionDetails"])[:2000])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append("console: %s" % json.dumps(params["args"])[:2000])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append("log: %s" % params["entry"])
        elif method == "Audits.issueAdded":
            self.complaints.append("issue: %s" % json.dumps(params["issue"])[:2000])

    def open(self, url):
        r = self.call("Page.navigate", url=url)
        assert not r.get("errorText"), r

    def value(self, expression):
        """Of a JavaScript expression, also where pages may not run any."""
        r = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in r, r
        return r["result"].get("value")

    def text(self, selector="body"):
        return self.value("(document.querySelector(%s) || {innerText: ''}).innerText" % json.dumps(selector))

    def wait(self, what, expression):
        try:
            return rig.wait_for(what, lambda: self.value(expression))
        except AssertionError as e:
            raise AssertionError("%s; complaints: %s; the page:\n%s" % (e, self.complaints, self.text()[:3000]))

    def screenshot(self, path, whole=True):
        """A PNG; height grows to the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))
