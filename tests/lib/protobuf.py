"""protobuf.py - the few messages of Google's that tests speak, by hand.

    encode("PublishResponse", {"message_ids": ["1"]})
    decode("AcknowledgeRequest", data)["ack_ids"]

The numbers are those of google/pubsub/v1/pubsub.proto and google/rpc; they are
written down here once more on purpose, so that a wrong one in the daemon's own
files is seen.  What is absent has proto3's default; unknown fields are kept
under their numbers.
"""
import struct

# name: number, kind; "*" repeated.  Kinds: int, bool, bytes, str, map (of str),
# or another message.
SCHEMA = {
    "Timestamp": {"seconds": (1, "int"), "nanos": (2, "int")},
    "PubsubMessage": {"data": (1, "bytes"), "attributes": (2, "map"), "message_id": (3, "str"),
                      "publish_time": (4, "Timestamp"), "ordering_key": (5, "str")},
    "ReceivedMessage": {"ack_id": (1, "str"), "message": (2, "PubsubMessage"), "delivery_attempt": (3, "int")},
    "StreamingPullRequest": {
        "subscription": (1, "str"), "ack_ids": (2, "*str"), "modify_deadline_seconds": (3, "*int"),
        "modify_deadline_ack_ids": (4, "*str"), "stream_ack_deadline_seconds": (5, "int"), "client_id": (6, "str"),
        "max_outstanding_messages": (7, "int"), "max_outstanding_bytes": (8, "int")},
    "StreamingPullResponse": {"received_messages": (1, "*ReceivedMessage"),
                              "subscription_properties": (4, "SubscriptionProperties")},
    "SubscriptionProperties": {"exactly_once_delivery_enabled": (1, "bool"), "message_ordering_enabled": (2, "bool")},
    "PullRequest": {"subscription": (1, "str"), "return_immediately": (2, "bool"), "max_messages": (3, "int")},
    "PullResponse": {"received_messages": (1, "*ReceivedMessage")},
    "AcknowledgeRequest": {"subscription": (1, "str"), "ack_ids": (2, "*str")},
    "ModifyAckDeadlineRequest": {"subscription": (1, "str"), "ack_deadline_seconds": (3, "int"),
                                 "ack_ids": (4, "*str")},
    "GetSubscriptionRequest": {"subscription": (1, "str")},
    "DeadLetterPolicy": {"dead_letter_topic": (1, "str"), "max_delivery_attempts": (2, "int")},
    "Subscription": {"name": (1, "str"), "topic": (2, "str"), "ack_deadline_seconds": (5, "int"),
                     "enable_message_ordering": (10, "bool"), "filter": (12, "str"),
                     "dead_letter_policy": (13, "DeadLetterPolicy"), "detached": (15, "bool"),
                     "enable_exactly_once_delivery": (16, "bool")},
    "PublishRequest": {"topic": (1, "str"), "messages": (2, "*PubsubMessage")},
    "PublishResponse": {"message_ids": (1, "*str")},
    "Empty": {},
    "Any": {"type_url": (1, "str"), "value": (2, "bytes")},
    "Status": {"code": (1, "int"), "message": (2, "str"), "details": (3, "*Any")},
    "ErrorInfo": {"reason": (1, "str"), "domain": (2, "str"), "metadata": (3, "map")},
    "Pair": {"key": (1, "str"), "value": (2, "str")},
}


class Malformed(Exception):
    pass


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7f:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, value):
    """bytes, or an int as a varint."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def _one(kind, value):
    if kind in ("int", "bool"):
        return int(value)
    if kind in ("str", "bytes"):
        return value.encode() if isinstance(value, str) else value
    return encode(kind, value)


def encode(name, values):
    out = []
    for key, value in values.items():
        number, kind = SCHEMA[name][key]
        if kind == "map":
            out += [field(number, encode("Pair", {"key": k, "value": v})) for k, v in value.items()]
        elif kind == "*int":
            out.append(field(number, b"".join(varint(v) for v in value)))
        elif kind.startswith("*"):
            out += [field(number, _one(kind[1:], v)) for v in value]
        elif value or kind[0].isupper():
            out.append(field(number, _one(kind, value)))
    return b"".join(out)


def _varint(data, at):
    n = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("varint")
        b = data[at]
        at += 1
        n |= (b & 0x7f) << shift
        shift += 7
        if b < 0x80:
            return n, at


def parts(data):
    """(number, value) of each field; value: int, or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            n, at = _varint(data, at)
            value, at = data[at:at + n], at + n
        elif kind in (1, 5):
            n = 8 if kind == 1 else 4
            if at + n > len(data):
                raise Malformed("it ends inside a field")
            value, at = struct.unpack_from("<Q" if n == 8 else "<I", data, at)[0], at + n
        else:
            raise Malformed("wire type %d" % kind)
        if at > len(data):
            raise Malformed("it ends inside a field")
        yield tag >> 3, value


def _value(kind, value):
    if kind in ("int", "bool"):
        if not isinstance(value, int):
            raise Malformed("bytes where a number belongs")
        return bool(value) if kind == "bool" else value - (1 << 64) if value >> 63 else value
    if not isinstance(value, bytes):
        raise Malformed("a number where bytes belong")
    if kind == "str":
        return value.decode()           # UnicodeDecodeError: proto3 forbids it
    return value if kind == "bytes" else decode(kind, value)


DEFAULTS = {"int": 0, "bool": False, "str": "", "bytes": b""}


def decode(name, data):
    schema = SCHEMA[name]
    by_number = {number: (key, kind) for key, (number, kind) in schema.items()}
    out = {key: [] if kind[0] == "*" else {} if kind == "map" else DEFAULTS.get(kind)
           for key, (_, kind) in schema.items()}
    for number, value in parts(data):
        key, kind = by_number.get(number, (number, None))
        if kind is None:
            out.setdefault(number, []).append(value)
        elif kind == "map":
            pair = decode("Pair", value)
            out[key][pair["key"]] = pair["value"]
        elif kind == "*int" and isinstance(value, bytes):
            at = 0
            while at < len(value):
                n, at = _varint(value, at)
                out[key].append(_value("int", n))
        elif kind[0] == "*":
            out[key].append(_value(kind[1:], value))
        else:
            out[key] = _value(kind, value)
    return out


def status_details(code, text, infos):
    """A google.rpc.Status.  infos: (reason, {key: value}) of each ErrorInfo."""
    return encode("Status", {"code": code, "message": text, "details": [
        {"type_url": "type.googleapis.com/google.rpc.ErrorInfo",
         "value": encode("ErrorInfo", {"reason": reason, "domain": "pubsub.googleapis.com", "metadata": metadata})}
        for reason, metadata in infos]})
