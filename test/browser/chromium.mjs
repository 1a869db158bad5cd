// chromium.mjs - a headless Chromium, driven over its debugging pipe
//
// Nothing but Node is needed, and no port is opened: commands and events are
// JSON on two pipes, each ended by a null byte (--remote-debugging-pipe).

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Chromium {
  #process;
  #profile;
  #next = 1;
  #waiting = new Map();
  #listeners = [];
  #rest = "";
  #said = "";

  static async start(program = "chromium") {
    const self = new Chromium();
    self.#profile = await mkdtemp(join(tmpdir(), "chromium-"));
    // no sandbox: where the tests run there may be no user namespaces, and it loads nothing but their own page
    self.#process = spawn(program, ["--headless=new", "--remote-debugging-pipe", `--user-data-dir=${self.#profile}`, "--no-sandbox", "--disable-gpu",
      "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-extensions",
      "--disable-sync", "--hide-scrollbars", "--force-color-profile=srgb", "about:blank"], { stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"], env: { ...process.env, HOME: self.#profile } });
    self.#process.stdio[4].setEncoding("utf8").on("data", (data) => self.#read(data));
    self.#process.stderr.setEncoding("utf8").on("data", (data) => { self.#said = (self.#said + data).slice(-4000); });
    self.#process.stdio[3].on("error", () => {}); // told by "exit"
    self.#process.on("error", (error) => self.#fail(error));
    self.#process.on("exit", (code, signal) => self.#fail(new Error(`chromium ended (${signal ?? code}): ${self.#said}`)));
    await self.send("Browser.getVersion");
    return self;
  }

  #read(data) {
    const messages = (this.#rest + data).split("\0");
    this.#rest = messages.pop();
    for (const message of messages.map((m) => JSON.parse(m))) {
      const waiting = this.#waiting.get(message.id);
      if (!waiting) {
        for (const listener of this.#listeners) listener(message);
        continue;
      }
      this.#waiting.delete(message.id);
      if (message.error) waiting.reject(new Error(`${waiting.method}: ${message.error.message}`));
      else waiting.resolve(message.result);
    }
  }

  #fail(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  send(method, params = {}, sessionId = undefined) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { method, resolve, reject });
      this.#process.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + "\0");
    });
  }

  // A new tab: send(method, params), and on(method, listener) for what it tells.
  async tab() {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    return {
      send: (method, params) => this.send(method, params, sessionId),
      on: (method, listener) => this.#listeners.push((m) => m.sessionId === sessionId && m.method === method && listener(m.params)),
    };
  }

  async stop() {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.send("Browser.close").catch(() => {});
    await ended;
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 10 });
  }
}
