// Where we are: `#/actors/17?source=3&at=120000`. The source (live or a recording) goes along from page to page.
import { useEffect, useState } from "preact/hooks";

export interface Route {
    /** First part of the path; "overview" when there is none. */
    page: string;
    /** Second part. */
    id: string | null;
    query: URLSearchParams;
    /** Id of the recording shown; `null`: live. */
    source: string | null;
    /** The time in it, in nanoseconds; `null`: its end. */
    at: string | null;
}

function parse(): Route {
    const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
    const [page, ...rest] = path.split("/");
    const query = new URLSearchParams(search);
    return {
        page: page || "overview",
        id: rest.length ? decodeURIComponent(rest.join("/")) : null,
        query,
        source: query.get("source"),
        at: query.get("at"),
    };
}

let current = parse();
const listeners = new Set<(route: Route) => void>();
addEventListener("hashchange", () => {
    current = parse();
    listeners.forEach((listener) => listener(current));
});

export function route(): Route {
    return current;
}

export function onRoute(listener: (route: Route) => void): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
}

export function useRoute(): Route {
    const [value, set] = useState(current);
    useEffect(() => {
        set(current);
        return onRoute(set) as () => void;
    }, []);
    return value;
}

/** A link to `path` ("actors/17") that keeps the source. */
export function href(path: string, query: Record<string, string | null | undefined> = {}): string {
    const params = new URLSearchParams();
    const source = { source: current.source, at: current.source ? current.at : null };
    for (const [key, value] of Object.entries({ ...source, ...query })) if (value) params.set(key, value);
    const search = params.toString();
    return `#/${path}${search ? `?${search}` : ""}`;
}

export function actorHref(id: string): string {
    return href(`actors/${encodeURIComponent(id)}`);
}

export function connectionHref(id: string): string {
    return href(`connections/${encodeURIComponent(id)}`);
}

export function go(target: string, replace = false): void {
    if (replace) location.replace(target);
    else location.hash = target;
}
