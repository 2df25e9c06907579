// BullMQ, its settings left as they are; with BENCH_REMOVE completed jobs are removed at once.
import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";
import { began, done } from "./told.mjs";
import { batches, run } from "./produce.mjs";

const url = new URL(process.env.REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const options = process.env.BENCH_REMOVE ? { removeOnComplete: true } : {};
let queue;

async function perform(job) {
  if (job.name === "stamp") began(job.data.sent, job.data.port);
  else if (job.name === "child") return job.data.n;
  else done();
}

async function work(slots) {
  const workers = [new Worker("bench", perform, { connection, concurrency: slots })];
  if (process.env.BENCH_RESULTS) workers.push(new Worker("parents", async () => true, { connection }));
  await Promise.all(workers.map((worker) => worker.waitUntilReady()));
  console.log("ready");
}

async function opened() {
  queue = new Queue("bench", { connection, defaultJobOptions: options });
  await queue.waitUntilReady();
}

async function fanOut(count) {
  const events = new QueueEvents("parents", { connection });
  const flow = new FlowProducer({ connection });
  await events.waitUntilReady();
  const child = (n) => ({ name: "child", queueName: "bench", data: { n }, opts: options });
  const children = Array.from({ length: count }, (_, n) => child(n));
  const tree = await flow.add({ name: "parent", queueName: "parents", data: {}, opts: options, children });
  await tree.job.waitUntilFinished(events);
}

await run({
  work,
  opened,
  one: (n) => queue.add("noop", { n }),
  stamp: (sent, port) => queue.add("stamp", { sent, port }),
  many: async (count) => {
    for (const batch of batches(count)) await queue.addBulk(batch.map((n) => ({ name: "noop", data: { n } })));
  },
  fanOut,
});
