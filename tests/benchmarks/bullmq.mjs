// Drains no-op jobs with BullMQ, its settings left as they are: node bullmq.mjs SOCKET CONCURRENCY COUNT
// Prints {"drained", "added", "bulk"}, each per second.
import { Queue, Worker } from "bullmq";

const [path, concurrency, count] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const connection = { path, maxRetriesPerRequest: null };
const seconds = () => Number(process.hrtime.bigint()) / 1e9;

async function filled(name, fill) {
  const queue = new Queue(name, { connection });
  await queue.waitUntilReady();
  const began = seconds();
  await fill(queue);
  const speed = count / (seconds() - began);
  return [queue, speed];
}

async function oneByOne(queue) {
  const loop = async () => {
    for (let n = 0; n < count / 100; n++) await queue.add("noop", { n });
  };
  await Promise.all(Array.from({ length: 100 }, loop));
}

async function inBulk(queue) {
  for (let n = 0; n < count; n += 1000) {
    const size = Math.min(1000, count - n);
    await queue.addBulk(Array.from({ length: size }, (_, k) => ({ name: "noop", data: { n: n + k } })));
  }
}

function drained(name) {
  return new Promise((resolve) => {
    let done = 0;
    let began = 0;
    const warm = Math.ceil(count * 0.05);
    const worker = new Worker(name, async (job) => job.data.n, { connection, concurrency });
    worker.on("completed", async () => {
      done += 1;
      if (done === warm) began = seconds();
      if (done < count) return;
      const speed = (count - warm) / (seconds() - began);
      await worker.close();
      resolve(speed);
    });
  });
}

const [single, added] = await filled(`single${concurrency}`, oneByOne);
await single.obliterate({ force: true });
const [queue, bulk] = await filled(`bulk${concurrency}`, inBulk);
const speed = await drained(`bulk${concurrency}`);
await queue.obliterate({ force: true });
console.log(JSON.stringify({ drained: speed, added, bulk }));
process.exit(0);
