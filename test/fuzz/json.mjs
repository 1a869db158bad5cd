//
// json.mjs - JSON values as they are made up, and as jsonb gives them back
//
// A value is a node: { t: "null" | "true" | "false" }, { t: "num", text }, { t: "str", s },
// { t: "arr", items } or { t: "obj", entries: [[key, node], …] }, duplicate keys included.
//

export const literal = (t) => ({ t });
export const number = (text) => ({ t: "num", text });
export const string = (s) => ({ t: "str", s });
export const array = (items) => ({ t: "arr", items });
export const object = (entries) => ({ t: "obj", entries });

const named = { "\"": "\\\"", "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

// A string in a body: what JSON demands is escaped, all else is as it is.
export function quote(s) {
    let out = "\"";
    for (const c of s)
        out += named[c] ?? (c < " " ? "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0") : c);
    return out + "\"";
}

// A number as PostgreSQL's numeric prints it: all digits, the scale kept, no exponent, no sign of zero.
export function plain(text) {
    const [, minus, whole, fraction = "", exponent = "0"] = text.match(/^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/);
    let digits = whole + fraction;
    let scale = fraction.length - Number(exponent);
    if (scale < 0) {
        digits += "0".repeat(-scale);
        scale = 0;
    }
    digits = digits.padStart(scale + 1, "0");
    const before = digits.slice(0, digits.length - scale).replace(/^0+(?=\d)/, "");
    const after = digits.slice(digits.length - scale);
    const zero = !/[1-9]/.test(digits);
    return (minus && !zero ? "-" : "") + before + (scale > 0 ? "." + after : "");
}

// jsonb's order of keys: by length in bytes, then bytewise; of duplicates the last one stays.
function stored(entries) {
    const last = new Map(entries);
    return [...last].map(([key, node]) => [Buffer.from(key), key, node])
        .sort(([a], [b]) => a.length - b.length || Buffer.compare(a, b))
        .map(([, key, node]) => [key, node]);
}

// The value as text, from what jsonb has stored.  Not by recursion: it may be deep.
export function print(node, { comma = ",", colon = ":", num = plain } = {}) {
    const out = [];
    const todo = [node];
    while (todo.length > 0) {
        const next = todo.pop();
        if (typeof next === "string") out.push(next);
        else if (next.t === "num") out.push(num(next.text));
        else if (next.t === "str") out.push(quote(next.s));
        else if (next.t === "arr") {
            const parts = ["["];
            next.items.forEach((item, i) => parts.push(...(i > 0 ? [comma] : []), item));
            todo.push(...[...parts, "]"].reverse());
        } else if (next.t === "obj") {
            const parts = ["{"];
            stored(next.entries).forEach(([key, item], i) => parts.push(...(i > 0 ? [comma] : []), quote(key) + colon, item));
            todo.push(...[...parts, "}"].reverse());
        } else out.push(next.t);
    }
    return out.join("");
}

export const compact = (node) => print(node);
// as jsonb's own output has it
export const spaced = (node) => print(node, { comma: ", ", colon: ": " });

// Whether jsonb takes them for equal: 1.0 is 1.
export function equal(a, b) {
    const bare = (text) => plain(text).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
    if (a === null || b === null) return a === b;
    return print(a, { num: bare }) === print(b, { num: bare });
}

// The node of a key, if this is an object that has it.
export function get(node, key) {
    if (node === null || node.t !== "obj") return undefined;
    return new Map(node.entries).get(key);
}
