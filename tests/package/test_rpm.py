"""The RPM package: transactions of real dnf in a booted machine.

The machine is a Debian: dnf, rpm, systemd and the scriptlets are real, the
distribution is not.  A stub package provides what the libraries and programs
really there would be called on Enterprise Linux.  This is no test of
Enterprise Linux itself.
"""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import packages  # noqa: E402
import rig  # noqa: E402
from packages import Machine  # noqa: E402

CONF = "/etc/bot-operator/bot-operator.conf"
ELFDEPS = "/usr/lib/rpm/elfdeps"
# What names no library.
NAMES = "/bin/sh systemd ca-certificates rtld(GNU_HASH)".split()
SPEC = """Name: userland
Version: 1
Release: 1
Summary: What this Debian has, in the words of rpm
License: MIT
BuildArch: %s
AutoReqProv: no
%s
%%description
%%{summary}.
%%files
"""


def rpmbuild(*argv):
    p = subprocess.run(["rpmbuild", *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, universal_newlines=True)
    assert p.returncode == 0, p.stdout[-3000:]


def stub(r):
    """The package of what is there already."""
    if not os.access(ELFDEPS, os.X_OK):
        raise rig.Skip(ELFDEPS + " is not there (package rpm)")
    libraries = {os.path.realpath(x) for x in packages.booted.libraries(os.path.join(rig.BUILD, "bot-operatord"))}
    said = subprocess.run([ELFDEPS, "--provides", *sorted(libraries)], stdout=subprocess.PIPE,
                          check=True, universal_newlines=True).stdout.split("\n")
    spec = r.write("userland.spec", SPEC % (os.uname().machine, "".join(
        "Provides: %s\n" % x for x in sorted(set(said) | set(NAMES)) if x)))
    rpmbuild("-bb", "--define", "_topdir " + r.path("userland"), spec)
    return r.path("userland", "RPMS", os.uname().machine, "userland-1-1.%s.rpm" % os.uname().machine)


def later_version(r):
    """A package of a later release with the files of ours, and another
    configuration; built from what ours installs, not compiled again."""
    rpm, = packages.files("rpm", "bot-operator-[0-9]*.%s.rpm" % os.uname().machine)
    root = r.path("later", "root", "x")[:-2]
    cpio = subprocess.Popen(["rpm2cpio", rpm], stdout=subprocess.PIPE)
    subprocess.run(["cpio", "-idm", "--quiet"], cwd=root, stdin=cpio.stdout, check=True)
    assert cpio.wait() == 0
    shutil.rmtree(root + "/usr/lib/.build-id", ignore_errors=True)
    packages.edit(root + CONF, r"\A", "# This is another version.\n")
    with open(os.path.join(rig.SOURCE, "packaging/rpm/bot-operator.spec")) as f:
        spec = f.read()
    for old, new in ((r"(?m)^Release: .*", "Release: 2"), (r"(?m)^%autosetup", ""),
                     (r"(?s)%build\n.*?%post\n", "%install\ncp -a " + root + "/. %{buildroot}\n%post\n"),
                     (r"(?m)^%license LICENSE\n", "%{_defaultlicensedir}/*\n"),
                     (r"(?s)%package doc\n.*?%prep", "%prep"), (r"(?s)%files doc\n.*?%changelog", "%changelog"),
                     (r"(?m)^Source0:.*", "")):
        spec, n = re.subn(old, new, spec, count=1)
        assert n == 1, old
    path = r.write("later/bot-operator.spec", spec)
    rpmbuild("-bb", "--nodeps", "--load", os.path.join(rig.SOURCE, "packaging/rpm/macros.debian"), "--define",
             "_topdir " + r.path("later"), "--define", "_enable_debug_packages 0", "--define",
             "_build_id_links none", path)
    return r.path("later", "RPMS", os.uname().machine, "bot-operator-0.1.0-2.%s.rpm" % os.uname().machine)


class RpmMachine(Machine):
    def serve(self, *rpms):
        """Makes these, besides earlier ones, a repository for dnf."""
        repo = os.path.join(self.dir, "rpms")
        os.makedirs(repo, exist_ok=True)
        for rpm in rpms:
            shutil.copy(rpm, repo)
        subprocess.run(["createrepo_c", "-q", repo], check=True)
        self.put(repo, "/srv/rpms")
        self.write("/etc/yum.repos.d/ours.repo", "[ours]\nname=ours\nbaseurl=file:///srv/rpms\ngpgcheck=0\n"
                                                 "metadata_expire=0\n")

    def dnf(self, *args, **kw):
        # Nothing of dnf's own may be "no longer needed".
        return self.run(["dnf", "-y", "-q", "--setopt=clean_requirements_on_remove=False",
                         "--setopt=install_weak_deps=False", *args], **kw)


def test_dnf_installs_upgrades_and_removes_on_a_debian_userland():
    print("# real dnf, rpm, scriptlets and systemd, on a Debian userland; not Enterprise Linux")
    r = rig.Rig("rpm")
    try:
        ours = [x for x in packages.files("rpm") if not x.endswith(".src.rpm")]
        first, userland, later = ours, stub(r), later_version(r)
        with RpmMachine("rpm") as b:
            # The libraries, by their own packages.
            b.publish()
            b.apt("install", *packages.libraries())
            b.serve(userland, *first)
            b.dnf("install", "bot-operator", "bot-operator-doc")
            # As there: enabled by the preset, started by people.
            assert b.run("systemctl is-enabled bot-operator", check=False).stdout == "enabled\n"
            assert not b.active("bot-operator")
            b.run("systemctl enable --now bot-operator")
            b.botctl("enqueue", "spool", "--body", "hello\n")
            b.wait_for("the message", lambda: b.status()["queues"]["spool"]["done"] == 1)
            assert b.run("rpm -V bot-operator bot-operator-doc").stdout == ""

            b.write(CONF, b.read(CONF) + "\n# edited here\n")
            b.jobs()
            b.jobs("shop")
            b.run("systemctl enable bot-operator@shop")
            units = "bot-operator.service", "bot-operator@shop.service"
            for instance in "bot-operator", "shop":
                b.wait_for(instance, lambda: b.status(instance).get("status") == "ok")
            pids = [b.main_pid(u) for u in units]
            b.serve(later)
            with b.producing("bot-operator", "shop") as numbers:
                for instance in "bot-operator", "shop":
                    b.wait_for("some work", lambda: len(b.done(instance)) > 100)
                b.dnf("upgrade")
            assert b.run("rpm -q --qf %{RELEASE} bot-operator").stdout == "2"
            now = [b.main_pid(u) for u in units]
            assert all(now) and not set(now) & set(pids), (pids, now)
            assert "edited here" in b.read(CONF) and "another version" in b.read(CONF + ".rpmnew")
            for instance in "bot-operator", "shop":
                b.all_done(numbers, instance)
                assert len(b.done(instance)) == len(numbers), "run twice"

            b.dnf("remove", "bot-operator")
            for pid in now:
                assert not os.path.exists(b.path("/proc/%d" % pid)), "still running"
            assert b.run("find /etc/systemd -name 'bot-operator*'").stdout == ""
            assert b.run("rpm -qa 'bot-operator'").stdout == ""
            assert not os.path.exists(b.path("/usr/sbin/bot-operatord"))
            assert not os.path.exists(b.path("/run/bot-operator"))
            # rpm knows no purge: what was edited, and messages, are people's.
            assert "edited here" in b.read(CONF + ".rpmsave")
            assert os.path.exists(b.path("/var/spool/bot-operator"))
            b.run("systemctl daemon-reload")
            assert b.run("systemctl is-system-running", check=False).stdout == "running\n"
    finally:
        r.close(False)


# What is left of rpmlint's findings, and why: packaging/rpm/README.
def test_rpmlint_finds_nothing_new():
    rpms = packages.files("rpm")
    try:
        p = subprocess.run(["rpmlint", "-c", os.path.join(rig.SOURCE, "packaging/rpm/rpmlint.toml"), *rpms,
                            os.path.join(rig.SOURCE, "packaging/rpm/bot-operator.spec")], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=120)
    except FileNotFoundError:
        raise rig.Skip("rpmlint is not installed")
    found = [x for x in p.stdout.splitlines() if re.match(r"\S+: [EW]: ", x)]
    assert not found, "\n".join(found)
    assert re.search(r"[34] packages and 1 specfiles checked", p.stdout), p.stdout


if __name__ == "__main__":
    rig.main(globals())
