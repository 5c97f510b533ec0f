"""Every command of the documents, run: in a booted machine with the package, a real Redis, a real RabbitMQ and the
sample client, block after block in the order of the pages (tests/lib/docs.py says what the notes above blocks mean).

What a "console" block shows must be seen: its lines stand in the output in that order, where numbers, spans of time
and dates may differ, "..." stands for anything, and what is before, between and behind may be more.

    python3 tests/package/test_runbook.py [--show] [PAGE[:LINE]]...

--show prints what each command printed, for whoever writes pages.
"""
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import docs  # noqa: E402
import rig  # noqa: E402
import runbook_world  # noqa: E402

PATIENCE = 60
BLOCK_LIMIT = 180


class Wrong(Exception):
    pass


# ---- what a console block shows ----

NUMBER = r"\d+(?:[.,:/-]\d+)*"
SPAN = r"\b\d+(?:\.\d+)?(?:us|ms|min|s|h|d|w)\b(?: \d+(?:us|ms|min|s|h|d|w)\b)*"


def shape(line):
    """The line without what differs from one run to the next."""
    line = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.]\d+)?(?:Z|[+-]\d{4})?", "0", line)
    line = re.sub(SPAN, "0", line)
    line = re.sub(NUMBER, "0", line)
    return " ".join(line.split())


def pattern(line):
    return re.compile(".*".join(re.escape(shape(part)) if part.strip() else "" for part in line.split("...")) + "$")


def missing(shown, out):
    """The first line of what is shown that is not in the output, or None."""
    have = [shape(line) for line in out.split("\n")]
    at = 0
    for line in shown:
        if not line.strip() or line.strip() == "...":
            continue
        want = pattern(line)
        while at < len(have) and not want.match(have[at]):
            at += 1
        if at == len(have):
            return line
        at += 1
    return None


# ---- one block ----

class Run:
    def __init__(self, machine, block):
        self.machine, self.block, self.note = machine, block, block.note
        self.said = []

    def bash(self, command, timeout=BLOCK_LIMIT, user=None):
        argv = ["bash", "-eu", "-o", "pipefail", "-c", command]
        if user:
            argv = ["setpriv", "--reuid=" + user, "--regid=" + user, "--init-groups"] + argv
        p = self.machine.run(argv, check=False, timeout=timeout)
        self.said.append("$ %s\n%s[%d]" % (command.rstrip(), p.stdout, p.returncode))
        return p

    def must(self, command, what):
        p = self.bash(command)
        if p.returncode:
            raise Wrong("%s: \"%s\" ended with %d" % (what, command, p.returncode))
        return p.stdout.strip()

    def names(self):
        """NAME: what its command prints."""
        return [(name, self.must(command, "let " + name).split("\n")[-1]) for name, command in self.note.let]

    def once(self, command, shown, last):
        """What is wrong with one command, or None."""
        if self.note.stop and last:
            p = self.bash("exec timeout --foreground -s INT %s bash -eu -o pipefail -c '%s'" %
                          (self.note.stop, command.replace("'", "'\\''")), user=self.note.user)
            good = p.returncode in (0, 124, 130)
        else:
            p = self.bash(command, user=self.note.user)
            good = p.returncode == (int(self.note.exit or 0) if last else 0)
        if not good:
            return "it ended with %d" % p.returncode
        line = missing(shown, p.stdout)
        if line is not None:
            return "the output has nothing like \"%s\"" % line
        for text in self.note.prints if last else ():
            if text not in p.stdout:
                return "the output lacks \"%s\"" % text
        return None

    def commands(self):
        names, commands = self.names(), self.block.commands()
        for i, (command, shown) in enumerate(commands):
            for name, value in names:
                command = re.sub(r"\b%s\b" % re.escape(name), lambda m: value, command)
            end = time.monotonic() + PATIENCE
            while True:
                problem = self.once(command, shown, i == len(commands) - 1)
                if problem is None or not self.note.retry or time.monotonic() > end:
                    break
                time.sleep(0.3)
                self.said[:-2] = []
            if problem:
                raise Wrong("%s: %s" % (command.strip(), problem))

    def all(self):
        try:
            for command in self.note.before:
                self.must(command, "before")
            if self.note.file:
                self.machine.write(self.note.file, self.block.text)
            if self.block.is_commands:
                self.commands()
        finally:
            for command in self.note.after:
                self.must(command, "after")


# ---- all of them ----

def title(block):
    first = block.lines[0] if block.lines else ""
    return "%s %s" % (block.where, block.note.file or re.sub("^[$#] (?! )", "", first)[:70].replace("#", ""))


def chosen(words):
    for page in docs.pages():
        for block in page.blocks:
            if (block.is_commands or block.note.file) and (not words or any(
                    page.name.endswith(w.split(":")[0]) and (":" not in w or block.where.endswith(w[w.index(":"):]))
                    for w in words)):
                yield block


def main():
    words = [w for w in sys.argv[1:] if w != "--show"]
    blocks = list(chosen(words))
    print("1..%d" % len(blocks))
    try:
        world = runbook_world.World()
    except rig.Skip as e:
        for i, block in enumerate(blocks, 1):
            print("ok %d - %s # SKIP %s" % (i, title(block), block.note.skip or e))
        return 0
    bad = 0
    with world as machine:
        page = blocks[0].path
        for i, block in enumerate(blocks, 1):
            if block.note.skip:
                print("ok %d - %s # SKIP %s" % (i, title(block), block.note.skip))
                continue
            if block.path != page:
                page = block.path
                world.fresh()
            run = Run(machine, block)
            try:
                run.all()
                print("ok %d - %s" % (i, title(block)))
                if "--show" in sys.argv:
                    print("".join("# %s\n" % x for x in "\n".join(run.said).split("\n")), end="")
            except (Wrong, AssertionError) as e:
                bad += 1
                print("not ok %d - %s" % (i, title(block)))
                print("".join("# %s\n" % x for x in [str(e)] + "\n".join(run.said)[-6000:].split("\n")), end="")
            sys.stdout.flush()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
