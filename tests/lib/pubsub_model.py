"""pubsub_model.py - topics and subscriptions of Pub/Sub in memory: leases with a
new ack id for each delivery, order, exactly-once delivery, limits.  No network.
"""
import itertools
import threading
import time

PROJECT = "p1"
ACK_IDS_MAX = 2500
REQUEST_MAX = 524288


class Refusal(Exception):
    """infos: (reason, metadata) of the ErrorInfos."""

    def __init__(self, code, text, infos=()):
        super().__init__("%s: %s" % (code, text))
        self.code, self.text, self.infos = code, text, infos


class Message:
    def __init__(self, number, data, attributes, key):
        self.id = str(8000000000 + number)
        self.data = data if isinstance(data, bytes) else data.encode()
        self.attributes, self.key = dict(attributes or {}), key or ""
        self.published = time.time()
        self.attempts = 0
        self.ack_id = None              # of the newest delivery
        self.deadline = 0               # of its lease; 0: nobody has it
        self.stream = None              # whom it was delivered to

    @property
    def body(self):
        return self.data.decode(errors="replace")

    @property
    def size(self):
        return len(self.data) + sum(len(k) + len(v) for k, v in self.attributes.items())

    def leased(self):
        return self.deadline > time.monotonic()

    def wire(self):
        seconds = int(self.published)
        return {"data": self.data, "attributes": self.attributes, "message_id": self.id, "ordering_key": self.key,
                "publish_time": {"seconds": seconds, "nanos": int((self.published - seconds) * 1e9)}}


class Subscription:
    """fifo: what sqs_world calls the order of keys."""
    fifo = False

    def __init__(self, service, path, topic, exactly_once=False, ordered=False, ack_deadline=10, dead_letter=None,
                 max_attempts=5):
        self.service, self.path, self.topic = service, path, topic
        self.exactly_once, self.ordered, self.ack_deadline = exactly_once, ordered, ack_deadline
        self.dead_letter, self.max_attempts = dead_letter, max_attempts     # the service's own policy
        self.detached = False
        self.messages = []
        self.acknowledged = []          # messages, in the order of their acknowledgements

    # ---- for tests ----

    def fill(self, *bodies, key=None, attributes=None, group=None):
        with self.service.cond:
            new = [self.service.message(b, attributes, key or group) for b in bodies]
            self.messages += new
            self.service.cond.notify_all()
        return new

    def bodies(self):
        with self.service.cond:
            return [m.body for m in self.messages]

    def counts(self):
        """(waiting, leased)"""
        with self.service.cond:
            leased = sum(m.leased() for m in self.messages)
            return len(self.messages) - leased, leased

    def expire(self):
        """All leases end now."""
        with self.service.cond:
            for m in self.messages:
                m.deadline = 0
            self.service.cond.notify_all()

    # ---- the service ----

    def take(self, most, seconds, stream=None, most_bytes=0):
        """With the lock held: deliveries, in the order of publishing."""
        out, held = [], set()
        if most_bytes:
            most_bytes -= sum(m.size for m in self.messages if m.stream is stream and m.leased())
        for m in self.messages:
            if len(out) >= most:
                break
            if m.leased():
                continue
            if m.key in held:
                continue
            if most_bytes and out and m.size > most_bytes:
                held.add(m.key) if self.ordered and m.key else None
                continue
            most_bytes -= m.size if most_bytes else 0
            m.attempts += 1
            m.ack_id = "ack-%s-%d-%s" % (m.id, m.attempts, "x" * 140)
            m.deadline = time.monotonic() + seconds
            m.stream = stream
            out.append(m)
        return out

    def outstanding(self, stream):
        return sum(m.stream is stream and m.leased() for m in self.messages)

    def wire(self, m):
        return {"ack_id": m.ack_id, "message": m.wire(), "delivery_attempt": m.attempts if self.dead_letter else 0}

    def find(self, ack_id):
        """The message; None: nothing of it is left, or it has a newer one."""
        m = next((m for m in self.messages if m.ack_id == ack_id), None)
        return None if m is None or self.exactly_once and not m.leased() else m

    def each(self, ack_ids, act):
        bad = {}
        for a in ack_ids:
            m = self.find(a)
            if m is not None:
                act(m)
            elif self.exactly_once:
                bad[a] = "PERMANENT_FAILURE_INVALID_ACK_ID"
        self.service.cond.notify_all()
        if bad:
            raise Refusal("INVALID_ARGUMENT", "Some acknowledgement ids in the request were invalid.",
                          [("EXACTLY_ONCE_ACKID_FAILURE", bad)])

    def acknowledge(self, ack_ids):
        def act(m):
            self.messages.remove(m)
            self.acknowledged.append(m)
        self.each(ack_ids, act)

    def modify(self, ack_ids, seconds):
        def act(m):
            m.deadline = time.monotonic() + seconds if seconds else 0
            if not seconds and self.ordered and m.key:
                # What came after it comes again, too.
                for later in self.messages[self.messages.index(m):]:
                    if later.key == m.key:
                        later.deadline = 0
        self.each(ack_ids, act)


class Service:
    def __init__(self, project=PROJECT):
        self.project = project
        self.cond = threading.Condition()
        self.numbers = itertools.count(1)
        self.topics = {}                # path: the messages that were published to it
        self.subscriptions = {}         # path: Subscription
        self.complaints = []            # what the real one would refuse for its form
        self.pull_wait = 1              # seconds an empty Pull is held

    def message(self, data, attributes=None, key=None):
        return Message(next(self.numbers), data, attributes, key)

    def topic_path(self, name):
        return name if "/" in name else "projects/%s/topics/%s" % (self.project, name)

    def path(self, name):
        return name if "/" in name else "projects/%s/subscriptions/%s" % (self.project, name)

    def topic(self, name):
        """Its published messages, a list that grows."""
        return self.topics.setdefault(self.topic_path(name), [])

    def subscription(self, name, topic=None, **kw):
        topic = self.topic_path(topic or name + "-topic")
        self.topics.setdefault(topic, [])
        s = self.subscriptions[self.path(name)] = Subscription(self, self.path(name), topic, **kw)
        return s

    def find(self, path):
        s = self.subscriptions.get(path)
        if s is None:
            raise Refusal("NOT_FOUND", "Resource not found (resource=%s)." % path.rpartition("/")[2])
        return s

    # ---- calls: a decoded request to a response as a dict ----

    def call(self, method, request, size=0):
        with self.cond:
            return getattr(self, "do_" + method)(request, size)

    def do_GetSubscription(self, q, size):
        s = self.find(q["subscription"])
        return {"name": s.path, "topic": s.topic, "ack_deadline_seconds": s.ack_deadline,
                "enable_message_ordering": s.ordered, "enable_exactly_once_delivery": s.exactly_once,
                "detached": s.detached,
                **({"dead_letter_policy": {"dead_letter_topic": s.dead_letter, "max_delivery_attempts": s.max_attempts}}
                   if s.dead_letter else {})}

    def check_ids(self, method, q, size):
        ids = q["ack_ids"]
        if not ids or not all(ids):
            self.complaints.append("%s without ack ids, or with an empty one" % method)
            raise Refusal("INVALID_ARGUMENT", "You have not specified an ack ID in the request.")
        if len(ids) > ACK_IDS_MAX or size > REQUEST_MAX:
            self.complaints.append("%s of %d ids, %d bytes" % (method, len(ids), size))
            raise Refusal("INVALID_ARGUMENT", "Request payload size exceeds the limit: 524288 bytes.")

    def do_Acknowledge(self, q, size):
        s = self.find(q["subscription"])
        self.check_ids("Acknowledge", q, size)
        s.acknowledge(q["ack_ids"])
        return {}

    def do_ModifyAckDeadline(self, q, size):
        s = self.find(q["subscription"])
        self.check_ids("ModifyAckDeadline", q, size)
        if not 0 <= q["ack_deadline_seconds"] <= 600:
            self.complaints.append("ModifyAckDeadline to %d s" % q["ack_deadline_seconds"])
            raise Refusal("INVALID_ARGUMENT", "Invalid ack deadline given: must be between 0 and 600.")
        s.modify(q["ack_ids"], q["ack_deadline_seconds"])
        return {}

    def do_Pull(self, q, size):
        s = self.find(q["subscription"])
        if q["max_messages"] < 1:
            self.complaints.append("Pull of %d messages" % q["max_messages"])
            raise Refusal("INVALID_ARGUMENT", "max_messages must be positive")
        end = time.monotonic() + (0 if q["return_immediately"] else self.pull_wait)
        while True:
            got = s.take(min(q["max_messages"], 1000), s.ack_deadline)
            left = end - time.monotonic()
            if got or left <= 0:
                return {"received_messages": [s.wire(m) for m in got]}
            self.cond.wait(min(left, 0.05))

    def do_Publish(self, q, size):
        if q["topic"] not in self.topics:
            raise Refusal("NOT_FOUND", "Resource not found (resource=%s)." % q["topic"].rpartition("/")[2])
        if not 1 <= len(q["messages"]) <= 1000 or size > 10 * 1000 * 1000:
            self.complaints.append("Publish of %d messages, %d bytes" % (len(q["messages"]), size))
            raise Refusal("INVALID_ARGUMENT", "The request is too big.")
        new = []
        for x in q["messages"]:
            a = x["attributes"]
            if not x["data"] and not a:
                raise Refusal("INVALID_ARGUMENT", "One or more messages in the publish request is empty.")
            if len(a) > 100 or any(not 0 < len(k.encode()) <= 256 or len(v.encode()) > 1024 or k.startswith("goog")
                                   for k, v in a.items()):
                self.complaints.append("Publish with these attributes: %s" % str(a)[:500])
                raise Refusal("INVALID_ARGUMENT", "A message's attributes are too many or too long.")
            new.append(self.message(x["data"], a, x["ordering_key"]))
        self.topics[q["topic"]] += new
        for s in self.subscriptions.values():
            if s.topic == q["topic"]:
                copies = [self.message(m.data, m.attributes, m.key) for m in new]
                for c, m in zip(copies, new):
                    c.id = m.id
                s.messages += copies
        self.cond.notify_all()
        return {"message_ids": [m.id for m in new]}
