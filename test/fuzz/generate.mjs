//
// generate.mjs - what applications, agents and tenants might write, mostly wrong
//

import { array, literal, number, object, print, quote, string } from "./json.mjs";

// numbers as they are written; 1e131071 has many digits
const asWritten = (node) => print(node, { num: (text) => text });

const interesting = ["", " ", "null", "true", "false", "0", "1", "qualified", "not_interested", "callback_later", "completed", "\\", "\"", "\\u0000", "'",
    "''; DROP TABLE calls; --", "$$", "%s%n", ":x", "\u0001", "\u001f", "\u007f", "\u0085", "\u00a0", "\u2028", "\ufeff", "\ufffd", "\ufffe", "\u{10ffff}",
    "\u{1f600}", "e\u0301", "\u0661\u0662", "\u202eabc", "नमस्ते", "a\nb\r\n\tc\b\f", "</script>", "{\"a\":1}", ",\"truncated\":true}"];

export class Generator {
    constructor(random) { this.random = random; }

    one(list) { return list[this.random.integer(0, list.length - 1)]; }
    maybe(probability, make) { return this.random.chance(probability) ? make() : null; }

    // ---- text ----

    character() {
        const r = this.random;
        const kind = r.next();
        if (kind < 0.6) return String.fromCharCode(r.integer(32, 126));
        if (kind < 0.7) return String.fromCharCode(r.integer(1, 31));
        if (kind < 0.85) return String.fromCharCode(r.integer(127, 0x7ff));
        if (kind < 0.95) return String.fromCharCode(r.chance(0.9) ? r.integer(0x800, 0xd7ff) : r.integer(0xe000, 0xffff));
        return String.fromCodePoint(r.integer(0x10000, 0x10ffff));
    }

    text(most = 40) {
        const r = this.random;
        if (r.chance(0.3)) return this.one(interesting);
        if (r.chance(0.0005)) return this.character().repeat(r.integer(1000, 300000));
        return Array.from({ length: r.integer(0, most) }, () => this.character()).join("");
    }

    // ---- JSON ----

    number() {
        const r = this.random;
        const digits = (low, high) => Array.from({ length: r.integer(low, high) }, () => r.integer(0, 9)).join("");
        let text = (r.chance(0.3) ? "-" : "") + (r.chance(0.3) ? "0" : String(r.integer(1, 9)) + digits(0, r.chance(0.05) ? 400 : 12));
        if (r.chance(0.4)) text += "." + digits(1, r.chance(0.05) ? 400 : 8);
        if (r.chance(0.3)) text += this.one(["e", "E"]) + this.one(["", "+", "-"]) + r.integer(0, r.chance(0.05) ? 900 : 20);
        return number(text);
    }

    key() {
        return this.random.chance(0.4) ? this.one(["lead_qualified", "success", "next_action", "summary", "sentiment", "enabled", "schema", "a", "b", "", "event"]) : this.text(12);
    }

    node(depth) {
        const r = this.random;
        const kind = r.next();
        if (depth <= 0 || kind < 0.5)
            return kind < 0.08 ? literal("null") : kind < 0.16 ? literal("true") : kind < 0.22 ? literal("false") : kind < 0.4 ? this.number() : string(this.text());
        const size = r.chance(0.003) ? r.integer(0, 200) : r.integer(0, 5);
        return kind < 0.7 ? array(Array.from({ length: size }, () => this.node(depth - 1)))
            : object(Array.from({ length: size }, () => [this.key(), this.node(depth - 1)]));
    }

    deep() {
        let node = this.node(0);
        for (let i = this.random.integer(100, 1500); i > 0; i--)
            node = this.random.chance(0.5) ? array([node]) : object([[this.one(["a", "", "\""]), node]]);
        return node;
    }

    // What looks like the result of an analysis, mostly.
    analysis() {
        const r = this.random;
        const kind = r.next();
        if (kind < 0.1) return this.node(0);
        if (kind < 0.25) return this.node(4);
        if (kind < 0.252) return this.deep();
        if (kind < 0.253) return array(Array.from({ length: r.integer(1, 60) }, () => number(`1e${r.integer(1000, 131000)}`)));
        const flag = () => r.chance(0.5) ? literal("true") : this.one([literal("false"), literal("null"), string("true"), number("1"), number("1.0"),
            string("yes"), object([]), array([]), array([literal("true")]), object([["success", literal("true")]])]);
        const action = () => this.one([string("not_interested"), string("callback_later"), string("book_demo"), string("CALLBACK_LATER"), string("callback_later "),
            string(""), literal("null"), literal("true"), number("1"), array([string("not_interested")]), object([["next_action", string("not_interested")]])]);
        const entries = [];
        if (r.chance(0.4)) entries.push(["lead_qualified", flag()]);
        if (r.chance(0.4)) entries.push(["success", flag()]);
        if (r.chance(0.6)) entries.push(["next_action", action()]);
        if (r.chance(0.5)) entries.push(["summary", string(this.text())]);
        if (r.chance(0.3)) entries.push(["budget_inr", this.number()]);
        while (r.chance(0.3)) entries.push([this.key(), this.node(2)]);
        return object(r.shuffle(entries));
    }

    objectNode() {
        const node = this.node(3);
        return node.t === "obj" ? node : object([[this.key(), node]]);
    }

    // The value as some writer would put it: with white space, with escapes.
    written(node) {
        const r = this.random;
        if (r.chance(0.5)) return this.withDuplicates(node) ?? asWritten(node);
        const space = () => r.chance(0.2) ? this.one([" ", "\n", "\t", "\r\n", "  "]) : "";
        const character = (c) => {
            if (r.chance(0.8)) return quote(c).slice(1, -1);
            if (c === "/" && r.chance(0.5)) return "\\/";
            return Array.from({ length: c.length }, (_, i) => "\\u" + c.charCodeAt(i).toString(16).padStart(4, "0")).join("");
        };
        const quoted = (s) => s.length > 2000 ? quote(s) : `"${Array.from(s, character).join("")}"`;
        const out = [];
        const todo = [node];
        while (todo.length > 0) {
            const next = todo.pop();
            if (typeof next === "string") out.push(next);
            else if (next.t === "num") out.push(space(), next.text, space());
            else if (next.t === "str") out.push(space(), quoted(next.s), space());
            else if (next.t === "arr") {
                const parts = next.items.flatMap((item, i) => i > 0 ? [",", item] : [item]);
                todo.push(...["[" + space(), ...parts, "]"].reverse());
            } else if (next.t === "obj") {
                const parts = next.entries.flatMap(([key, item], i) => [(i > 0 ? "," : "") + space() + quoted(key) + space() + ":", item]);
                todo.push(...["{" + space(), ...parts, "}"].reverse());
            } else out.push(next.t);
        }
        return out.join("");
    }

    // each key once is how a value is printed: the first of duplicates is for jsonb to drop
    withDuplicates(node) {
        if (node.t !== "obj" || node.entries.length === 0) return null;
        return "{" + node.entries.map(([key, item]) => `${quote(key)}:${asWritten(item)}`).join(",") + "}";
    }

    // ---- phone numbers, URLs, secrets ----

    validPhone() {
        const r = this.random;
        const digits = String(r.integer(1, 9)) + Array.from({ length: r.integer(6, 14) }, () => r.integer(0, 9)).join("");
        let text = (r.chance(0.7) ? "+" : "00") + digits;
        for (let i = r.chance(0.5) ? r.integer(1, 5) : 0; i > 0; i--) {
            const at = r.integer(0, text.length);
            text = text.slice(0, at) + this.one([" ", ".", "-", "(", ")", " - "]) + text.slice(at);
        }
        return text;
    }

    phone() {
        const r = this.random;
        if (r.chance(0.4)) return this.validPhone();
        if (r.chance(0.5)) return this.mutated(this.validPhone());
        return r.chance(0.001) ? this.one(["+", "1", "(", " ", "\u0661"]).repeat(r.integer(1000, 1000000)) : this.text(25);
    }

    // A few characters put in, taken out, replaced or doubled.
    mutated(text) {
        const r = this.random;
        let characters = Array.from(text);
        for (let i = r.integer(1, 3); i > 0; i--) {
            const at = r.integer(0, characters.length);
            const some = r.chance(0.5) ? this.one([..."+-0:/@[]?#.\\ %"]) : this.character();
            const kind = r.integer(0, 3);
            if (kind === 0) characters.splice(at, 0, some);
            else if (kind === 1) characters.splice(at, 1);
            else if (kind === 2) characters.splice(at, 1, some);
            else characters = [...characters.slice(0, at), ...characters.slice(r.integer(0, at))];
        }
        return characters.join("");
    }

    url() {
        const r = this.random;
        const scheme = this.one(["https", "https", "http", "HTTPS", "hTTp", "ftp", "httpss", "file", ""]);
        const host = this.one(["crm.example.com", "CRM.Example.com", "a", "localhost", "1.2.3.4", "[::1]", "[2001:db8::1]", "[::ffff:192.0.2.1]", "my_host", "x.",
            "-x", "x-", ".x", "x..y", "", "[", "[]", "[::1", "xn--e1afmkfd", "пример", "user@host", "user:pass@host", "a%2eb", "2130706433", "0x7f.1", this.text(10)]);
        const port = this.one(["", "", "", ":443", ":80", ":8080", ":0", ":00443", ":65535", ":65536", ":", ":x", ":-1", ":99999999999999999999", `:${r.integer(0, 70000)}`]);
        const rest = this.one(["", "/", "/hook", "?a=b", "#c", "/a b", "/a\\b", "/%00", "/é", "//", "/@x", "/:1", "/\n", "/" + this.text(20), "/" + "a".repeat(r.integer(1950, 2060))]);
        const url = `${scheme}${this.one(["://", "://", "://", ":/", ":", "//", ":\\\\"])}${host}${port}${rest}`;
        return r.chance(0.3) ? this.mutated(url) : url;
    }

    secret() {
        const r = this.random;
        if (r.chance(0.2)) return this.one(["", " ", "x", "whsec_", "\n", "k".repeat(63), "k".repeat(64), "k".repeat(65)]);
        return r.chance(0.02) ? this.character().repeat(r.integer(100, 20000)) : (r.chance(0.5) ? "whsec_" : "") + this.text(60);
    }

    header(right) {
        const r = this.random;
        if (r.chance(0.2)) return right;
        if (r.chance(0.1)) return right.replace(/[0-9a-f]{64}/, (hex) => hex.toUpperCase());
        if (r.chance(0.1)) return this.text();
        const at = r.integer(0, right.length - 1);
        return r.chance(0.5) ? this.mutated(right) : right.slice(0, at) + this.one([..."0123456789abcdefg="]) + right.slice(at + 1);
    }

    // ---- facts ----

    // Microseconds of the epoch; "base" is now, more or less.
    time(base) {
        const r = this.random;
        const kind = r.next();
        if (kind < 0.03) return this.one(["infinity", "-infinity"]);
        if (kind < 0.06) return this.one([-210866803200000000n, 9224318015999999999n, 0n, -1n, 1n, 999n, -999n, -62135596800000000n, -62135596800000001n,
            253402300799999999n, 253402300800000000n, 951782400000000n, 4102444799999999n]);
        if (kind < 0.09) return BigInt(Math.floor(r.between(-2.1e17, 9.2e18) / 1e6)) * 1000000n + BigInt(r.integer(0, 999999));
        if (kind < 0.5) return base - BigInt(r.integer(0, 600e6));
        // long ago: nothing waits for its analysis; or in the future
        return base + BigInt(r.integer(kind < 0.9 ? -9e9 : 0, kind < 0.9 ? -5e9 : 9e9)) * 1000n;
    }

    // Two times as they come: often near each other, around three seconds among them.
    span(base) {
        const r = this.random;
        const answered_at = this.time(base);
        if (typeof answered_at !== "bigint" || r.chance(0.2)) return { answered_at, ended_at: this.time(base) };
        const length = this.one([0, 1, -1, 999, 1000, 2999999, 3000000, 3000001, 42000000, r.integer(-5e6, 1e7), r.integer(0, 2147483647)]);
        const ended_at = answered_at + BigInt(length);
        return { answered_at, ended_at: ended_at > 9224318015999999999n || ended_at < -210866803200000000n ? answered_at : ended_at };
    }

    sip() {
        const r = this.random;
        if (r.chance(0.3)) return null;
        return r.chance(0.7) ? this.one([100, 180, 200, 200, 200, 399, 400, 404, 408, 480, 486, 487, 500, 503, 599, 600, 603, 604]) : this.one([0, -1, 2147483647, -2147483648, r.integer(0, 999)]);
    }

    // Some facts, those of the end among them if "ends".
    facts(base, ends) {
        const r = this.random;
        const facts = {};
        const set = (probability, name, make) => { if (r.chance(probability)) facts[name] = make(); };
        set(0.3, "started_at", () => this.maybe(0.9, () => this.time(base)));
        if (ends) {
            Object.assign(facts, this.span(base));
            if (r.chance(0.15)) facts.answered_at = null;
        } else set(0.3, "answered_at", () => this.maybe(0.9, () => this.time(base)));
        set(ends ? 0.7 : 0.2, "sip_status_code", () => this.sip());
        set(0.2, "voicemail_detected", () => this.one([true, false, null]));
        set(0.15, "error", () => this.maybe(0.7, () => this.text()));
        set(ends ? 0.5 : 0.3, "analysis", () => this.maybe(0.9, () => this.analysis()));
        set(0.1, "analysis_error", () => this.maybe(0.7, () => this.text()));
        set(0.2, "transcript", () => this.maybe(0.9, () => this.text(200)));
        set(0.15, "metadata", () => this.maybe(0.9, () => this.node(3)));
        set(0.15, "dynamic_variables", () => this.maybe(0.9, () => this.node(3)));
        return facts;
    }
}
