"""aws_queue.py - an SQS in memory that is as strict as the real one.

Good enough for a consumer: visibility, receive counts, redrive policies, FIFO
groups and deduplication, batches with entries that fail, move tasks, the 60 s
of PurgeQueue.  Statuses and names are those of AWS where emulators get them
wrong.  What no careful client would send is refused and noted in complaints.
"""
import base64
import hashlib
import itertools
import json
import re
import struct
import threading
import time
import uuid

REGION = "eu-west-1"
ACCOUNT = "123456789012"
VISIBILITY_MAX = 43200
ID = re.compile(r"[A-Za-z0-9_-]{1,80}$")
BODY_MAX = 1048576


class Refusal(Exception):
    """An error as AWS answers it."""

    def __init__(self, name, text, status=400, prefix="com.amazonaws.sqs#"):
        super().__init__("%s: %s" % (name, text))
        self.name, self.text, self.status, self.prefix = name, text, status, prefix


def md5_of_body(body):
    return hashlib.md5(body.encode()).hexdigest()


def md5_of_attributes(attributes):
    h = hashlib.md5()

    def add(b):
        h.update(struct.pack(">I", len(b)) + b)
    for name in sorted(attributes):
        a = attributes[name]
        add(name.encode())
        add(a["DataType"].encode())
        binary = a["DataType"].startswith("Binary")
        h.update(b"\2" if binary else b"\1")
        add(base64.b64decode(a["BinaryValue"]) if binary else a["StringValue"].encode())
    return h.hexdigest()


class Message:
    def __init__(self, body, attributes, system, group, dedup, sequence):
        self.id = str(uuid.uuid4())
        self.body, self.attributes, self.system = body, attributes, system
        self.group, self.dedup, self.sequence = group, dedup, sequence
        self.sent_ms = int(time.time() * 1000)
        self.first_ms = None
        self.receives = 0
        self.visible_at = 0             # monotonic
        self.received_at = None         # the last time
        self.handle = None
        self.source = None              # ARN of the queue whose dead letter it is

    def in_flight(self, now):
        return self.handle is not None and self.visible_at > now

    def delayed(self, now):
        return self.handle is None and self.visible_at > now


class Queue:
    def __init__(self, service, name, dead=None, receives=1000, **attributes):
        self.service, self.name = service, name
        self.url = "%s/%s/%s" % (service.url_base, ACCOUNT, name)
        self.arn = "arn:aws:sqs:%s:%s:%s" % (service.region, ACCOUNT, name)
        self.fifo = name.endswith(".fifo")
        self.messages = []
        self.seen = {}                  # deduplication id to Message
        self.sequence = itertools.count(1)
        self.purged_at = None
        self.tasks = []
        self.attributes = {"VisibilityTimeout": "30", "DelaySeconds": "0", "MaximumMessageSize": str(BODY_MAX),
                           "ReceiveMessageWaitTimeSeconds": "0", "MessageRetentionPeriod": "345600"}
        if self.fifo:
            self.attributes.update(FifoQueue="true", ContentBasedDeduplication="false")
        if dead:
            self.attributes["RedrivePolicy"] = json.dumps({
                "deadLetterTargetArn": dead.arn, "maxReceiveCount": receives})
        self.attributes.update(attributes)

    def policy(self):
        p = self.attributes.get("RedrivePolicy")
        return json.loads(p) if p else None

    def counts(self):
        """(waiting, in flight, delayed)"""
        with self.service.cond:
            now = time.monotonic()
            flying = sum(m.in_flight(now) for m in self.messages)
            delayed = sum(m.delayed(now) for m in self.messages)
            return len(self.messages) - flying - delayed, flying, delayed

    def bodies(self):
        with self.service.cond:
            return [m.body for m in self.messages]

    def send(self, body, attributes=None, group=None, dedup=None, delay=0, system=None):
        attributes = attributes or {}
        with self.service.cond:
            if self.fifo:
                if dedup in self.seen:
                    return self.seen[dedup]
            m = Message(body, attributes, dict(system or {}), group, dedup,
                        "%020d" % next(self.sequence) if self.fifo else None)
            if delay:
                m.visible_at = time.monotonic() + delay
            if self.fifo:
                self.seen[dedup] = m
            self.messages.append(m)
            self.service.cond.notify_all()
            return m

    def fill(self, *bodies, **kw):
        """FIFO: the deduplication id is the body."""
        for b in bodies:
            self.send(b, **dict({"dedup": b} if self.fifo else {}, **kw))

    def take(self, n, visibility):
        """Messages that can be had now; under the lock."""
        now = time.monotonic()
        policy = self.policy()
        blocked = {m.group for m in self.messages if m.group is not None and m.in_flight(now)} if self.fifo else ()
        out = []
        for m in list(self.messages):
            if len(out) == n:
                break
            if m.visible_at > now:
                if self.fifo:
                    blocked.add(m.group)
                continue
            if self.fifo and m.group in blocked:
                continue
            if policy and m.receives >= int(policy["maxReceiveCount"]):
                dead = self.service.by_arn(policy["deadLetterTargetArn"])
                if dead:
                    self.messages.remove(m)
                    m.handle, m.source = None, self.arn
                    dead.messages.append(m)
                    self.service.cond.notify_all()
                    continue
            m.receives += 1
            m.first_ms = m.first_ms or int(time.time() * 1000)
            m.handle = "handle-%s-%d" % (m.id, m.receives)
            m.received_at = now
            m.visible_at = now + visibility
            out.append(m)
        return out

    def find(self, handle):
        if not isinstance(handle, str) or not handle.startswith("handle-"):
            raise Refusal("ReceiptHandleIsInvalid", "The input receipt handle is invalid.", 404)
        return next((m for m in self.messages if m.handle == handle), None)


class Service:
    def __init__(self, region=REGION, url_base="https://sqs.eu-west-1.test"):
        self.region, self.url_base = region, url_base
        self.cond = threading.Condition(threading.RLock())
        self.queues = {}
        self.complaints = []
        self.closing = False

    def queue(self, name, dead=None, **kw):
        """Makes it, and its dead letter queue by name."""
        dead = dead and (self.queues.get(dead) or self.queue(dead))
        q = self.queues[name] = Queue(self, name, dead, **kw)
        return q

    def by_arn(self, arn):
        return next((q for q in self.queues.values() if q.arn == arn), None)

    def refuse(self, name, text):
        self.complaints.append("%s: %s" % (name, text))
        raise Refusal(name, text)

    def of(self, body):
        q = next((q for q in self.queues.values() if q.url == body.get("QueueUrl")), None)
        if q is None:
            raise Refusal("QueueDoesNotExist", "The specified queue does not exist.")
        return q

    def call(self, operation, body, alive=lambda: True):
        fn = getattr(self, "do_" + operation, None)
        if fn is None:
            raise Refusal("UnknownOperationException", "", prefix="com.amazon.coral.service#")
        return fn(body, alive)

    def number(self, body, name, low, high, default=None):
        v = body.get(name, default)
        if v is None:
            return None
        if isinstance(v, bool) or not isinstance(v, int):
            self.refuse("SerializationException", "%s is no number: %r" % (name, v))
        if not low <= v <= high:
            self.refuse("InvalidParameterValue", "Value %d for parameter %s is invalid. Reason: Must be between %d and "
                        "%d." % (v, name, low, high))
        return v

    # ---- looking ----

    def do_GetQueueUrl(self, body, alive):
        q = self.queues.get(body.get("QueueName"))
        if q is None or body.get("QueueOwnerAWSAccountId", ACCOUNT) != ACCOUNT:
            raise Refusal("QueueDoesNotExist", "The specified queue does not exist.")
        return {"QueueUrl": q.url}

    def do_GetQueueAttributes(self, body, alive):
        q = self.of(body)
        waiting, flying, delayed = q.counts()
        a = dict(q.attributes, QueueArn=q.arn, ApproximateNumberOfMessages=str(waiting),
                 ApproximateNumberOfMessagesNotVisible=str(flying), ApproximateNumberOfMessagesDelayed=str(delayed))
        names = body.get("AttributeNames") or []
        return {"Attributes": {k: v for k, v in a.items() if k in names or "All" in names}} if names else {}

    def do_ListQueues(self, body, alive):
        return {"QueueUrls": [q.url for q in self.queues.values()]}

    # ---- receiving ----

    def do_ReceiveMessage(self, body, alive):
        q = self.of(body)
        n = self.number(body, "MaxNumberOfMessages", 1, 10, 1)
        wait = self.number(body, "WaitTimeSeconds", 0, 20, int(q.attributes["ReceiveMessageWaitTimeSeconds"]))
        visibility = self.number(body, "VisibilityTimeout", 0, VISIBILITY_MAX, int(q.attributes["VisibilityTimeout"]))
        end = time.monotonic() + wait
        with self.cond:
            while True:
                found = q.take(n, visibility) if alive() else []
                left = end - time.monotonic()
                if found or left <= 0 or self.closing or not alive():
                    break
                if self.queues.get(q.name) is not q:
                    self.of(body)
                self.cond.wait(min(left, 0.05))
            return {"Messages": [self.shown(q, m, body) for m in found]} if found else {}

    @staticmethod
    def shown(q, m, body):
        system = dict(m.system, SenderId="AIDAEXAMPLE", SentTimestamp=str(m.sent_ms),
                      ApproximateReceiveCount=str(m.receives), ApproximateFirstReceiveTimestamp=str(m.first_ms))
        if m.source:
            system["DeadLetterQueueSourceArn"] = m.source
        if m.group is not None:
            system["MessageGroupId"] = m.group
        if q.fifo:
            system.update(MessageDeduplicationId=m.dedup, SequenceNumber=m.sequence)
        wanted = (body.get("MessageSystemAttributeNames") or []) + (body.get("AttributeNames") or [])
        names = body.get("MessageAttributeNames") or []
        out = {"MessageId": m.id, "ReceiptHandle": m.handle, "MD5OfBody": md5_of_body(m.body), "Body": m.body}
        system = {k: v for k, v in system.items() if "All" in wanted or k in wanted}
        if system:
            out["Attributes"] = system
        attributes = {k: v for k, v in m.attributes.items() if k in names or "All" in names or ".*" in names}
        if attributes:
            out["MessageAttributes"] = attributes
            out["MD5OfMessageAttributes"] = md5_of_attributes(attributes)
        return out

    # ---- batches ----

    def entries(self, body):
        entries = body.get("Entries")
        if not isinstance(entries, list) or not entries:
            self.refuse("EmptyBatchRequest", "There should be at least one entry in the request.")
        if len(entries) > 10:
            self.refuse("TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10. You have sent "
                        "%d." % len(entries))
        ids = [e.get("Id") for e in entries]
        for i in ids:
            if not isinstance(i, str) or not ID.match(i):
                self.refuse("InvalidBatchEntryId", "Id %r" % i)
        if len(set(ids)) != len(ids):
            self.refuse("BatchEntryIdsNotDistinct", "Ids: %s" % ids)
        return entries

    def batch(self, body, do):
        good, bad = [], []
        with self.cond:
            for e in self.entries(body):
                try:
                    good.append(dict(do(e) or {}, Id=e["Id"]))
                except Refusal as r:
                    bad.append({"Id": e["Id"], "SenderFault": True, "Code": r.name, "Message": r.text})
            self.cond.notify_all()
        out = {}
        if good:
            out["Successful"] = good
        if bad:
            out["Failed"] = bad
        return out

    def delete(self, q, handle):
        m = q.find(handle)
        if m is not None:               # an old handle succeeds and deletes nothing
            q.messages.remove(m)

    def change(self, q, e):
        m = q.find(e.get("ReceiptHandle"))
        seconds = self.number(e, "VisibilityTimeout", 0, VISIBILITY_MAX)
        now = time.monotonic()
        if seconds is None:
            self.refuse("MissingParameter", "The request must contain the parameter VisibilityTimeout.")
        if m is None or not m.in_flight(now):
            raise Refusal("InvalidParameterValue", "Value %s for parameter ReceiptHandle is invalid. Reason: Message "
                          "does not exist or is not available for visibility timeout change." % e["ReceiptHandle"])
        if now + seconds - m.received_at > VISIBILITY_MAX:
            self.refuse("InvalidParameterValue", "Total VisibilityTimeout for the message is beyond the limit [43200 "
                        "seconds]")
        m.visible_at = now + seconds

    def do_DeleteMessage(self, body, alive):
        with self.cond:
            self.delete(self.of(body), body.get("ReceiptHandle"))
            self.cond.notify_all()
        return {}

    def do_DeleteMessageBatch(self, body, alive):
        q = self.of(body)
        return self.batch(body, lambda e: self.delete(q, e.get("ReceiptHandle")))

    def do_ChangeMessageVisibility(self, body, alive):
        with self.cond:
            self.change(self.of(body), body)
            self.cond.notify_all()
        return {}

    def do_ChangeMessageVisibilityBatch(self, body, alive):
        q = self.of(body)
        return self.batch(body, lambda e: self.change(q, e))

    # ---- sending ----

    def put(self, q, e):
        body, attributes = e.get("MessageBody"), e.get("MessageAttributes") or {}
        if not isinstance(body, str) or not body:
            self.refuse("MissingParameter", "The request must contain the parameter MessageBody.")
        if len(attributes) > 10:
            self.refuse("InvalidParameterValue", "Number of message attributes [%d] exceeds the allowed maximum [10]." %
                        len(attributes))
        size = len(body.encode())
        for name, a in attributes.items():
            kind = str(a.get("DataType", "")).partition(".")[0]
            value = a.get("BinaryValue" if kind == "Binary" else "StringValue")
            if kind not in ("String", "Number", "Binary") or not isinstance(value, str) or not value or \
                    set(a) - {"DataType", "StringValue", "BinaryValue"} or not re.match(r"[A-Za-z0-9_.-]{1,256}$", name):
                self.refuse("InvalidParameterValue", "The message attribute %r is invalid: %r" % (name, a))
            size += len(name) + len(a["DataType"]) + len(value.encode())
        if size > int(q.attributes["MaximumMessageSize"]):
            raise Refusal("InvalidParameterValue", "One or more parameters are invalid. Reason: Message must be shorter "
                          "than %s bytes." % q.attributes["MaximumMessageSize"])
        group, dedup = e.get("MessageGroupId"), e.get("MessageDeduplicationId")
        if q.fifo and group is None:
            self.refuse("MissingParameter", "The request must contain the parameter MessageGroupId.")
        if q.fifo and dedup is None:
            if q.attributes["ContentBasedDeduplication"] != "true":
                self.refuse("InvalidParameterValue", "The queue should either have ContentBasedDeduplication enabled or "
                            "MessageDeduplicationId provided explicitly")
            dedup = hashlib.sha256(body.encode()).hexdigest()
        if not q.fifo and dedup is not None:
            self.refuse("InvalidParameterValue", "The request include parameter that is not valid for this queue type")
        if q.fifo and e.get("DelaySeconds"):
            self.refuse("InvalidParameterValue", "DelaySeconds is not valid for FIFO queues")
        system = {k: v["StringValue"] for k, v in (e.get("MessageSystemAttributes") or {}).items()}
        m = q.send(body, attributes, group, dedup, self.number(e, "DelaySeconds", 0, 900, 0), system)
        out = {"MessageId": m.id, "MD5OfMessageBody": md5_of_body(body)}
        if attributes:
            out["MD5OfMessageAttributes"] = md5_of_attributes(attributes)
        if q.fifo:
            out["SequenceNumber"] = m.sequence
        return out

    def do_SendMessage(self, body, alive):
        with self.cond:
            return self.put(self.of(body), body)

    def do_SendMessageBatch(self, body, alive):
        q = self.of(body)
        return self.batch(body, lambda e: self.put(q, e))

    # ---- all of them at once ----

    def do_PurgeQueue(self, body, alive):
        with self.cond:
            q, now = self.of(body), time.monotonic()
            if q.purged_at is not None and now - q.purged_at < 60:
                raise Refusal("PurgeQueueInProgress", "Only one PurgeQueue operation on %s is allowed every 60 "
                              "seconds." % q.name, 403)
            q.purged_at = now
            q.messages = []
        return {}

    def do_StartMessageMoveTask(self, body, alive):
        with self.cond:
            source = self.by_arn(body.get("SourceArn"))
            if source is None:
                raise Refusal("ResourceNotFoundException", "The resource that you specified for the SourceArn parameter "
                              "doesn't exist.", 404)
            origins = [q for q in self.queues.values() if (q.policy() or {}).get("deadLetterTargetArn") == source.arn]
            if not origins:
                raise Refusal("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")
            if any(t["Status"] == "RUNNING" for t in source.tasks):
                raise Refusal("InvalidParameterValue", "There is already a task running.")
            rate = self.number(body, "MaxNumberOfMessagesPerSecond", 1, 500)
            target = self.by_arn(body["DestinationArn"]) if body.get("DestinationArn") else None
            task = {"TaskHandle": str(uuid.uuid4()), "Status": "RUNNING", "SourceArn": source.arn,
                    "ApproximateNumberOfMessagesMoved": 0, "StartedTimestamp": int(time.time() * 1000),
                    "ApproximateNumberOfMessagesToMove": len(source.messages)}
            if rate:
                task["MaxNumberOfMessagesPerSecond"] = rate
            source.tasks.insert(0, task)
        threading.Thread(target=self.move, args=(source, target, origins[0], task, rate or 500), daemon=True).start()
        return {"TaskHandle": task["TaskHandle"]}

    def move(self, source, target, origin, task, rate):
        while not self.closing:
            with self.cond:
                now = time.monotonic()
                m = next((m for m in source.messages if m.visible_at <= now), None)
                if m is None or task["Status"] != "RUNNING":
                    if task["Status"] == "RUNNING":
                        task["Status"] = "COMPLETED"
                    return
                source.messages.remove(m)
                to = target or self.by_arn(m.source) or origin
                # As a new one: with a new id and no past.
                n = Message(m.body, m.attributes, m.system, m.group, m.dedup, "%020d" % next(to.sequence))
                to.messages.append(n)
                task["ApproximateNumberOfMessagesMoved"] += 1
                self.cond.notify_all()
            time.sleep(1.0 / rate)

    def do_ListMessageMoveTasks(self, body, alive):
        source = self.by_arn(body.get("SourceArn"))
        if source is None:
            raise Refusal("ResourceNotFoundException", "The resource that you specified for the SourceArn parameter "
                          "doesn't exist.", 404)
        keep = self.number(body, "MaxResults", 1, 10, 1)
        return {"Results": [{k: v for k, v in t.items() if k != "TaskHandle" or t["Status"] == "RUNNING"}
                            for t in source.tasks[:keep]]} if source.tasks else {}

    def do_CancelMessageMoveTask(self, body, alive):
        for q in self.queues.values():
            for t in q.tasks:
                if t["TaskHandle"] == body.get("TaskHandle") and t["Status"] == "RUNNING":
                    t["Status"] = "CANCELLED"
                    return {"ApproximateNumberOfMessagesMoved": t["ApproximateNumberOfMessagesMoved"]}
        raise Refusal("ResourceNotFoundException", "Task does not exist.", 404)
