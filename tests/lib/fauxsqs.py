"""fauxsqs.py - npm's fauxqs (an SQS in memory) for the live tests.

It does not look at signatures, knows no message move tasks, and forgets
everything when it ends; aws_peer.py is the strict one.
"""
import base64
import http.client
import json
import os
import re
import threading

from node import install, node
from rig import DEADLINE, Process, wait_for

ACCOUNT = "000000000000"


class SqsError(Exception):
    def __init__(self, status, name, text):
        super().__init__("%d %s: %s" % (status, name, text))
        self.status, self.name = status, name


class Sqs:
    """Operations as raw HTTP with AWS JSON 1.0, over one connection kept for
    each thread.  The signature is a dummy."""
    KEYS = "AKIDTEST"

    def __init__(self, port, region="eu-west-1"):
        self.port, self.region = port, region
        self.endpoint = "http://127.0.0.1:%d" % port
        self.urls = {}
        self.local = threading.local()

    def __call__(self, operation, **body):
        for again in (True, False):
            c = getattr(self.local, "c", None) or http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
            self.local.c = c
            try:
                c.request("POST", "/", json.dumps(body), {
                    "X-Amz-Target": "AmazonSQS." + operation, "Content-Type": "application/x-amz-json-1.0",
                    "X-Amz-Date": "20260101T000000Z",
                    "Authorization": "AWS4-HMAC-SHA256 Credential=%s/20260101/%s/sqs/aws4_request, "
                    "SignedHeaders=host, Signature=0" % (self.KEYS, self.region)})
                answer = c.getresponse()
                text = answer.read()
                break
            except (OSError, http.client.HTTPException):
                self.local.c = None
                c.close()
                if not again:
                    raise
        value = json.loads(text.decode() or "{}")
        if answer.status != 200:
            raise SqsError(answer.status, value.get("__type", "").rpartition("#")[2], value.get("message"))
        return value

    def url(self, queue):
        if queue not in self.urls:
            self.urls[queue] = self("GetQueueUrl", QueueName=queue)["QueueUrl"]
        return self.urls[queue]

    def arn(self, queue):
        return "arn:aws:sqs:%s:%s:%s" % (self.region, ACCOUNT, queue)

    def create_queue(self, name, dead=None, receives=1000, **attributes):
        """A name that ends in .fifo makes a FIFO queue.  dead: the name of its
        dead letter queue, which is made too.  The URL."""
        fifo = name.endswith(".fifo")
        if dead:
            self.create_queue(dead)
            attributes["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": self.arn(dead),
                                                      "maxReceiveCount": receives})
        if fifo:
            attributes["FifoQueue"] = "true"
        self.urls[name] = self("CreateQueue", QueueName=name, Attributes={k: str(v) for k, v in attributes.items()})[
            "QueueUrl"]
        return self.urls[name]

    def set_attributes(self, queue, **attributes):
        self("SetQueueAttributes", QueueUrl=self.url(queue), Attributes={k: str(v) for k, v in attributes.items()})

    def delete_queue(self, queue):
        self("DeleteQueue", QueueUrl=self.url(queue))
        del self.urls[queue]

    @staticmethod
    def attribute(value):
        if isinstance(value, bytes):
            return {"DataType": "Binary", "BinaryValue": base64.b64encode(value).decode()}
        if isinstance(value, (int, float)):
            return {"DataType": "Number", "StringValue": str(value)}
        if isinstance(value, tuple):
            return {"DataType": value[0], "StringValue": value[1]}
        return {"DataType": "String", "StringValue": value}

    def entry(self, body, attributes=None, group=None, dedup=None, delay=None):
        e = {"MessageBody": body}
        if attributes:
            e["MessageAttributes"] = {k: self.attribute(v) for k, v in attributes.items()}
        if group is not None:
            e["MessageGroupId"] = group
        if dedup is not None:
            e["MessageDeduplicationId"] = dedup
        if delay is not None:
            e["DelaySeconds"] = delay
        return e

    def send(self, queue, body, **kw):
        return self("SendMessage", QueueUrl=self.url(queue), **self.entry(body, **kw))["MessageId"]

    def send_batch(self, queue, bodies, **kw):
        """Ten at a time.  Of a FIFO queue: group= for all; the deduplication
        id is the body."""
        for i in range(0, len(bodies), 10):
            entries = [dict(self.entry(b, **kw), Id=str(j)) for j, b in enumerate(bodies[i:i + 10])]
            if queue.endswith(".fifo"):
                for e in entries:
                    e.setdefault("MessageDeduplicationId", e["MessageBody"])
            answer = self("SendMessageBatch", QueueUrl=self.url(queue), Entries=entries)
            if answer.get("Failed"):
                raise AssertionError("not sent: %s" % answer["Failed"])

    def receive(self, queue, n=10, wait=0, visibility=30):
        return self("ReceiveMessage", QueueUrl=self.url(queue), MaxNumberOfMessages=n, WaitTimeSeconds=wait,
                    VisibilityTimeout=visibility, MessageSystemAttributeNames=["All"],
                    MessageAttributeNames=["All"]).get("Messages") or []

    def delete(self, queue, message):
        self("DeleteMessage", QueueUrl=self.url(queue), ReceiptHandle=message["ReceiptHandle"])

    def look(self, queue, n=10):
        """What waits there; it is given back."""
        found = self.receive(queue, n)
        for m in found:
            self("ChangeMessageVisibility", QueueUrl=self.url(queue), ReceiptHandle=m["ReceiptHandle"],
                 VisibilityTimeout=0)
        return found

    def attributes(self, queue):
        return self("GetQueueAttributes", QueueUrl=self.url(queue), AttributeNames=["All"])["Attributes"]

    def counts(self, queue):
        """(waiting, in flight, delayed)"""
        a = self.attributes(queue)
        return tuple(int(a["ApproximateNumberOfMessages" + x]) for x in ("", "NotVisible", "Delayed"))

    def purge(self, queue):
        self("PurgeQueue", QueueUrl=self.url(queue))


class FauxSqs(Process, Sqs):
    """Takes 0.7 s to start: let the tests of a file share() one, with queues
    of their own."""

    def __init__(self, rig, region="eu-west-1"):
        exe, where = node(), install()
        env = {k: v for k, v in os.environ.items() if not k.startswith("FAUXQS_")}
        env.update(FAUXQS_PORT="0", FAUXQS_DEFAULT_REGION=region, NODE_NO_WARNINGS="1")
        Process.__init__(self, rig, "fauxqs", [exe, os.path.join(where, "fauxqs.mjs")], env=env)
        Sqs.__init__(self, wait_for("fauxqs", self.listening), region)

    def listening(self):
        if not self.alive():
            raise AssertionError("fauxqs ended:\n" + self.log())
        m = re.search(r"^port (\d+)$", self.log(), re.M)
        return m and int(m.group(1))
