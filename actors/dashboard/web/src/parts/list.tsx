// A long list of which only what is seen is there: the server filters, sorts and pages, the page scrolls.
import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Page } from "../api";
import { ApiError, request, withQuery } from "../client";
import { count } from "../format";
import { go, useRoute } from "../route";
import { Icon } from "./icons";
import { Stale } from "./basics";

/** Rows asked for at once. */
const CHUNK = 100;
/** What is in sight is asked for again this often. */
const REFRESH_MS = 1000;
/** While somebody types or scrolls, requests wait this long. */
const SETTLE_MS = 120;
/** Beyond this height browsers lose track of scrolling; a row is then less than its height apart. */
const MAX_HEIGHT = 8_000_000;

export interface Column<T> {
    name: string;
    /** Field to sort by. */
    sort?: string;
    cell: (row: T) => ComponentChildren;
    class?: string;
    /** CSS grid width. */
    width: string;
    title?: string;
}

interface Props<T> {
    path: string;
    columns: Column<T>[];
    rowHref: (row: T) => string;
    rowKey: (row: T) => string;
    rowClass?: (row: T) => string;
    /** Field sorted by at first, descending. */
    sort: string;
    filterHint: string;
    noun: string;
    query?: Record<string, string>;
    tools?: ComponentChildren;
    /** Two lines a row on a narrow screen. */
    narrow: (row: T) => ComponentChildren;
}

export function List<T>(props: Props<T>) {
    const { query } = useRoute();
    const [typed, setTyped] = useState(query.get("filter") ?? "");
    const [filter, setFilter] = useState(typed);
    const [sort, setSort] = useState({ by: props.sort, desc: true });
    useEffect(() => {
        const timer = setTimeout(() => setFilter(typed.trim()), SETTLE_MS);
        return () => clearTimeout(timer);
    }, [typed]);
    const narrow = useNarrow();
    const rowHeight = narrow ? 60 : 36;
    const { total, totalUnfiltered, rowAt, show, error, settled } = useRows<T>(props.path, { ...props.query, filter, sort: sort.by, desc: String(sort.desc) });

    const box = useRef<HTMLDivElement>(null);
    const [view, setView] = useState({ top: 0, height: 600 });
    const [active, setActive] = useState(-1);
    useLayoutEffect(() => {
        const element = box.current!;
        const measure = () => setView({ top: element.scrollTop, height: element.clientHeight });
        measure();
        const observer = new ResizeObserver(measure);
        observer.observe(element);
        return () => observer.disconnect();
    }, []);
    useEffect(() => {
        box.current!.scrollTop = 0;
        setActive(-1);
    }, [filter, sort.by, sort.desc, JSON.stringify(props.query)]);

    const pitch = Math.min(rowHeight, MAX_HEIGHT / Math.max(1, total));
    const first = Math.max(0, Math.floor(view.top / pitch) - 6);
    const last = Math.min(total, Math.ceil((view.top + view.height) / pitch) + 6);
    useEffect(() => show(first, Math.max(last, first + 40)), [first, last, show]);

    const template = props.columns.map((column) => column.width).join(" ");
    const move = (to: number) => {
        const next = Math.max(0, Math.min(total - 1, to));
        setActive(next);
        const element = box.current!;
        const top = next * pitch;
        if (top < element.scrollTop) element.scrollTop = top;
        else if (top + rowHeight > element.scrollTop + element.clientHeight - 36) element.scrollTop = top + rowHeight + 36 - element.clientHeight;
    };
    const onKey = (event: KeyboardEvent) => {
        const page = Math.max(1, Math.floor(view.height / rowHeight) - 2);
        const step = ({ ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -total, End: total } as Record<string, number>)[event.key];
        if (step !== undefined) move((active < 0 ? (step > 0 ? -1 : 0) : active) + step);
        else if (event.key === "Enter" && active >= 0 && rowAt(active)) go(props.rowHref(rowAt(active)!));
        else return;
        event.preventDefault();
    };

    const rows: ComponentChildren[] = [];
    for (let n = first; n < last; n++) {
        const row = rowAt(n);
        const place = { transform: `translateY(${n * pitch}px)`, gridTemplateColumns: narrow ? "1fr" : template, height: `${rowHeight}px` };
        rows.push(
            row ? (
                <div key={n} role="row" aria-rowindex={n + 2} data-id={props.rowKey(row)} style={place}
                    class={`row ${n === active ? "active" : ""} ${props.rowClass?.(row) ?? ""}`}>
                    {narrow ? <span role="cell"><a tabIndex={-1} class="row-narrow cover" href={props.rowHref(row)}>{props.narrow(row)}</a></span>
                        : props.columns.map((column, at) => (
                            <span key={column.name} role="cell" class={`cell ${column.class ?? ""}`}>
                                {at === 0 ? <a tabIndex={-1} class="cover" href={props.rowHref(row)}>{column.cell(row)}</a> : column.cell(row)}
                            </span>
                        ))}
                </div>
            ) : <div key={n} class="row blank" style={place} aria-hidden="true"><span /></div>,
        );
    }
    return (
        <div class="list">
            <div class="list-tools">
                <label class="search"><span class="sr">Filter</span>
                    <input id="filter" type="search" placeholder={props.filterHint} value={typed} spellcheck={false} autocomplete="off"
                        onInput={(event) => setTyped(event.currentTarget.value)} />
                    <kbd>/</kbd>
                </label>
                {props.tools}
                {narrow && (
                    <label class="select"><span class="sr">Sort by</span>
                        <select value={sort.by} onChange={(event) => setSort({ by: event.currentTarget.value, desc: true })}>
                            {props.columns.filter((column) => column.sort).map((column) => <option key={column.name} value={column.sort}>{column.name}</option>)}
                        </select>
                    </label>
                )}
                <span class="muted list-count" role="status">{!settled ? "…" : filter || total !== totalUnfiltered ? `${count(total)} of ${count(totalUnfiltered)} ${props.noun}` : `${count(total)} ${props.noun}`}</span>
            </div>
            <Stale error={error} />
            <div class="list-box" ref={box} role="table" aria-rowcount={total + 1} tabIndex={0} onKeyDown={onKey} aria-label={props.noun}
                onScroll={(event) => setView({ top: event.currentTarget.scrollTop, height: event.currentTarget.clientHeight })}>
                {!narrow && (
                    <div class="list-head" role="row" style={{ gridTemplateColumns: template }}>
                        {props.columns.map((column) => {
                            const sorted = column.sort === sort.by;
                            return (
                                <span key={column.name} role="columnheader" class={`cell ${column.class ?? ""}`} aria-sort={sorted ? (sort.desc ? "descending" : "ascending") : undefined}>
                                    {column.sort ? (
                                        <button title={column.title} class={sorted ? "sorted" : ""} onClick={() => setSort({ by: column.sort!, desc: sorted ? !sort.desc : true })}>
                                            {column.name}<i class={sorted ? (sort.desc ? "down" : "up") : ""} aria-hidden="true" />
                                        </button>
                                    ) : column.name}
                                </span>
                            );
                        })}
                    </div>
                )}
                <div class="list-rows" role="rowgroup" style={{ height: `${total * pitch}px` }}>{rows}</div>
                {settled && total === 0 && <div class="empty list-empty"><Icon name="info" size={20} /><strong>{filter ? `Nothing matches “${filter}”` : `No ${props.noun} now`}</strong></div>}
            </div>
        </div>
    );
}

export function useNarrow(): boolean {
    const media = useMemo(() => matchMedia("(max-width: 720px)"), []);
    const [narrow, set] = useState(media.matches);
    useEffect(() => {
        const listener = () => set(media.matches);
        media.addEventListener("change", listener);
        return () => media.removeEventListener("change", listener);
    }, [media]);
    return narrow;
}

/** Rows by their place, from the server as they come into sight. */
function useRows<T>(path: string, query: Record<string, string>) {
    const { source, at } = useRoute();
    const base = withQuery(path, { ...query, source, at: source ? at : null });
    const chunks = useRef(new Map<number, T[]>());
    const wanted = useRef<number[]>([0]);
    const [state, set] = useState({ base: "", total: 0, totalUnfiltered: 0, error: null as ApiError | null, turn: 0 });
    const ask = useRef((_soon: boolean) => {});

    useEffect(() => {
        const stop = new AbortController();
        let timer = 0;
        let busy = false;
        let fresh = true;
        const turn = async (onlyMissing: boolean) => {
            clearTimeout(timer);
            if (busy) return;
            busy = true;
            let failed = false;
            if (!document.hidden) {
                try {
                    const numbers = wanted.current.filter((chunk) => !onlyMissing || !chunks.current.has(chunk));
                    const pages = await Promise.all(numbers.map((chunk) => request<Page<T>>(withQuery(base, { offset: chunk * CHUNK, limit: CHUNK }), {}, stop.signal)));
                    if (fresh) {
                        chunks.current.clear();
                        fresh = false;
                    }
                    pages.forEach(({ data }, n) => chunks.current.set(numbers[n], data.rows));
                    // What has gone out of sight is asked for again when it comes back.
                    for (const chunk of chunks.current.keys()) if (!wanted.current.includes(chunk)) chunks.current.delete(chunk);
                    const page = pages[0]?.data;
                    if (page) set((old) => ({ base, total: page.total, totalUnfiltered: page.total_unfiltered, error: null, turn: old.turn + 1 }));
                } catch (error) {
                    failed = true;
                    if (!stop.signal.aborted) set((old) => ({ ...old, error: error as ApiError }));
                }
            }
            busy = false;
            if (stop.signal.aborted) return;
            const missing = !failed && wanted.current.some((chunk) => !chunks.current.has(chunk));
            if (missing || failed || !source) timer = window.setTimeout(() => turn(missing), missing ? SETTLE_MS : REFRESH_MS);
        };
        wanted.current = [0];
        ask.current = (missing) => {
            if (!missing || busy) return;
            clearTimeout(timer);
            timer = window.setTimeout(() => turn(true), SETTLE_MS / 2);
        };
        turn(false);
        return () => {
            stop.abort();
            clearTimeout(timer);
        };
    }, [base, source]);

    const show = useCallback((first: number, last: number) => {
        const numbers: number[] = [];
        for (let chunk = Math.floor(first / CHUNK); chunk <= Math.floor(Math.max(first, last - 1) / CHUNK); chunk++) numbers.push(chunk);
        wanted.current = numbers;
        ask.current(numbers.some((chunk) => !chunks.current.has(chunk)));
    }, []);
    const rowAt = (n: number): T | undefined => chunks.current.get(Math.floor(n / CHUNK))?.[n % CHUNK];
    return { ...state, rowAt, show, settled: state.base !== "" };
}
