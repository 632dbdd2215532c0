// Creates customers with Node's fetch, many at once, and asks again after a conflict.

import { isDeepStrictEqual } from "node:util";

const base = process.argv[2];

function customer(number, name) {
  const address = { city: "Köln", lines: [number, null, 1.5] };
  return { name, email: `customer-${number}@example.com`, address };
}

async function create(number, name) {
  for (let attempt = 0; attempt < 20; attempt += 1) {
    const answer = await fetch(`${base}/customers`, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": `key-${number}` },
      body: JSON.stringify(customer(number, name)),
      signal: AbortSignal.timeout(30_000),
    });
    const text = await answer.text();
    if (answer.status !== 409 && answer.status !== 503) return { answer, text };
    const seconds = Number(answer.headers.get("retry-after") ?? "1");
    await new Promise((resolve) => setTimeout(resolve, seconds * 100));
  }
  throw new Error("it is in flight for ever");
}

function check(isSo, what) {
  if (!isSo) throw new Error(what);
}

const calls = [];
for (let round = 0; round < 8; round += 1) {
  for (let number = 0; number < 8; number += 1) calls.push([number, `customer ${number}`]);
}
const answers = await Promise.all(calls.map(([number, name]) => create(number, name)));
const bodies = new Map();
let replays = 0;
answers.forEach(({ answer, text }, at) => {
  const [number, name] = calls[at];
  check(answer.status === 201, `${answer.status}: ${text}`);
  const { id, ...shown } = JSON.parse(text);
  check(Number.isInteger(id) && isDeepStrictEqual(shown, customer(number, name)), text);
  if (!bodies.has(number)) bodies.set(number, new Set());
  bodies.get(number).add(`${answer.headers.get("location")} ${text}`);
  if (answer.headers.get("idempotent-replayed") === "true") replays += 1;
});
for (const [number, said] of bodies) check(said.size === 1, `${number}: ${[...said]}`);
check(replays === calls.length - bodies.size, `${replays} replays`);

const other = await create(0, "somebody else");
check(other.answer.status === 422, other.text);
const all = await (await fetch(`${base}/customers`)).json();
check(all.length === bodies.size, JSON.stringify(all));
console.log("one customer for each key");
