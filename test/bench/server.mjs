//
// server.mjs - private PostgreSQL clusters, sessions with them, databases to measure in
//

import fs from "node:fs";
import path from "node:path";

import { cpuOf, cpuOfTree, fineCpuOf, run, sleep, start, watchMemory } from "./process.mjs";

const { BINDIR, SOCKETS, STAGE } = process.env;
const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);

const separator = "\x1f";
const endMark = "\x1eend\n";

export const secret = "whsec_benchmark_0123456789abcdef";
export const bin = (program) => path.join(BINDIR, program);

const baseSettings = {
    listen_addresses: "''",
    unix_socket_directories: `'${SOCKETS}'`,
    max_worker_processes: 32,
    shared_buffers: "512MB",
    // no checkpoint in the middle of a measurement: there is one before each
    max_wal_size: "8GB",
    checkpoint_timeout: "1h",
    track_commit_timestamp: "on", // when did it commit? see live.mjs
    log_line_prefix: "'%m [%p] %b %d '",
    "osmtalk.trusted_networks": "'127.0.0.0/8'",
};

export class Cluster {
    static count = 0;
    static running = new Set();

    // After a failure: whatever still runs, and what it has to say.
    static async stopAll() {
        for (const cluster of Cluster.running) {
            console.error(fs.readFileSync(`${cluster.dir}.log`, "utf8").split("\n").slice(-20).join("\n"));
            await run(bin("pg_ctl"), ["-D", cluster.dir, "-s", "-w", "-m", "immediate", "stop"]).catch(() => {});
        }
        Cluster.running.clear();
    }

    static async create(settings = {}, { preload = "osmtalk", descriptors } = {}) {
        const cluster = new Cluster();
        cluster.descriptors = descriptors;
        cluster.dir = path.join(STAGE, `bench${++Cluster.count}`);
        await run(bin("initdb"), ["-D", cluster.dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        const all = { ...baseSettings, shared_preload_libraries: `'${preload}'`, ...settings };
        fs.appendFileSync(path.join(cluster.dir, "postgresql.conf"),
            Object.entries(all).filter(([name]) => preload.includes("osmtalk") || !name.startsWith("osmtalk."))
                .map(([name, value]) => `${name} = ${value}\n`).join(""));
        await cluster.start();
        return cluster;
    }

    async start() {
        const limit = this.descriptors ? `ulimit -Sn ${this.descriptors} && ` : "";
        // the server would keep our pipes open
        await run("sh", ["-c", `${limit}exec "$@"`, "start",
            bin("pg_ctl"), "-D", this.dir, "-l", `${this.dir}.log`, "-s", "-w", "-t", "60", "start"],
        { stdio: ["ignore", "ignore", "ignore"] });
        Cluster.running.add(this);
        this.pid = Number(fs.readFileSync(path.join(this.dir, "postmaster.pid"), "latin1").split("\n")[0]);
        this.admin = await Session.open("postgres");
    }

    async stop() {
        await this.admin.close();
        await run(bin("pg_ctl"), ["-D", this.dir, "-s", "-w", "-t", "120", "-m", "fast", "stop"]);
        Cluster.running.delete(this);
    }

    async destroy() {
        await this.stop();
        fs.rmSync(this.dir, { recursive: true });
    }

    // A fresh database in which nothing has ever been sent.
    async database(name = "bench", { extension = true, workers = 1 } = {}) {
        await this.dropDatabase(name);
        await this.admin.query(`CREATE DATABASE ${name}`);
        const session = await Session.open(name);
        const database = new Database(this, name, session);
        if (extension) {
            await session.query("CREATE EXTENSION osmtalk");
            await session.query(setupSql());
            await database.findWorkers(workers);
        }
        return database;
    }

    async dropDatabase(name = "bench") {
        // its worker makes way by itself; asked again should it take longer
        for (let i = 0; ; i++) {
            try {
                await run(bin("psql"), ["-X", "-q", "-h", SOCKETS, "-U", "postgres", "-d", "postgres",
                    "-c", "SET client_min_messages = warning", "-c", `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`]);
                return;
            } catch (error) {
                if (i === 5) throw error;
                await sleep(1000);
            }
        }
    }

    // Settings, for running workers too.
    async set(settings) {
        for (const [name, value] of Object.entries(settings))
            await this.admin.query(`ALTER SYSTEM SET ${name} = ${value}`);
        await this.admin.query("SELECT pg_reload_conf()");
    }
}

const setupSql = () =>
    fs.readFileSync(path.join(here, "setup.sql"), "utf8").replaceAll(":'secret'", `'${secret}'`);

export class Database {
    constructor(cluster, name, session) {
        Object.assign(this, { cluster, name, session, workers: [] });
    }

    query(sql) { return this.session.query(sql); }
    value(sql) { return this.session.value(sql); }
    number(sql) { return this.session.number(sql); }

    async findWorkers(count) {
        for (let i = 0; ; i++) {
            const rows = await this.cluster.admin.rows(
                `SELECT pid FROM pg_stat_activity WHERE datname = '${this.name}' AND backend_type LIKE 'osmtalk worker%' ORDER BY pid`);
            this.workers = rows.map(([pid]) => Number(pid));
            if (this.workers.length === count) return;
            if (i === 600) throw new Error(`${this.workers.length} workers instead of ${count}, see ${this.cluster.dir}.log`);
            await sleep(50);
        }
    }

    // Campaigns <prefix>0 … with a URL each.
    async campaigns(prefix, urls) {
        await this.query(`INSERT INTO osmtalk.campaigns (id, org_id, name, webhook_url) VALUES ` +
            urls.map((url, i) => `('${prefix}${i}', 'acme', 'Q2 Renewals — Mumbai', '${url}')`).join(", "));
    }

    // Events of campaigns by an SQL expression of i, by one statement; returns
    // when they were committed.
    async enqueue(count, campaign, { where = "true" } = {}) {
        await this.query(`
            WITH e AS (
                INSERT INTO osmtalk.events (id, type, org_id, campaign_id, body)
                SELECT osmtalk.new_id('evt'), 'campaign.lead_completed', 'acme', ${campaign}, bench.body(i)
                  FROM generate_series(1, ${count}) i
                 WHERE ${where}
                RETURNING id, campaign_id)
            INSERT INTO osmtalk.outbox (event_id, endpoint_hash)
            SELECT e.id, osmtalk.endpoint_hash(c.webhook_url) FROM e JOIN osmtalk.campaigns c ON c.id = e.campaign_id`);
        return this.number("SELECT extract(epoch FROM timestamp) FROM pg_last_committed_xact()");
    }

    async tidy() {
        await this.query("VACUUM ANALYZE");
        await this.query("CHECKPOINT");
    }

    async enabled(on) {
        await this.cluster.set({ "osmtalk.enabled": on ? "on" : "off" });
        // a SIGHUP is not waited for by pg_reload_conf()
        const expected = on ? "running" : "disabled";
        for (let i = 0; i < 200 && await this.value("SELECT min(state) FROM osmtalk.worker_status") !== expected; i++)
            await sleep(10);
    }

    // Until the workers have found what there is and rest.
    async quiet() {
        const cpu = () => this.workers.map(fineCpuOf).reduce((a, b) => a + b, 0);
        for (let i = 0, before = cpu(); i < 400; i++) {
            await sleep(150);
            const now = cpu();
            if (now - before < 0.005) return;
            before = now;
        }
    }

    // Switches sending on and returns that moment, in seconds of the epoch.
    async switchOn() {
        await this.cluster.admin.query("ALTER SYSTEM SET osmtalk.enabled = on");
        return Number((await this.cluster.admin.rows(
            "SELECT extract(epoch FROM clock_timestamp()), pg_reload_conf()"))[0][0]);
    }

    async waitUntilDrained(seconds = 60) {
        if (await this.value(`SELECT osmtalk.wait_until_drained('${seconds} s')`) !== "t")
            throw new Error(`not drained after ${seconds} s`);
        return this.number("SELECT extract(epoch FROM clock_timestamp())");
    }

    // What a run costs: CPU of the workers and of the rest of the server, WAL, memory.
    async meter() {
        const lsn = () => this.cluster.admin.value("SELECT pg_current_wal_insert_lsn()");
        const workerCpu = () => this.workers.map(cpuOf).reduce((a, b) => a + b, 0);
        const startLsn = await lsn();
        const startWorker = workerCpu();
        const startAll = cpuOfTree(this.cluster.pid);
        const memory = watchMemory(this.workers);
        return async () => {
            const worker = workerCpu() - startWorker;
            const all = cpuOfTree(this.cluster.pid) - startAll;
            const wal = await this.cluster.admin.number(`SELECT pg_current_wal_insert_lsn() - '${startLsn}'::pg_lsn`);
            return { worker, server: all - worker, wal, ...memory() };
        };
    }

    // Each of this many events was answered with 2xx, once, and is recorded so.
    async check(count, { where = "true" } = {}) {
        const [[events, attempts, delivered, waiting, error]] = await this.session.rows(`
            SELECT count(DISTINCT e.id), count(a.event_id), count(*) FILTER (WHERE a.http_status BETWEEN 200 AND 299),
                   count(o.event_id), mode() WITHIN GROUP (ORDER BY a.error)
              FROM osmtalk.events e
              LEFT JOIN osmtalk.delivery_attempts a ON a.event_id = e.id
              LEFT JOIN osmtalk.outbox o ON o.event_id = e.id
             WHERE ${where}`);
        const is = { events, attempts, delivered, waiting, error };
        const right = Number(events) === count && Number(attempts) === count && Number(delivered) === count && Number(waiting) === 0;
        return right ? null : `${count} events should be delivered once each: ${JSON.stringify(is)}`;
    }

    async drop() {
        await this.session.close();
        await this.cluster.dropDatabase(this.name);
    }
}

// A psql that stays connected: tens of milliseconds less per statement, and it
// can hold a snapshot.  The first error ends it.
export class Session {
    static async open(database) {
        const session = new Session();
        session.output = "";
        session.errors = "";
        session.waiting = null;
        session.psql = start(bin("psql"),
            ["-X", "-q", "-A", "-t", "-F", separator, "-v", "ON_ERROR_STOP=1", "-h", SOCKETS, "-U", "postgres", "-d", database],
            { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, PGCLIENTENCODING: "UTF8" } });
        session.psql.stdin.on("error", () => {});
        session.psql.stdout.setEncoding("utf8").on("data", (data) => {
            session.output += data;
            session.look();
        });
        session.psql.stderr.setEncoding("utf8").on("data", (data) => { session.errors += data; });
        session.psql.ended.then(() => session.waiting?.reject(new Error(`${session.errors}\n${session.waiting.sql.slice(0, 1000)}`)));
        session.pid = await session.number("SELECT pg_backend_pid()");
        return session;
    }

    look() {
        const end = this.output.indexOf(endMark);
        if (end < 0 || this.waiting === null) return;
        const answer = this.output.slice(0, end);
        this.output = this.output.slice(end + endMark.length);
        const { resolve } = this.waiting;
        this.waiting = null;
        resolve(answer);
    }

    query(sql) {
        if (this.waiting !== null) throw new Error("a session does one thing at a time");
        return new Promise((resolve, reject) => {
            this.waiting = { resolve, reject, sql };
            this.psql.stdin.write(`${sql.trimEnd().replace(/;$/, "")};\n\\echo '${endMark.trimEnd()}'\n`);
        });
    }

    async rows(sql) {
        const text = await this.query(sql);
        return text.split("\n").filter((line) => line !== "").map((line) => line.split(separator));
    }

    async value(sql) { return (await this.rows(sql))[0]?.[0]; }
    async number(sql) { return Number(await this.value(sql)); }

    async close() {
        this.psql.stdin.end("\\q\n");
        await this.psql.ended;
    }
}
