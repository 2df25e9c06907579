// node-resque as a child process of the tests: node driver.mjs SOCKET NAMESPACE
//
// Reads one JSON order a line, [id, order, ...arguments], and answers [id, result] or [id, null, error]; tells what happens
// meanwhile as [0, event, ...details]. Ends with its standard input.
import { createInterface } from "node:readline";
import Redis from "ioredis";
import { MultiWorker, Queue, Scheduler, Worker } from "node-resque";

const [path, namespace] = process.argv.slice(2);
const open = new Map(); // gate:test runs until its name is let go
const running = new Map();

const say = (...words) => process.stdout.write(JSON.stringify(words) + "\n");
const connection = () => ({ redis: new Redis({ path, maxRetriesPerRequest: null }), namespace });
const report = (who) => (error) => say(0, "error", who, String(error?.message ?? error));

async function gated(...args) {
  const gate = args[0]?.gate ?? "";
  say(0, "start", this.name, args);
  await new Promise((resolve) => open.set(gate, resolve));
  say(0, "end", this.name, args);
}

async function told(...args) {
  say(0, "ran", this.name, args);
}

async function fails(...args) {
  say(0, "ran", this.name, args);
  throw new TypeError("bad thing: é 😀 \u2028 \"quoted\"\n/slash");
}

const jobs = {
  "t:told": told,
  "t:gate": gated,
  "t:fails": fails,
  "t:queued": { plugins: ["QueueLock"], perform: told },
  "t:delayed": { plugins: ["DelayQueueLock"], perform: told },
  "t:alone": { plugins: ["JobLock"], perform: gated },
  "t:again": { plugins: ["Retry"], pluginOptions: { Retry: { retryLimit: 3, retryDelay: 1000 } }, perform: fails },
};

// with plugins, which run where a job is enqueued; and plain, as a producer that knows no jobs
const queues = { plugged: new Queue({ connection: connection() }, jobs), plain: new Queue({ connection: connection() }) };
for (const queue of Object.values(queues)) {
  queue.on("error", report("queue"));
  await queue.connect();
}

async function begin(who, it, events) {
  it.on("error", report(who));
  for (const event of events) it.on(event, (...details) => say(0, event, who, ...details));
  await it.connect?.(); // a MultiWorker has none
  await it.start();
  running.set(who, it);
  return it.name;
}

const orders = {
  queue: (kind, method, ...args) => queues[kind][method](...args),
  work: ({ name, queues, timeout = 50 }) =>
    begin(name, new Worker({ connection: connection(), name, queues, timeout }, jobs), []),
  workMany: ({ queues, count }) =>
    begin("many", new MultiWorker({ connection: connection(), queues, minTaskProcessors: count, maxTaskProcessors: count }, jobs), []),
  schedule: ({ name, timeout = 50, ...options }) =>
    begin(name, new Scheduler({ connection: connection(), name, timeout, ...options }, jobs), ["leader", "cleanStuckWorker"]),
  end: async (who) => {
    await running.get(who).end();
    running.delete(who);
  },
  go: (gate) => open.get(gate)(),
  goAndEnd: async (gate, who) => {
    const ended = orders.end(who); // from now on it takes no more
    open.get(gate)();
    await ended;
  },
};

async function obey([id, order, ...args]) {
  try {
    say(id, (await orders[order](...args)) ?? null);
  } catch (error) {
    say(id, null, String(error?.message ?? error));
  }
}

createInterface({ input: process.stdin })
  .on("line", (line) => obey(JSON.parse(line)))
  .on("close", () => process.exit(0));
say(0, "up");
