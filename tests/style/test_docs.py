"""What the documents name is there: commands and options of botctl, sections and keys of the configuration, units,
files, programs, fields, kinds of events, figures, metrics, scripts, and what their links lead to.

Cheap, and no root: it reads the tree, "botctl --help" and the tables of keys in the manual page. That the commands
work is the business of tests/package/test_runbook.py.
"""
import glob
import os
import re
import shlex
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import docs  # noqa: E402
import rig  # noqa: E402

# Sections and keys of systemd's own files that the documents speak of.
SYSTEMD_SECTIONS = "Unit Service Socket Timer Install Slice Mount Path".split()
SYSTEMD_KEYS = """After Wants WantedBy Before Requires PartOf OnFailure OnCalendar Persistent Description Documentation
    ExecStart ExecStartPre ExecReload ExecStop Type User Group Slice Delegate Environment EnvironmentFile KillMode
    LoadCredential SetCredential CPUQuota CPUWeight IOWeight MemoryMax MemoryHigh MemorySwapMax TasksMax LimitNOFILE
    LimitCORE Restart RestartSec RestartPreventExitStatus StartLimitBurst StartLimitIntervalSec TimeoutStopSec
    TimeoutStartSec WatchdogSec ReadWritePaths ReadOnlyPaths InaccessiblePaths BindReadOnlyPaths ProtectSystem
    ProtectHome PrivateTmp PrivateDevices NoNewPrivileges RuntimeDirectory StateDirectory ConfigurationDirectory
    ListenStream ListenDatagram FileDescriptorName SocketMode SocketUser SocketGroup CapabilityBoundingSet
    AmbientCapabilities DynamicUser SupplementaryGroups SystemMaxUse SystemKeepFree MaxRetentionSec Storage
    RateLimitIntervalSec RateLimitBurst NotifyAccess FileDescriptorStoreMax OOMPolicy OOMScoreAdjust Result NRestarts
    MainPID ActiveState SubState ExecMainStatus IPAddressDeny IPAddressAllow MemoryCurrent TasksCurrent StatusText
    SystemCallFilter Accept TriggeredBy Triggers""".split()
# Of others: what stands in their files, with the reason to be here.
OTHER_KEYS = {"SYSLOG_IDENTIFIER": "journald", "PRIORITY": "journald", "MESSAGE_ID": "journald",
              "CREDENTIALS_DIRECTORY": "systemd", "PUBSUB_EMULATOR_HOST": "Google", "_SYSTEMD_UNIT": "journald",
              "_PID": "journald", "NO_PROXY": "curl", "HTTPS_PROXY": "curl", "BUILD_DIR": "tests", "CC": "make",
              "STATUS": "sd_notify"}

_pages = None


def pages():
    global _pages
    if _pages is None:
        _pages = docs.pages()
    return _pages


def read(*path):
    with open(os.path.join(docs.TOP, *path), encoding="utf-8", errors="replace") as f:
        return f.read()


def sources(pattern):
    return "".join(read(p) for p in sorted(glob.glob(os.path.join(docs.TOP, pattern), recursive=True)))


def no(problems):
    assert not problems, "%d:\n  " % len(problems) + "\n  ".join(sorted(set(problems)))


def pieces(page):
    """(line, text, whether it is a whole line of a command) of all that is set as code."""
    for number, text in page.spans():
        yield number, text, False
    for block in page.blocks:
        if block.kind == "console":
            for command, _ in block.commands():
                for line in command.replace("\\\n", " ").split("\n"):
                    yield block.line, line, True
        elif block.kind == "sh":
            for i, line in enumerate(block.text.replace("\\\n", " ").split("\n")):
                yield block.line + i, line, True


# ---- botctl ----

def usage():
    """{command: its usage}, and {option before a command: whether it wants a value}."""
    out = subprocess.run([os.path.join(rig.BUILD, "botctl"), "--help"], check=True, stdout=subprocess.PIPE,
                         universal_newlines=True).stdout
    commands = {}
    for m in re.finditer(r"^  ([a-z][a-z-]*(?: [a-z]+(?= |$))?)(.*)\n      \S", out, re.M):
        commands[m.group(1)] = m.group(2)
    # "debug timers|streams": words of an operand, not of the name.
    for name in [n for n in commands if commands[n].startswith("|")]:
        word, first = name.split(" ", 1)
        commands[word] = " " + first + commands.pop(name)
    general = out.split("\n\n", 1)[0] + "\n" + out.rsplit("\n\n", 2)[1]
    options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", general))
    return commands, {o: bool(re.search(r"(?<![\w-])%s [A-Z]" % re.escape(o), general)) or o == "-c" for o in options}


def botctl_calls(line):
    """The words behind each "botctl" of a line."""
    for m in re.finditer(r"(?:^|[\s;|&(\"$])(?:\S*/)?botctl(?=\s)([^;|&)\n]*)", line):
        try:
            yield shlex.split(m.group(1), comments=True)
        except ValueError:
            yield m.group(1).split()


def wrong_with(words, commands, general):
    """What is wrong with the words behind "botctl"; None when nothing is."""
    words = [w for w in words if not re.match(r"[<>0-9]*[<>]", w)]
    i = 0
    while i < len(words) and words[i].startswith("-"):
        if words[i].split("=")[0] not in general:
            return "no option %s" % words[i]
        i += 2 if general[words[i].split("=")[0]] and "=" not in words[i] else 1
    if i >= len(words) or words[i] in ("...", "COMMAND"):
        return None
    words = [w for w in words if w != "..."]
    name = " ".join(words[i:i + 2])
    if name in commands:
        i += 2
    elif words[i] in commands:
        name = words[i]
        i += 1
    elif any(c.startswith(words[i] + " ") for c in commands) and len(words) == i + 1:
        return None                     # `botctl dead` as a whole
    else:
        return "no command \"%s\"" % name
    for w in words[i:]:
        if re.match(r"--?[a-z]", w):
            option = w.split("=")[0]
            if option not in general and not re.search(r"(?<![\w-])%s(?![\w-])" % re.escape(option), commands[name]):
                return "%s has no option %s" % (name, option)
    return None


def test_commands_and_options_of_botctl(r):
    commands, general = usage()
    assert "dead list" in commands and "status" in commands and "debug" in commands, commands
    assert "--json" in general and "-i" in general, general
    seen, problems = set(), []
    for page in pages():
        for number, line, _ in pieces(page):
            for words in botctl_calls(line if line.startswith("botctl") or " " in line else ""):
                problem = wrong_with(words, commands, general)
                if problem:
                    problems.append("%s:%d: %s in \"%s\"" % (page.name, number, problem, line))
                seen.update(c for c in commands if c in " ".join(words))
    no(problems)
    no(["no document shows botctl " + c for c in set(commands) - seen])
    manual = re.sub(r"\\f.|\\(?=-)|^\.\w+ ?|\"", "", read("docs", "botctl.1"), flags=re.M)
    no(["docs/botctl.1 has no " + c for c in commands if c not in manual])
    no(["docs/botctl.1: %s has no %s" % (c, o) for c in commands for o in re.findall("--[a-z-]+", commands[c])
        if o not in manual])


# ---- the configuration ----

def key_tables():
    """{section: its keys}; those of all kinds of queues under "Queue"."""
    path = os.path.join(rig.BUILD, "docs", "bot-operator.conf.5")
    with open(path, encoding="utf-8") as f:
        text = f.read().replace("\\-", "-")
    tables, section = {}, None
    for line in text.split("\n"):
        m = re.match(r"\.S[HS] \"?\[(\w+)", line)
        if m:
            section = m.group(1)
            tables.setdefault(section, set())
        elif line.startswith((".SH", ".SS")):
            section = None
        m = re.match(r"(?:\\fB|\.B |\.BR |\.I )?\"?(\w+)(?:\\fR)?=", line)
        if m and section:
            tables[section].add(m.group(1))
    assert {"Operator", "Pool", "Queue", "Alert", "Check", "Slack", "Kuma"} <= set(tables), tables
    assert "Backoff" in tables["Queue"] and "VHost" in tables["Queue"] and "Workers" in tables["Pool"], tables
    return tables


def test_sections_and_keys_of_the_configuration(r):
    tables = key_tables()
    ours = set().union(*tables.values())
    systemd = set(SYSTEMD_KEYS) | set(re.findall(r"\b([A-Z]\w+)=", sources("systemd/*")))
    problems = []
    for page in pages():
        for block in page.blocks:
            if block.kind != "ini":
                continue
            section = None
            for i, line in enumerate(block.lines):
                where = "%s:%d" % (page.name, block.line + i)
                head = re.match(r"#?\[(\w+)( [^]]*)?\]\s*$", line)
                key = re.match(r"#?([A-Z]\w*)\s*=", line)
                if head:
                    section = head.group(1)
                    if section not in tables and section not in SYSTEMD_SECTIONS and section != "Journal":
                        problems.append("%s: no section [%s]" % (where, section))
                elif key and section in tables and key.group(1) not in tables[section]:
                    problems.append("%s: [%s] has no %s=" % (where, section, key.group(1)))
                elif key and section in SYSTEMD_SECTIONS + ["Journal"] and key.group(1) not in systemd:
                    problems.append("%s: is %s= a key of systemd? (SYSTEMD_KEYS of this test)" % (where, key.group(1)))
                elif key and section is None:
                    problems.append("%s: %s= without a section" % (where, key.group(1)))
        for number, text in page.spans():
            where = "%s:%d" % (page.name, number)
            if re.match(r"[A-Z_]+=\S", text):           # NAME=value for a shell
                continue
            m = re.match(r"\[(\w+)(?: [A-Za-z*%-]+)?\]$", text)
            if m and m.group(1) not in tables and m.group(1) not in SYSTEMD_SECTIONS:
                problems.append("%s: no section [%s]" % (where, m.group(1)))
            m = re.match(r"([A-Z_]\w+)=(?!=)", text)
            if m and m.group(1) not in ours and m.group(1) not in systemd and m.group(1) not in OTHER_KEYS and \
                    m.group(1) not in fields() | environment():
                problems.append("%s: there is no key %s=" % (where, m.group(1)))
    no(problems)


# ---- names of the log, of figures, of metrics ----

def fields():
    return set(re.findall(r'"(BOT_[A-Z_]+)=', read("daemon", "base", "log.c")))


def environment():
    """BOT_... of handlers and of our programs."""
    return set(re.findall(r"\bBOT_[A-Z_]+\b", sources("daemon/**/*.c")))


def test_fields_and_kinds_of_events(r):
    events = dict((i, n) for n, i in re.findall(r'#define EVENT_(\w+) \\\n\t"([0-9a-f]*)"',
                                                read("daemon", "base", "log_event.h")))
    known, problems = fields() | environment(), []
    for page in pages():
        with open(page.path, encoding="utf-8") as f:
            text = f.read()
        for n, line in enumerate(text.split("\n"), 1):
            for i in re.findall(r"\b[0-9a-f]{32}\b", line):
                if i not in events:
                    problems.append("%s:%d: no MESSAGE_ID %s" % (page.name, n, i))
            for f in re.findall(r"\bBOT_[A-Z_]+\b", line):
                if f not in known and not f.endswith("_") and not f.startswith("BOT_ATTR_"):
                    problems.append("%s:%d: no field %s" % (page.name, n, f))
    no(problems)
    shown = "".join(read(p.name) for p in pages())
    no(["no document has the MESSAGE_ID of %s (%s)" % (n, i) for i, n in events.items() if i not in shown])


def test_figures_and_metrics(r):
    figures = set(re.findall(r'\{ "([a-z_.0-9]+)",', read("daemon", "observe", "figure.c")))
    own = set(re.findall(r'"([a-z_0-9]+)"', sources("daemon/queue/*.c")))
    code = sources("daemon/**/*.c")
    problems = []
    for page in pages():
        for number, text in page.spans():
            for m in re.finditer(r"(?<![\w./-])(queue|pool)\.([a-z_]+)(\.[a-z0-9_]+)?(?![\w/-]|\.[a-z])", text):
                name = m.group(0)
                if name not in figures and not (m.group(1) == "queue" and (m.group(2) == "errors" or
                                                                           m.group(2) in own)):
                    problems.append("%s:%d: no figure %s" % (page.name, number, name))
            for m in re.finditer(r"\bbot_operator_([a-z_]+[a-z])\b", text):
                name = re.sub(r"_(total|bucket|count|sum)$", "", m.group(1))
                # "status_" and the like may be put before the name in the code.
                if name not in code and '"%s"' % name.partition("_")[2] not in code and not text.endswith("..."):
                    problems.append("%s:%d: no metric %s" % (page.name, number, m.group(0)))
    no(problems)


# ---- units, files, programs, scripts ----

def tree():
    """What the tree has, by base name; templates as what is made of them."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=docs.TOP, stdout=subprocess.PIPE,
                           universal_newlines=True).stdout.split("\n")
    if len(names) < 10:                 # no git here: a tarball
        names = [os.path.relpath(os.path.join(d, f), docs.TOP) for d, _, fs in os.walk(docs.TOP) for f in fs]
    return {os.path.basename(n).removesuffix(".in"): n for n in names}


UNIT = re.compile(r"(?<![\w/%@-])(bot-[a-z-]+(?:@[%\w.-]*)?\.(?:service|socket|timer|target|slice|path))\b")


def test_units_files_and_programs(r):
    there = tree()
    there.update((f, f) for f in os.listdir(os.path.join(rig.BUILD, "systemd")))
    programs = {"bot-operatord", "botctl", "bot-worker"}
    installed = {os.path.basename(x) for x in there} | programs
    problems = []
    for page in pages():
        with open(page.path, encoding="utf-8") as f:
            lines = f.read().split("\n")
        for n, line in enumerate(lines, 1):
            for unit in UNIT.findall(line):
                template = re.sub(r"@[^.]*", "@", unit)
                if unit not in there and template not in there:
                    problems.append("%s:%d: no unit %s" % (page.name, n, unit))
            for path in re.findall(r"(/usr/(?:lib|libexec|share|s?bin)/(?:bot-operator/)?[\w./@-]*[\w@])", line):
                base = os.path.basename(path)
                if "bot" in path and base != "bot-operator" and base not in installed and \
                        not any("/%s/" % base in x for x in there.values()):
                    problems.append("%s:%d: nothing here makes %s" % (page.name, n, path))
            for path in re.findall(r"(?<![\w/.-])((?:scripts|docs|tests|daemon|systemd|conf|packaging)/[\w./@-]*[\w@])",
                                   line):
                if not os.path.exists(os.path.join(docs.TOP, path)) and \
                        not os.path.exists(os.path.join(docs.TOP, path + ".in")) and \
                        not os.path.exists(os.path.join(rig.BUILD, path)):
                    problems.append("%s:%d: there is no %s" % (page.name, n, path))
    no(problems)


def test_installed_scripts_are_spoken_of(r):
    with open(os.path.join(rig.BUILD, "Makefile"), encoding="utf-8") as f:
        lines = re.findall(r"^(?:dist_|nodist_)?(\w+)_SCRIPTS = (.*)", f.read().replace("\\\n", " "), re.M)
    scripts = {os.path.basename(x) for kind, names in lines if kind not in ("check", "noinst", "EXTRA") and
               "handlers" not in kind for x in names.split() if "$" not in x}
    assert "notify-failure" in scripts, lines
    text = "".join(read(p.name) for p in pages())
    no(["no document speaks of the script " + s for s in scripts if not re.search(r"(?<![\w-])%s(?![\w-])" % s, text)])


# ---- the documents themselves ----

def test_links_lead_somewhere(r):
    by_path = {os.path.realpath(p.path): p for p in pages()}
    hacking = docs.Page(os.path.join(docs.TOP, "HACKING.md"))
    by_path[os.path.realpath(hacking.path)] = hacking
    problems, linked = [], set()
    for page in list(by_path.values()):
        for number, target in page.links():
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            to = os.path.realpath(os.path.join(os.path.dirname(page.path), path)) if path else \
                os.path.realpath(page.path)
            linked.add(to)
            if not os.path.exists(to):
                problems.append("%s:%d: %s is not there" % (page.name, number, target))
            elif anchor and (to not in by_path or anchor not in by_path[to].anchors()):
                problems.append("%s:%d: no heading for %s" % (page.name, number, target))
    no(problems)
    no(["nothing leads to " + p.name for p in pages() if os.path.realpath(p.path) not in linked and
        p.name != "README.md"])


def test_documents_are_installed(r):
    made = read("Makefile.am") + read("docs", "sources.am")
    no(["%s is not in dist_doc_DATA" % p.name for p in pages() if p.name not in made])


def test_every_block_says_what_it_is(r):
    known = ("sh", "console", "ini", "python", "json", "text", "yaml", "nginx")
    problems = []
    for page in pages():
        for block in page.blocks:
            if block.kind not in known:
                problems.append("%s: a block of no kind (%s)" % (block.where, ", ".join(known)))
            if block.is_commands:
                block.commands()
            if not block.is_commands and block.note.file is None and (block.note.skip or block.note.prints):
                problems.append("%s: a note for commands, but a block that is none" % block.where)
        for n, line in page.prose:
            if len(line) > 120 and not line.lstrip().startswith("|"):
                problems.append("%s:%d: longer than 120" % (page.name, n))
    no(problems)


if __name__ == "__main__":
    rig.main(globals())
