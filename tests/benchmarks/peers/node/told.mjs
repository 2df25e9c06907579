// What the jobs of both peers tell, as in adapters/told.py: datagrams on the loopback interface.
import { createSocket } from "node:dgram";

const port = Number(process.env.BENCH_PORT ?? 0);
const every = Number(process.env.BENCH_EVERY ?? 1);
const line = createSocket("udp4");
line.unref();
let jobs = 0;

const tell = (to, text) => line.send(text, to, "127.0.0.1");

/** Counts a job of this process; each hundredth part of all is told, with the time and that of the CPU. */
export function done() {
  jobs += 1;
  if (jobs % every) return;
  const { user, system } = process.cpuUsage();
  tell(port, `${every} ${process.hrtime.bigint()} ${(user + system) * 1000} ${process.pid}`);
}

/** Tells how many nanoseconds ago the job was enqueued; the clock is that of the whole machine. */
export function began(sent, to) {
  tell(to, String(process.hrtime.bigint() - BigInt(sent)));
}
