"""schedule.py - runs programs beside each other, for tests/run.py.

Most test programs wait: for servers to start, for deadlines.  So more of them
run at a time than there are processors, beside one job that is busy all the
time, as a build is.  A job that measures time runs alone, after all the others.

The output of a job is collected, and handed to its report() when it has ended,
one at a time; report() may add jobs.  Every job has a session of its own,
which ends with it; so do all when this process is interrupted.
"""
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time

LIMIT = 600                     # seconds for one program
GRACE = 5                       # seconds from SIGTERM to SIGKILL
AT_ONCE = (os.cpu_count() or 2) + 2


class Interrupted(BaseException):
    pass


class Job:
    """argv, or several that run one after the other until one fails.

    first: of two that wait, the greater one starts before the other.
    busy: keeps the processors occupied.  alone: nothing may run beside it.
    report(job): job.status (0 is good), .output, .seconds, .cpu_seconds.
    """

    def __init__(self, argv, report, cwd=None, env=None, limit=LIMIT, first=0, busy=False, alone=False, nice=0):
        self.steps = argv if isinstance(argv[0], list) else [argv]
        self.report, self.cwd, self.env, self.limit = report, cwd, env, limit
        self.first, self.busy, self.alone, self.nice = first, busy, alone, nice
        self.status, self.output, self.seconds, self.cpu_seconds = 0, "", 0.0, 0.0
        self.pid, self.late, self.stopped = None, False, False

    def run(self):
        begin = time.monotonic()
        for argv in self.steps:
            if self.status or self.stopped:
                break
            self.step(["nice", "-n", str(self.nice)] + argv if self.nice else argv)
        self.seconds = time.monotonic() - begin

    def step(self, argv):
        with tempfile.TemporaryFile() as out:
            p = subprocess.Popen(argv, cwd=self.cwd, env=dict(os.environ, **(self.env or {})),
                                 stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                 start_new_session=True)
            self.pid = p.pid
            timer = threading.Timer(self.limit, self.expire)
            timer.start()
            # It keeps its number, and its group too, until wait4().
            os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)
            timer.cancel()
            timer.join()
            self.kill(signal.SIGKILL)           # what it left behind
            self.pid = None
            _, status, usage = os.wait4(p.pid, 0)
            p.returncode = self.status = os.waitstatus_to_exitcode(status)
            self.cpu_seconds += usage.ru_utime + usage.ru_stime
            out.seek(0)
            self.output += out.read().decode(errors="replace")
        if self.late:
            self.status = self.status or -1
            self.output += "\nended after %d s\n" % self.limit

    def expire(self):
        self.late = True
        self.kill(signal.SIGKILL)

    def kill(self, signo):
        """All of its session; some have made themselves a process group."""
        for name in os.listdir("/proc") if self.pid else ():
            try:
                with open("/proc/%d/stat" % int(name)) as f:
                    session = int(f.read().rpartition(")")[2].split()[3])
                if session == self.pid:
                    os.kill(int(name), signo)
            except (ValueError, OSError):
                pass


class Schedule:
    def __init__(self, at_once=AT_ONCE):
        self.at_once = at_once
        self.waiting, self.running = [], []
        self.ended = queue.SimpleQueue()

    def add(self, job):
        self.waiting.append(job)

    def fits(self, job):
        if job.alone:
            return not self.running and all(j.alone for j in self.waiting)
        if job.busy:
            return not any(j.busy for j in self.running)
        # A place is kept for one that is busy.
        return sum(not j.busy for j in self.running) < self.at_once - 1 + (
            not any(j.busy for j in self.waiting + self.running))

    def start(self):
        for job in sorted(self.waiting, key=lambda j: -j.first):        # stable
            if self.fits(job):
                self.waiting.remove(job)
                self.running.append(job)
                threading.Thread(target=self.work, args=(job,), daemon=True).start()

    def work(self, job):
        try:
            job.run()
        except Exception as e:
            job.status, job.output = -1, job.output + "\n%s: %s\n" % (job.steps, e)
        self.ended.put(job)

    def run(self):
        """Until all have ended.  On SIGINT, SIGTERM and SIGHUP they are ended,
        and Interrupted is raised."""
        def interrupt(signo, _):
            raise Interrupted(signal.Signals(signo).name)
        before = [(s, signal.signal(s, interrupt)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        try:
            while self.waiting or self.running:
                self.start()
                job = self.ended.get()
                self.running.remove(job)
                job.report(job)
        finally:
            for s, _ in before:
                signal.signal(s, signal.SIG_IGN)
            self.end()
            for s, handler in before:
                signal.signal(s, handler)

    def end(self):
        """In order first: a test program ends the servers that it started."""
        self.waiting.clear()
        for signo in (signal.SIGTERM, signal.SIGKILL):
            for job in self.running:
                job.stopped = True
                job.kill(signo)
            until = time.monotonic() + GRACE
            while self.running:
                try:
                    self.running.remove(self.ended.get(timeout=max(0, until - time.monotonic())))
                except queue.Empty:
                    break
