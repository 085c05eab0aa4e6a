// Numbers with units, for people.

const GROUP = new Intl.NumberFormat("en", { useGrouping: true, maximumFractionDigits: 0 });

/** Three significant digits, but never in the E notation. */
function three(value: number): string {
    const size = Math.abs(value);
    return value.toFixed(size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : 2);
}

function scaled(value: number, steps: [number, string][]): string {
    for (const [size, unit] of steps) if (Math.abs(value) >= size) return `${three(value / size)} ${unit}`.trimEnd();
    const [size, unit] = steps[steps.length - 1];
    return `${three(value / size)} ${unit}`.trimEnd();
}

export function count(value: number): string {
    return GROUP.format(value);
}

/** As {@link count}, shortened from 100,000 on. */
export function short(value: number): string {
    if (Math.abs(value) < 100_000) return Number.isInteger(value) || Math.abs(value) >= 100 ? GROUP.format(value) : three(value);
    return scaled(value, [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]);
}

export function perSecond(value: number): string {
    if (value === 0) return "0 /s";
    const text = scaled(value, [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]]);
    return /[a-z]$/i.test(text) ? `${text}/s` : `${text} /s`;
}

/** From bytes a second. */
export function bits(bytesPerSecond: number): string {
    if (bytesPerSecond === 0) return "0 bit/s";
    return scaled(bytesPerSecond * 8, [[1e9, "Gbit/s"], [1e6, "Mbit/s"], [1e3, "kbit/s"], [1, "bit/s"]]);
}

export function bytes(value: number): string {
    if (value < 10_000) return `${GROUP.format(value)} B`;
    return scaled(value, [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]);
}

export function duration(ns: Maybe<number>): string {
    if (ns == null) return "–";
    if (ns <= 0) return "0";
    if (ns < 1000) return `${Math.round(ns)} ns`;
    if (ns < 90e9) return scaled(ns, [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]]);
    const s = Math.round(ns / 1e9);
    if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor(s / 60) % 60).padStart(2, "0")} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

/** Whole seconds or more: "3 s ago". */
export function ago(then: Maybe<number>, now: number): string {
    if (then == null) return "–";
    const ns = Math.max(0, now - then);
    return ns < 1e9 ? "just now" : `${ns < 90e9 ? `${Math.floor(ns / 1e9)} s` : duration(ns)} ago`;
}

/** Exact, so that sums can be checked by eye: "12,345 ns". */
export function exact(ns: number): string {
    return `${GROUP.format(ns)} ns`;
}

export function percent(share: number): string {
    if (share === 0) return "0 %";
    const value = share * 100;
    return `${value < 0.01 ? "< 0.01" : value < 1 ? value.toFixed(2) : value < 10 ? value.toFixed(1) : value.toFixed(0)} %`;
}

const ACRONYM = /\b(rx|tx|nic|cid|xsk|xdp|umem|quic|ip|udp|tcp|icmp|arp|mtu|rtt|pto|ack)\b/g;

/** "rx_ring_full" → "RX ring full". */
export function words(name: string): string {
    return name.replaceAll("_", " ").replace(ACRONYM, (word) => word.toUpperCase());
}

/** For the marks of a scale: "10.0 µs" → "10 µs". */
export function tidy(text: string): string {
    return text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");
}

export function capital(text: string): string {
    return text.charAt(0).toUpperCase() + text.slice(1);
}

export function plural(n: number, one: string, many = `${one}s`): string {
    return `${count(n)} ${n === 1 ? one : many}`;
}

type Maybe<T> = T | null | undefined;
