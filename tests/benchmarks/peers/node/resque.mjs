// node-resque: workers in one process, as its README shows; the fan-out counts by hand, for it has none.
import { Queue, Worker } from "node-resque";
import { Redis } from "ioredis";
import { began, done } from "./told.mjs";
import { fromLoops, run } from "./produce.mjs";

const url = new URL(process.env.REDIS_URL);
const redis = new Redis(Number(url.port), url.hostname);
const connection = { redis }; // one for all workers, as ActionHero has it: quicker than one for each
let queue;

const jobs = {
  noop: { perform: async () => done() },
  stamp: { perform: async ({ sent, port }) => began(sent, port) },
  child: {
    perform: async ({ n, of }) => {
      if ((await redis.incr(`bench:${of.id}`)) === of.count) await redis.lpush(`bench:${of.id}:complete`, 1);
      return n;
    },
  },
};

async function work(slots) {
  for (let n = 1; n <= slots; n += 1) {
    const worker = new Worker({ connection, queues: ["bench"], name: `bench:${process.pid}+${n}` }, jobs);
    worker.on("error", (error) => console.error(error));
    await worker.connect();
    worker.start();
  }
  console.log("ready");
}

async function opened() {
  queue = new Queue({ connection }, jobs);
  await queue.connect();
}

async function fanOut(count) {
  const of = { id: String(process.hrtime.bigint()), count };
  const complete = redis.duplicate().brpop(`bench:${of.id}:complete`, 0);
  await fromLoops(count, (n) => queue.enqueue("bench", "child", [{ n, of }]));
  await complete;
}

await run({
  work,
  opened,
  one: (n) => queue.enqueue("bench", "noop", [{ n }]),
  stamp: (sent, port) => queue.enqueue("bench", "stamp", [{ sent, port }]),
  fanOut,
});
