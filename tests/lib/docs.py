"""docs.py - what stands in our Markdown: fenced blocks, inline code, links.

A block that people are to run is fenced as "sh" (a script for sh -eu) or as
"console": lines that begin with "$ " or "# " are commands ("> " goes on), the
others what they print.  tests/package/test_runbook.py runs them all, in their order, in a
machine with the installed package.  A comment above a block tells it more:

    <!-- test
    before: COMMAND     run it first, quietly; "eventually COMMAND" waits for it
    after: COMMAND      and this behind it, whatever became of it
    let NAME: COMMAND   NAME in the block stands for what COMMAND prints
    exit: 4             what the (last) command ends with; 0 when not said
    prints: TEXT        a part of its output; again and again for several
    retry: yes          it harmlessly may be run again until it does so
    stop: 2             it goes on for ever: SIGINT after so many seconds
    user: NAME          runs it; root when not said
    file: PATH          an "ini" block: PATH gets this content
    skip: REASON        cannot be run there
    -->

A block of another kind (ini, python, json, text) is no command; of an "ini"
block sections and keys are looked up (tests/style/test_docs.py).
"""
import glob
import os
import re

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SINGLE = ("exit", "retry", "stop", "user", "file", "skip")
SEVERAL = ("before", "after", "prints")


class Block:
    """One fenced block.  kind is what stands behind the fence, line that of
    the first line inside."""

    def __init__(self, path, line, kind, lines, note):
        self.path, self.line, self.kind, self.lines, self.note = path, line, kind, lines, note
        self.where = "%s:%d" % (os.path.relpath(path, TOP), line)

    @property
    def text(self):
        return "\n".join(self.lines) + "\n"

    @property
    def is_commands(self):
        return self.kind in ("sh", "console")

    def commands(self):
        """[(command, [line that it prints])], as the reader would type them."""
        if self.kind == "sh":
            return [(self.text, [])]
        found = []
        for line in self.lines:
            if line.startswith(("$ ", "# ")):
                found.append((line[2:], []))
            elif found and not found[-1][1] and (line.startswith("> ") or found[-1][0].endswith("\\")):
                found[-1] = (found[-1][0] + "\n" + line.removeprefix("> "), [])
            elif not found:
                raise ValueError("%s: output without a command before it" % self.where)
            else:
                found[-1][1].append(line)
        return found


class Note:
    """What a comment tells the test."""

    def __init__(self, where, text=""):
        self.let = []
        self.before, self.after, self.prints = [], [], []
        self.exit = self.retry = self.stop = self.user = self.file = self.skip = None
        for line in text.splitlines():
            line = line.strip()
            if not line:
                continue
            key, colon, value = line.partition(":")
            value = value.strip()
            if not colon or not value:
                raise ValueError("%s: \"%s\" is no \"key: value\"" % (where, line))
            if key.startswith("let "):
                self.let.append((key[4:].strip(), value))
            elif key in SEVERAL:
                getattr(self, key).append(value)
            elif key in SINGLE:
                setattr(self, key, value)
            else:
                raise ValueError("%s: a note with the key \"%s\"" % (where, key))


class Page:
    """One file: its blocks, and its text without them."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.relpath(path, TOP)
        with open(path, encoding="utf-8") as f:
            lines = f.read().split("\n")
        self.blocks, self.prose, self.headings = [], [], []
        self.read(lines)

    def read(self, lines):
        note, note_text, fence, start, inside, indent = None, None, None, 0, [], ""
        for number, line in enumerate(lines, 1):
            where = "%s:%d" % (self.name, number)
            bare = line.strip()
            if note_text is not None:
                if bare == "-->":
                    note, note_text = Note(where, "\n".join(note_text)), None
                else:
                    note_text.append(line)
            elif fence is not None:
                if bare == "```":
                    self.blocks.append(Block(self.path, start, fence, inside, note or Note(where)))
                    note, fence = None, None
                else:
                    inside.append(line.removeprefix(indent))
            elif bare.startswith("```"):
                fence, start, inside = bare[3:].strip(), number + 1, []
                indent = line[:len(line) - len(line.lstrip())]      # in an item of a list
            elif bare.startswith("<!-- test"):
                if note is not None:
                    raise ValueError("%s: two notes for one block" % where)
                one = re.match(r"<!-- test (.*) -->$", bare)
                if one:
                    note = Note(where, one.group(1))
                else:
                    note_text = []
            else:
                if bare and note is not None:
                    raise ValueError("%s: a note must stand right above a block" % where)
                self.prose.append((number, line))
                m = re.match(r"#+ (.*)", line)
                if m:
                    self.headings.append(m.group(1))
        if fence is not None or note_text is not None or note is not None:
            raise ValueError("%s: a block or a note that does not end" % self.name)

    def anchors(self):
        """As GitHub makes them of headings."""
        found = []
        for h in self.headings:
            base = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", h).lower()).replace(" ", "-")
            n = found.count(base)
            found.append(base if not n else "%s-%d" % (base, n))
        return found

    def spans(self):
        """(line, text) of each `code span` of the prose, over the ends of lines."""
        found, offset_of = [], []
        text = ""
        for number, line in self.prose:
            offset_of.append((len(text), number))
            text += line + "\n"
        for m in re.finditer(r"(?<!`)`([^`]+)`(?!`)", text):
            number = [n for at, n in offset_of if at <= m.start()][-1]
            found.append((number, " ".join(m.group(1).split())))
        return found

    def links(self):
        """(line, target) of each [text](target)."""
        return [(number, m.group(1)) for number, line in self.prose
                for m in re.finditer(r"\]\(([^()\s]+)\)", line)]


def pages():
    """README, as who comes new reads it; the runbook; the guides."""
    rest = sorted(glob.glob(os.path.join(TOP, "docs", "*.md")))
    rest.sort(key=lambda p: (not os.path.basename(p).startswith("runbook"), os.path.basename(p) != "runbook.md"))
    return [Page(p) for p in [os.path.join(TOP, "README.md")] + rest]
