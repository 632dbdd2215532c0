"""Creates customers with requests, from many threads at once, with the retries of urllib3."""

import sys
from concurrent.futures import ThreadPoolExecutor

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

base = sys.argv[1]
# After a conflict, wait as long as `Retry-After` says, and ask again.
retry = Retry(
    total=10,
    status_forcelist=[409, 503],
    allowed_methods=None,
    backoff_factor=0.05,
    raise_on_status=False,
)


def customer(number, name):
    return {
        "name": name,
        "email": f"customer-{number}@example.com",
        "address": {"city": "Köln", "lines": [number, None, 1.5]},
    }


def create(number, name):
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=retry))
    return session.post(
        f"{base}/customers",
        json=customer(number, name),
        headers={"Idempotency-Key": f'"key-{number}"'},
        timeout=30,
    )


with ThreadPoolExecutor(32) as pool:
    calls = [(number, f"customer {number}") for number in range(8)] * 8
    answers = list(pool.map(lambda call: create(*call), calls))

bodies = {}
for (number, name), answer in zip(calls, answers):
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert shown == {"id": shown["id"], **customer(number, name)}, answer.text
    bodies.setdefault(number, set()).add((answer.text, answer.headers["Location"]))
assert all(len(said) == 1 for said in bodies.values()), bodies
replays = [answer for answer in answers if answer.headers.get("Idempotent-Replayed") == "true"]
assert len(replays) == len(calls) - len(bodies), len(replays)

other = create(0, "somebody else")
assert other.status_code == 422, other.text
assert other.headers["Content-Type"] == "application/problem+json"
assert len(requests.get(f"{base}/customers", timeout=30).json()) == len(bodies)
print("one customer for each key")
