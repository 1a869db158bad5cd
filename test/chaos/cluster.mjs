//
// cluster.mjs - the server that the faults strike
//
// Its log is followed while it runs, and each line noted with the time at
// which it was seen: the server's own clock is one of the things that are
// struck.
//

import fs from "node:fs";
import path from "node:path";

import { run, sleep } from "../bench/process.mjs";

const { BINDIR, SOCKETS } = process.env;
const bin = (program) => path.join(BINDIR, program);

export const database = "chaos";
const standbyName = "standby";

// Waits for a condition; says whether it came true.
export async function becomes(condition, seconds = 60) {
    const from = performance.now();
    while (!await condition()) {
        if (performance.now() - from > seconds * 1000) return false;
        await sleep(20);
    }
    return true;
}

export class Log {
    constructor(file) {
        this.lines = []; // { at: milliseconds of the epoch, text }
        this.file = fs.openSync(file, "a+");
        this.rest = "";
        this.buffer = Buffer.alloc(1 << 16);
        this.timer = setInterval(() => this.readOn(), 5);
    }

    readOn() {
        for (;;) {
            const length = fs.readSync(this.file, this.buffer, 0, this.buffer.length, null);
            if (length === 0) return;
            const at = Date.now();
            const lines = (this.rest + this.buffer.toString("latin1", 0, length)).split("\n");
            this.rest = lines.pop();
            for (const text of lines) this.lines.push({ at, text });
        }
    }

    close() {
        clearInterval(this.timer);
        this.readOn();
        fs.closeSync(this.file);
    }
}

export class Cluster {
    // Below "place" the data directory, and those of the servers that take over.
    // "clock" has a library to preload and the file by which it is moved, see test/preload/clock.c.
    constructor({ place, logFile, clock }) {
        Object.assign(this, { place, logFile, clock, number: 0 });
        this.setClock(0);
    }

    get directory() { return path.join(this.place, `data${this.number}`); }
    // of sockets alone, in a directory of our own
    get port() { return 5432 + this.number % 2; }
    get conninfo() { return `host=${SOCKETS} port=${this.port} user=postgres`; }

    // The log is elsewhere: it has to say what happens when the disk is full.
    async create(settings) {
        this.log = new Log(this.logFile);
        await run(bin("initdb"), ["-D", this.directory, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]);
        this.configure("postgresql.conf", settings);
        await this.start();
        await this.sql(`CREATE DATABASE ${database}`, "postgres");
    }

    configure(file, settings) {
        fs.appendFileSync(path.join(this.directory, file),
            Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`).join(""));
    }

    // Seconds by which the server's clock is ahead.
    setClock(seconds) {
        const offset = Buffer.alloc(8);
        offset.writeBigInt64LE(BigInt(Math.round(seconds * 1e9)));
        const file = fs.openSync(this.clock.file, fs.constants.O_RDWR | fs.constants.O_CREAT);
        fs.writeSync(file, offset, 0, 8, 0);
        fs.closeSync(file);
    }

    // Crash recovery may take its time.  The server would keep our pipes open.
    async start() {
        await run(bin("pg_ctl"), ["-D", this.directory, "-o", `-p ${this.port}`, "-l", this.logFile, "-s", "-w", "-t", "120", "start"],
            { stdio: ["ignore", "ignore", "ignore"], env: { ...process.env, LD_PRELOAD: this.clock.library, OSMTALK_CLOCK: this.clock.file } });
    }

    async stop(mode) {
        await run(bin("pg_ctl"), ["-D", this.directory, "-s", "-w", "-t", "60", "-m", mode, "stop"], { stdio: "ignore" });
    }

    async startUnlessRunning() {
        // a server that is about to give up needs a moment for it
        for (let i = 0; i < 5; i++) {
            await sleep(200);
            const { code } = await run(bin("pg_ctl"), ["-D", this.directory, "status"], { stdio: "ignore" }).then(
                () => ({ code: 0 }), () => ({ code: 1 }));
            if (code !== 0) {
                await this.start();
                return;
            }
        }
    }

    // Rows as lines, columns with tabs; again if a crash gets in between.
    async sql(text, name = database) {
        for (let i = 0; ; i++)
            try {
                const { stdout } = await run(bin("psql"), ["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1",
                    "-d", `${this.conninfo} dbname=${name}`], { input: text });
                return stdout;
            } catch (error) {
                const passes = /connection to server|server closed|terminating connection|starting up|shutting down|recovery mode|read-only transaction|recovery is in progress/;
                if (i === 200 || !passes.test(error.message)) throw error;
                await sleep(50);
            }
    }

    async rows(text) {
        return (await this.sql(text)).split("\n").filter((line) => line !== "").map((line) => line.split("\t"));
    }

    async value(text, name) { return (await this.sql(text, name)).trim(); }
    async numberOf(text) { return Number(await this.value(text)); }

    async set(setting, value) {
        await this.sql(`ALTER SYSTEM SET ${setting} = '${value}'`, "postgres");
        await this.sql("SELECT pg_reload_conf()", "postgres");
    }

    async workerPid() {
        for (let i = 0; i < 400; i++) {
            const pid = await this.numberOf("SELECT pid FROM osmtalk.worker_status WHERE pid IS NOT NULL LIMIT 1");
            if (pid > 0) return pid;
            await sleep(25);
        }
        throw new Error("there is no worker");
    }

    async sessionPids() {
        return (await this.rows(`SELECT pid FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname = '${database}'`)).map(([pid]) => Number(pid));
    }

    // Until what is committed now has a result; says whether that took no longer.
    async settles(seconds) {
        const seen = await this.value("SELECT pg_current_snapshot()");
        return becomes(async () => await this.numberOf(
            `SELECT count(*) FROM osmtalk.outbox WHERE pg_visible_in_snapshot(xid, '${seen}')`) === 0, seconds);
    }

    /*
     * Another server takes over.  The primary lives until everything is on the
     * standby, and then for a while ("pause", in milliseconds) in which the
     * standby hears nothing: what is confirmed, or sent, in that time is lost.
     */
    async failOver(pause) {
        const old = this.directory;
        const { conninfo } = this;
        const standby = new Cluster(this);
        standby.number = this.number + 1;

        await run(bin("pg_basebackup"), ["-D", standby.directory, "-d", `${conninfo} application_name=${standbyName}`,
            "-c", "fast", "--no-sync", "-R", "-C", "-S", standbyName]);
        await standby.start();
        await this.set("synchronous_standby_names", standbyName);
        // seen by a new session: then the postmaster has told the others
        if (!await becomes(async () => await this.value("SELECT sync_state FROM pg_stat_replication") === "sync"))
            throw new Error("the standby does not become synchronous");
        // whether commits wait is for the checkpointer to say, which has heard of it when it has done this
        await this.sql("CHECKPOINT");
        // the worker has when it settles, after that, what it claimed after that
        await this.sql("SELECT osmtalk.send_test_event('org', 'cmp0')");
        if (!await this.settles(60)) throw new Error("with a synchronous standby nothing is delivered");
        await this.sql("SET synchronous_commit = on; SELECT osmtalk.send_test_event('org', 'cmp0')");

        const receiver = Number(await standby.value("SELECT pid FROM pg_stat_wal_receiver", "postgres"));
        process.kill(receiver, "SIGSTOP");
        await sleep(pause);
        await this.stop("immediate");
        // it ends without having read what waits for it
        process.kill(receiver, "SIGTERM");
        process.kill(receiver, "SIGCONT");
        this.number++;
        await run(bin("pg_ctl"), ["-D", this.directory, "-s", "-w", "-t", "120", "promote"], { stdio: "ignore" });
        fs.rmSync(old, { recursive: true });
    }
}
