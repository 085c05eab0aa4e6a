// Requests to the stack that serves this page, and to no other origin.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { Envelope, Maybe } from "./api";
import { useRoute } from "./route";

/** An answer that should have come within this time comes no more: the stack hangs. */
const TIMEOUT_MS = 30_000;

const TOKEN = "wirepath-token";

export class ApiError extends Error {
    constructor(readonly status: number, message: string) {
        super(message);
    }
}

/** The token may come with the address (`#token=…` or `?token=…`); it then leaves the address and stays in this tab. */
export function takeToken(): void {
    const hash = /^#\/?token=([^&?/]+)/.exec(location.hash);
    const search = new URLSearchParams(location.search).get("token");
    const token = hash ? decodeURIComponent(hash[1]) : search;
    if (!token) return;
    setToken(token);
    history.replaceState(null, "", location.pathname + (hash ? "#/overview" : location.hash));
    if (hash) dispatchEvent(new Event("hashchange"));
}

export function setToken(token: string): void {
    sessionStorage.setItem(TOKEN, token);
}

export function headers(): Record<string, string> {
    const token = sessionStorage.getItem(TOKEN);
    return token ? { authorization: `Bearer ${token}` } : {};
}

async function failure(response: Response): Promise<ApiError> {
    let message = `The stack answered ${response.status} ${response.statusText}.`;
    try {
        message = ((await response.json()) as { error: string }).error ?? message;
    } catch {
        // Not JSON: the status says it.
    }
    return new ApiError(response.status, message);
}

export async function request<T>(path: string, init: RequestInit = {}, signal?: AbortSignal): Promise<Envelope<T>> {
    const limit = AbortSignal.timeout(TIMEOUT_MS);
    let response: Response;
    try {
        response = await fetch(`api/v1/${path}`, {
            ...init,
            headers: { ...headers(), ...(init.body ? { "content-type": "application/json" } : {}) },
            cache: "no-store",
            signal: signal ? AbortSignal.any([signal, limit]) : limit,
        });
        if (!response.ok) throw await failure(response);
        return (await response.json()) as Envelope<T>;
    } catch (error) {
        if (error instanceof ApiError || signal?.aborted) throw error;
        throw new ApiError(0, limit.aborted ? "The stack does not answer." : "The stack can't be reached.");
    }
}

export function post<T>(path: string, body: unknown = {}): Promise<Envelope<T>> {
    return request<T>(path, { method: "POST", body: JSON.stringify(body) });
}

/** Hands a file over as it is. */
export function upload<T>(path: string, file: Blob): Promise<Envelope<T>> {
    return request<T>(path, { method: "POST", body: file });
}

/** Saves a file that needs the token to be had. */
export async function download(path: string, name: string): Promise<void> {
    const response = await fetch(path, { headers: headers(), cache: "no-store" });
    if (!response.ok) throw await failure(response);
    const url = URL.createObjectURL(await response.blob());
    const link = document.createElement("a");
    link.href = url;
    link.download = /filename="?([^";]+)/.exec(response.headers.get("content-disposition") ?? "")?.[1] ?? name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export function withQuery(path: string, query: Record<string, Maybe<string | number | boolean>>): string {
    const params = new URLSearchParams();
    for (const [key, value] of Object.entries(query)) if (value != null && value !== "") params.set(key, String(value));
    const search = params.toString();
    return search ? `${path}${path.includes("?") ? "&" : "?"}${search}` : path;
}

export interface Answer<T> {
    data: T | null;
    t_ns: number;
    error: ApiError | null;
    refresh: () => void;
}

/** Asks for `path` (of the source shown) now and every `everyMs` while the page is visible. `null`: asks nothing. */
export function useApi<T>(path: string | null, everyMs = 1000): Answer<T> {
    const { source, at } = useRoute();
    const full = path === null ? null : withQuery(path, { source, at: source ? at : null });
    const [state, set] = useState<{ of: string | null; data: T | null; t_ns: number; error: ApiError | null }>({
        of: null, data: null, t_ns: 0, error: null,
    });
    const ask = useRef(() => {});
    useEffect(() => {
        if (full === null) return;
        const stop = new AbortController();
        let timer = 0;
        const turn = async () => {
            clearTimeout(timer);
            let gone = false;
            if (!document.hidden) {
                try {
                    const { data, t_ns } = await request<T>(full, {}, stop.signal);
                    if (stop.signal.aborted) return;
                    set({ of: full, data, t_ns, error: null });
                } catch (error) {
                    if (stop.signal.aborted) return;
                    gone = (error as ApiError).status === 404;
                    // What was there stays, with the error beside it: it is told to be old.
                    set((old) => ({ ...(old.of === full ? old : { of: full, data: null, t_ns: 0 }), error: error as ApiError }));
                }
            }
            // A recording does not change, and ids are never given anew.
            if (!source && !gone) timer = window.setTimeout(turn, everyMs);
        };
        ask.current = turn;
        turn();
        return () => {
            stop.abort();
            clearTimeout(timer);
        };
    }, [full, everyMs, source]);
    const refresh = useCallback(() => ask.current(), []);
    // While the next answer is under way the page keeps the figures of the same thing at another time, not of another.
    const same = state.of !== null && full !== null && state.of.split("?")[0] === full.split("?")[0];
    return same ? { ...state, refresh } : { data: null, t_ns: 0, error: null, refresh };
}
