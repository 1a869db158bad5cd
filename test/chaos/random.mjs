//
// random.mjs - chance that can be had again
//

// mulberry32: small, and good enough to mix faults.  Each part has a sequence
// of its own, so that what one does with its chance leaves the others' alone.
export class Random {
    constructor(seed, part) {
        this.state = 2166136261;
        for (const character of `${seed}/${part}`)
            this.state = Math.imul(this.state ^ character.charCodeAt(0), 16777619) >>> 0;
    }

    // From 0 up to, and not including, 1.
    next() {
        this.state = (this.state + 0x6d2b79f5) >>> 0;
        let t = this.state;
        t = Math.imul(t ^ (t >>> 15), t | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    }

    between(low, high) { return low + this.next() * (high - low); }
    integer(low, high) { return Math.floor(this.between(low, high + 1)); }
    chance(probability) { return this.next() < probability; }

    shuffle(list) {
        const result = [...list];
        for (let i = result.length - 1; i > 0; i--) {
            const j = this.integer(0, i);
            [result[i], result[j]] = [result[j], result[i]];
        }
        return result;
    }

    // One of { name: weight, … }.
    pick(weights) {
        let left = this.next() * Object.values(weights).reduce((a, b) => a + b, 0);
        for (const [name, weight] of Object.entries(weights)) {
            left -= weight;
            if (left < 0) return name;
        }
        return Object.keys(weights)[0];
    }
}
