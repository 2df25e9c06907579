// The commands of adapters/produce.py, for node: node PEER.mjs COMMAND NUMBERS...
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

const CALLERS = 100;
const BATCH = 1000;
const WARM_UP = 2;

const seconds = () => Number(process.hrtime.bigint()) / 1e9;

/** The numbers up to `count`, in arrays of the size of a batch. */
export function batches(count) {
  const sizes = Array.from({ length: Math.ceil(count / BATCH) }, (_, n) => Math.min(BATCH, count - n * BATCH));
  return sizes.map((size, batch) => Array.from({ length: size }, (_, n) => batch * BATCH + n));
}

/** Runs `one(n)` for each number up to `count`, from a hundred loops. */
export async function fromLoops(count, one) {
  const loop = async (first) => {
    for (let n = first; n < count; n += CALLERS) await one(n);
  };
  await Promise.all(Array.from({ length: CALLERS }, (_, first) => loop(first)));
}

async function wait(stamp, bell) {
  const told = once(bell, "message");
  await stamp(String(process.hrtime.bigint()), bell.address().port);
  const [text] = await told;
  return Number(text) / 1e9;
}

async function idle(stamp, samples, pause, spread, limit) {
  const bell = createSocket("udp4").bind(0, "127.0.0.1");
  await once(bell, "listening");
  for (let n = 0; n < WARM_UP; n += 1) await wait(stamp, bell);
  const waits = [];
  const last = seconds() + limit;
  while (waits.length < samples && seconds() < last) {
    await sleep((pause + Math.random() * spread) * 1000);
    waits.push(await wait(stamp, bell));
  }
  return { waits };
}

async function timed(step) {
  const began = seconds();
  await step;
  return { seconds: seconds() - began };
}

/** Does what the command line says with an adapter: { work, one, stamp, many?, fanOut }. */
export async function run({ work, opened, one, stamp, many, fanOut }) {
  const [command, ...numbers] = [process.argv[2], ...process.argv.slice(3).map(Number)];
  if (command === "work") return work(...numbers);
  await opened();
  const enqueue = (count) => fromLoops(count, one);
  const steps = {
    enqueue: () => timed(enqueue(...numbers)),
    fill: () => timed((many ?? enqueue)(...numbers)),
    many: () => timed(many(...numbers)),
    "fan-out": () => timed(fanOut(...numbers)),
    idle: () => idle(stamp, ...numbers),
  };
  console.log(JSON.stringify(await steps[command]()));
  process.exit(0);
}
