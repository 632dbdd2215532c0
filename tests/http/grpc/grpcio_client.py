"""Pays with grpcio, from many threads at once, with a retry policy."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

policy = {
    "methodConfig": [
        {
            "name": [{"service": "bank.Payments"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "ABORTED"],
            },
        }
    ]
}
options = [("grpc.service_config", json.dumps(policy)), ("grpc.enable_retries", 1)]
channel = grpc.insecure_channel(sys.argv[1], options=options)
pay = channel.unary_unary(
    "/bank.Payments/Pay", request_serializer=str.encode, response_deserializer=bytes.decode
)
statement = channel.unary_stream(
    "/bank.Payments/Statement", request_serializer=str.encode, response_deserializer=bytes.decode
)


def call(key, text):
    return pay.with_call(text, metadata=[("idempotency-key", key)], timeout=30)


def is_replay(of):
    return ("idempotent-replayed", "true") in [tuple(item) for item in of.initial_metadata()]


def refused(key, text):
    try:
        call(key, text)
    except grpc.RpcError as error:
        return error.code(), dict(error.trailing_metadata()).get("idempotency-problem")
    raise AssertionError(f"{key} was not refused")


with ThreadPoolExecutor(16) as pool:
    keys = [f"key-{number}" for number in range(8)] * 4
    answers = list(pool.map(lambda key: call(key, f"for {key}"), keys))
said = {}
for key, (text, _) in zip(keys, answers):
    said.setdefault(key, set()).add(text)
assert all(len(texts) == 1 for texts in said.values()), said
assert sum(is_replay(of) for _, of in answers) == 24, "each key was paid once"

# A call is under way: the policy waits as long as the server says, and gets that call's answer.
first = threading.Thread(target=call, args=("slow", "slow 600"))
first.start()
while True:
    text, of = call("slow", "slow 600")
    if is_replay(of):
        break
first.join()

# It may have been paid each time, so the policy retries as often as it may, and the hook decides.
assert refused("failing", "status 14") == (grpc.StatusCode.UNAVAILABLE, None)
# These are final, and the policy knows that.
assert refused("key-0", "for somebody else") == (grpc.StatusCode.INVALID_ARGUMENT, "KeyReused")
print("one payment for each key")
