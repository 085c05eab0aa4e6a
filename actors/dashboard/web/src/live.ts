// The live stream: a snapshot, then changes, over a request that we read as it comes (an EventSource can't carry a
// token). In a recording the same figures are asked for once.
import { useEffect, useState } from "preact/hooks";
import type { Drops, Live, LiveDelta, Overview, Queues, Topology } from "./api";
import { ApiError, headers, request, withQuery } from "./client";
import { onRoute, route } from "./route";

/** The stack sends four readings a second. After this long without one, something is wrong, and we say so. */
const QUIET_MS = 3000;
/** And after this long we ask anew. */
const GIVE_UP_MS = 15_000;
const RETRY_MS = [500, 1000, 2000, 4000];
/** Readings kept for the small charts: two minutes. */
const HISTORY = 480;

export type Link =
    | { state: "connecting" }
    | { state: "live" }
    /** Connected, and nothing comes. */
    | { state: "quiet"; since: number }
    /** Not connected. */
    | { state: "lost"; since: number; error: ApiError; retryAt: number }
    | { state: "recording" };

export interface Reading { t_ns: number; rx: number; tx: number; rxBytes: number; txBytes: number; drops: number; messages: number }

export interface State {
    link: Link;
    t_ns: number;
    live: Live | null;
    history: Reading[];
    /** Readings this page was too slow for. */
    lost: number;
    paused: boolean;
}

let state: State = { link: { state: "connecting" }, t_ns: 0, live: null, history: [], lost: 0, paused: false };
const listeners = new Set<() => void>();
let stop = new AbortController();
let lastEvent = 0;
let attempt = 0;
let retryTimer = 0;

function publish(change: Partial<State>): void {
    state = { ...state, ...change };
    listeners.forEach((listener) => listener());
}

export function useLive(): State {
    const [value, set] = useState(state);
    useEffect(() => {
        const listener = () => set(state);
        listener();
        listeners.add(listener);
        return () => void listeners.delete(listener);
    }, []);
    return value;
}

export function setPaused(paused: boolean): void {
    publish({ paused, live: paused ? state.live : current, t_ns: paused ? state.t_ns : currentT });
}

export function retryNow(): void {
    attempt = 0;
    connect();
}

/** Follows the source that the address names. */
export function start(): void {
    let source = route().source;
    let at = route().at;
    connect();
    onRoute((to) => {
        if (to.source === source && (to.source === null || to.at === at)) return;
        if (to.source !== source) {
            current = null;
            publish({ live: null, history: [], lost: 0, paused: false });
        }
        [source, at] = [to.source, to.at];
        attempt = 0;
        connect();
    });
    setInterval(watch, 500);
}

/** What has come last; `state.live` is that, or older while paused. */
let current: Live | null = null;
let currentT = 0;

function take(live: Live, t_ns: number, lost: number): void {
    lastEvent = Date.now();
    attempt = 0;
    // A stack that was started anew counts its time from 0.
    const history = t_ns < currentT ? [] : state.history;
    [current, currentT] = [live, t_ns];
    const { rates } = live.overview;
    const reading = {
        t_ns, rx: rates.rx_packets_per_s, tx: rates.tx_datagrams_per_s, rxBytes: rates.rx_bytes_per_s,
        txBytes: rates.tx_bytes_per_s, drops: rates.drops_per_s, messages: rates.messages_per_s,
    };
    publish({
        link: { state: "live" },
        lost: state.lost + lost,
        history: [...history.slice(1 - HISTORY), reading],
        ...(state.paused ? {} : { live, t_ns }),
    });
}

function watch(): void {
    const quiet = Date.now() - lastEvent;
    const { link } = state;
    if (document.hidden || route().source) return;
    if (link.state === "live" && quiet > QUIET_MS) publish({ link: { state: "quiet", since: lastEvent } });
    else if (link.state === "quiet") {
        if (quiet > GIVE_UP_MS) failed(new ApiError(0, "The stack sends nothing."), lastEvent);
        else publish({});
    } else if (link.state === "lost") publish({});
}

function failed(error: ApiError, since: number): void {
    stop.abort();
    const wait = RETRY_MS[Math.min(attempt++, RETRY_MS.length - 1)];
    const begun = state.link.state === "lost" ? state.link.since : since;
    publish({ link: { state: "lost", since: begun, error, retryAt: Date.now() + wait } });
    clearTimeout(retryTimer);
    // Wrong rights don't mend by asking again.
    if (error.status !== 401 && error.status !== 403) retryTimer = window.setTimeout(connect, wait);
}

function connect(): void {
    stop.abort();
    clearTimeout(retryTimer);
    const mine = (stop = new AbortController());
    const { source, at } = route();
    if (state.link.state !== "lost") publish({ link: { state: source ? "recording" : "connecting" } });
    const run = source ? replay(source, at, mine.signal) : follow(mine.signal);
    run.catch((error) => {
        if (mine.signal.aborted) return;
        failed(error instanceof ApiError ? error : new ApiError(0, "The stack can't be reached."), lastEvent || Date.now());
    });
}

async function replay(source: string, at: string | null, signal: AbortSignal): Promise<void> {
    const ask = <T>(path: string) => request<T>(withQuery(path, { source, at }), {}, signal);
    const [overview, topology, queues, drops] = await Promise.all([
        ask<Overview>("overview"), ask<Topology>("topology"), ask<Queues>("queues"), ask<Drops>("drops"),
    ]);
    if (signal.aborted) return;
    const live = { overview: overview.data, topology: topology.data, queues: queues.data, drops: drops.data };
    [current, currentT] = [live, overview.t_ns];
    publish({ link: { state: "recording" }, live, t_ns: overview.t_ns });
}

async function follow(signal: AbortSignal): Promise<void> {
    const response = await fetch("api/v1/stream", { headers: { ...headers(), accept: "text/event-stream" }, cache: "no-store", signal });
    if (!response.ok || !response.body) {
        const body = (await response.json().catch(() => null)) as { error?: string } | null;
        throw new ApiError(response.status, body?.error ?? `The stack answered ${response.status}.`);
    }
    lastEvent = Date.now();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let live: Live | null = null;
    let rest = "";
    for (;;) {
        const { value, done } = await reader.read();
        if (done) throw new ApiError(0, "The stack ended the stream.");
        rest += value;
        const events = rest.split(/\r?\n\r?\n/);
        rest = events.pop()!;
        for (const event of events) {
            const fields = parseEvent(event);
            if (!fields.data) {
                lastEvent = Date.now();
                continue;
            }
            const message = JSON.parse(fields.data) as LiveDelta;
            if (fields.event === "snapshot") live = message.data as Live;
            else if (fields.event === "delta" && live) live = mergePatch(live, message.data) as Live;
            else continue;
            if (signal.aborted) return;
            take(live, message.t_ns, message.lost ?? 0);
        }
    }
}

function parseEvent(text: string): { event: string; data: string } {
    let event = "message";
    const data: string[] = [];
    for (const line of text.split(/\r?\n/)) {
        if (line.startsWith("event:")) event = line.slice(6).trim();
        else if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
    }
    return { event, data: data.join("\n") };
}

/** RFC 7386, without changing what was there. */
export function mergePatch(target: unknown, patch: unknown): unknown {
    if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
    const merged: Record<string, unknown> =
        target !== null && typeof target === "object" && !Array.isArray(target) ? { ...target } : {};
    for (const [key, value] of Object.entries(patch)) {
        if (value === null) delete merged[key];
        else merged[key] = mergePatch(merged[key], value);
    }
    return merged;
}
