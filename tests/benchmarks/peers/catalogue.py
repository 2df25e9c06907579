"""All peers, in the order of the tables, each in the best configuration that its documentation has.

Numbers of jobs are such that a measurement takes two to five seconds on two cores.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.peers.peer import Home, Peer

ADAPTERS = "benchmarks.peers.adapters"

FLOOR = Peer(
    name="floor",
    title="Redis alone",
    packages=("hiredis",),
    home=Home.OURS,
    adapter="floor",
    worker=("python", "-m", f"{ADAPTERS}.floor", "{slots}"),
    drained=((1, 100_000), (10, 800_000), (50, 1_000_000)),
    enqueued=400_000,
    bulk=1_000_000,
    children=0,
    how=(
        "No framework and no guarantee: hiredis and a loop over one socket, `LPOP` and `RPUSH` with N "
        "(enqueue: 100, bulk: 1,000) in flight, `BLPOP` when idle."
    ),
)
OURS = Peer(
    name="trioaction",
    title="**trioaction**",
    packages=("trioaction",),
    home=Home.OURS,
    adapter="trioaction",
    worker=("python", "-m", "trioaction", "start", "--no-web", "--concurrency", "{slots}"),
    ready="\n  process ",
    drained=((1, 15_000), (10, 60_000), (50, 80_000)),
    enqueued=100_000,
    bulk=300_000,
    idle=(1, 10, 50),
    how=(
        "`trioaction start --no-web --concurrency N`, nothing else set. Fan-out: `fan_out`, and its status "
        "is asked for every 10 ms."
    ),
)
BULLMQ = Peer(
    name="bullmq",
    title="BullMQ",
    packages=("bullmq", "ioredis"),
    home=Home.NODE,
    adapter="bullmq.mjs",
    worker=("bullmq.mjs", "work", "{slots}"),
    ready="ready",
    drained=((1, 15_000), (10, 45_000), (50, 50_000)),
    enqueued=60_000,
    bulk=60_000,
    idle=(1, 10, 50),
    how=(
        "`new Worker(..., { concurrency: N })`, nothing else set, so completed jobs are kept. It takes "
        "ioredis 5 and 6; with 6 it took a little more CPU. Fan-out: a flow, whose parent is waited for "
        "with `QueueEvents`."
    ),
)
REMOVING = replace(
    BULLMQ,
    name="bullmq-removing",
    title="BullMQ, `removeOnComplete`",
    env=(("BENCH_REMOVE", "1"),),
    idle=(),
    how="The same with `removeOnComplete: true`, as several of the others are by default.",
)
RESQUE = Peer(
    name="node-resque",
    title="node-resque",
    packages=("node-resque", "ioredis"),
    home=Home.NODE,
    adapter="resque.mjs",
    worker=("resque.mjs", "work", "{slots}"),
    drained=((1, 12_000), (10, 45_000), (50, 50_000)),
    enqueued=60_000,
    polls=5,
    how=(
        "N of `new Worker` in one process, on one connection as ActionHero has it. `MultiWorker` adds one "
        "every half second and none while the process is busy, so it would not come to N. It looks every 5 "
        "s (`timeout`, the default). It has no fan-out: the children count in Redis, by hand."
    ),
)
TASKIQ = Peer(
    name="taskiq",
    title="taskiq",
    packages=("taskiq", "taskiq-redis"),
    home=Home.PYTHON,
    adapter="taskiq",
    worker=(
        *("taskiq", "worker", f"{ADAPTERS}.taskiq:broker", "--workers", "1"),
        *("--max-async-tasks", "{slots}", "--log-level", "WARNING"),
    ),
    drained=((1, 8_000), (10, 10_000), (50, 10_000)),
    enqueued=15_000,
    how=(
        "`taskiq worker --workers 1 --max-async-tasks N`, `RedisStreamBroker`, which its README shows first"
        " and which acknowledges. Results are off, the default; fan-out: with the Redis backend, "
        "`taskiq.gather`."
    ),
)
DRAMATIQ = Peer(
    name="dramatiq",
    title="dramatiq",
    packages=("dramatiq",),
    home=Home.PYTHON,
    adapter="dramatiq",
    worker=("dramatiq", f"{ADAPTERS}.dramatiq", "--processes", "1", "--threads", "{slots}"),
    drained=((1, 800), (10, 8_000), (50, 16_000)),
    enqueued=25_000,
    how=(
        "`dramatiq --processes 1 --threads N`; `dramatiq-gevent` was no faster. Results are off, the "
        "default; fan-out: with its Redis backend, `group.wait()`, which was faster than a completion "
        "callback."
    ),
)
HUEY = Peer(
    name="huey",
    title="huey",
    packages=("huey",),
    home=Home.PYTHON,
    adapter="huey",
    worker=(
        *("huey_consumer", f"{ADAPTERS}.huey.huey", "--workers", "{slots}", "--worker-type", "thread"),
        "--quiet",
    ),
    drained=((1, 15_000), (10, 15_000), (50, 15_000)),
    enqueued=30_000,
    how=(
        "`huey_consumer --workers N --worker-type thread`; greenlets, which its help has for much I/O, were"
        " slower. `RedisHuey`, blocking. Fan-out: `map`, and the results are waited for."
    ),
)
SAQ = Peer(
    name="saq",
    title="saq",
    packages=("saq",),
    home=Home.PYTHON,
    adapter="saq",
    worker=("saq", f"{ADAPTERS}.saq.settings"),
    drained=((1, 4_000), (10, 6_000), (50, 6_000)),
    enqueued=25_000,
    how=(
        "`saq` with `concurrency` N, results kept for 10 minutes, the default. A higher "
        "`max_concurrent_ops` was no faster. Fan-out: `queue.map`."
    ),
)
CELERY = Peer(
    name="celery",
    title="celery",
    packages=("celery", "kombu"),
    home=Home.PYTHON,
    adapter="celery",
    worker=(
        *("celery", "--app", f"{ADAPTERS}.celery", "worker", "--pool", "threads"),
        *("--concurrency", "{slots}", "--loglevel", "WARNING"),
    ),
    drained=((1, 4_000), (10, 4_000), (50, 4_000)),
    enqueued=8_000,
    how=(
        "`celery worker --pool threads --concurrency N`, which was faster than `gevent`, which its guide "
        "has for I/O, and than `prefork`, the default. Results are off, the default; fan-out: with the "
        "Redis backend, a group, which was faster than a chord."
    ),
)
ARQ = Peer(
    name="arq",
    title="arq",
    packages=("arq",),
    home=Home.PYTHON,
    adapter="arq",
    worker=("arq", "--custom-log-dict", f"{ADAPTERS}.arq.QUIET", f"{ADAPTERS}.arq.WorkerSettings"),
    drained=((10, 800), (50, 2_000)),
    enqueued=15_000,
    children=2_000,
    polls=0.5,
    how=(
        "`max_jobs` N, results kept for an hour, the default. It looks every half second (`poll_delay`, the"
        " default), so one slot would do two jobs a second. Fan-out, of 2,000: each job's `result()`."
    ),
)
RQ = Peer(
    name="rq",
    title="rq",
    packages=("rq",),
    home=Home.PYTHON,
    adapter="rq",
    worker=("rq", "worker", "bench", "--worker-class", "rq.worker.SimpleWorker", "--quiet"),
    drained=((1, 2_000),),
    enqueued=12_000,
    bulk=30_000,
    children=2_000,
    how=(
        "`rq worker --worker-class rq.worker.SimpleWorker`, since the default's fork for each job made it "
        "nine times slower. A process has one slot, in the fan-out and when idle too. Fan-out, of 2,000: "
        "a group, and the registry of finished jobs is asked every 10 ms."
    ),
)
PEERS = (FLOOR, OURS, BULLMQ, REMOVING, RESQUE, TASKIQ, DRAMATIQ, HUEY, SAQ, CELERY, ARQ, RQ)
