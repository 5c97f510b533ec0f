"""rules.py - what a scripted peer does otherwise: a pattern and an action.

An action is called with the request and go(), which answers it properly.
"""
import fnmatch


class Rule:
    def __init__(self, rules, target, action, times, when, after):
        self.rules, self.target, self.action, self.left = rules, target, action, times
        self.when, self.after = when, after
        self.hits = 0

    def remove(self):
        with self.rules.lock:
            if self in self.rules.all:
                self.rules.all.remove(self)


class Rules:
    def __init__(self, lock):
        self.lock, self.all = lock, []

    def add(self, target, action, times=None, when=None, after=0):
        """The newest that matches counts, times times, but not for the first
        "after" requests.  when(request): more to match."""
        rule = Rule(self, target, action, times, when or (lambda request: True), after)
        with self.lock:
            self.all.insert(0, rule)
        return rule

    def find(self, target, request):
        with self.lock:
            for rule in self.all:
                if not fnmatch.fnmatchcase(target, rule.target) or rule.left == 0 or not rule.when(request):
                    continue
                if rule.after:
                    rule.after -= 1
                    continue
                rule.hits += 1
                rule.left = rule.left and rule.left - 1
                return rule
        return None
