// What every page is made of.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { ApiError } from "../client";
import type { Lint, Maybe } from "../api";
import { actorHref, href } from "../route";
import { capital, words } from "../format";
import { Icon } from "./icons";

export function PageHead({ title, lead, children }: { title: ComponentChildren; lead?: ComponentChildren; children?: ComponentChildren }) {
    return (
        <header class="page-head">
            <div>
                <h1 tabIndex={-1}>{title}</h1>
                {lead && <p class="lead">{lead}</p>}
            </div>
            {children && <div class="page-tools">{children}</div>}
        </header>
    );
}

export function Card({ title, note, children, class: extra = "", id }: {
    title?: ComponentChildren; note?: ComponentChildren; children: ComponentChildren; class?: string; id?: string;
}) {
    return (
        <section class={`card ${extra}`} id={id}>
            {title && <div class="card-head"><h2>{title}</h2>{note && <span class="note">{note}</span>}</div>}
            {children}
        </section>
    );
}

/** A figure with its name above and what it means below. */
export function Figure({ name, value, note, tone = "", children }: {
    name: string; value: ComponentChildren; note?: ComponentChildren; tone?: string; children?: ComponentChildren;
}) {
    return (
        <div class={`figure ${tone}`}>
            <span class="figure-name">{name}</span>
            <span class="figure-value">{value}</span>
            {note && <span class="figure-note">{note}</span>}
            {children}
        </div>
    );
}

export function Badge({ tone = "", children, title }: { tone?: string; children: ComponentChildren; title?: string }) {
    return <span class={`badge ${tone}`} title={title}>{children}</span>;
}

/** A share as a bar. The number is beside it, not in its colour. */
export function Bar({ share, tone = "run", label }: { share: number; tone?: string; label?: string }) {
    const width = Math.max(0, Math.min(1, share)) * 100;
    return (
        <span class="bar" role="img" aria-label={label ?? `${width.toFixed(0)} percent`}>
            <span class={`bar-fill ${tone}`} style={{ width: `${width > 0 ? Math.max(width, 0.8) : 0}%` }} />
        </span>
    );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
    return <div class="empty"><strong>{title}</strong>{children && <p>{children}</p>}</div>;
}

/** Stands where an answer will be, or says why there is none. */
export function Waiting({ error, what }: { error: Maybe<ApiError>; what: string }) {
    if (error) return <Empty title={`No figures of ${what}`}>{error.message}</Empty>;
    return <div class="empty quiet" role="status">Reading {what} …</div>;
}

export function Stale({ error }: { error: Maybe<ApiError> }) {
    return error ? <p class="stale" role="alert"><Icon name="warning" /> These figures are old. {error.message}</p> : null;
}

export function ActorLink({ id, children }: { id: Maybe<string>; children: ComponentChildren }) {
    return id ? <a href={actorHref(id)}>{children}</a> : <>{children}</>;
}

export function actorName(kind: string, name: string, id: string): string {
    return `${words(kind)} ${name || id}`;
}

const PAGE_WORD: Record<string, string> = {
    queues: "Show the queues", actors: "Show the actors", frames: "Show who holds frames", drops: "Show the drops",
    tree: "Show the restarts", connections: "Show the connections", topology: "Show it in the topology",
};

const SEVERITY_WORD = { critical: "Act now", warning: "Look into it", info: "Worth knowing" };

/** More than these push the figures off the screen. */
const AT_FIRST = 4;

export function Lints({ lints }: { lints: Lint[] }) {
    const [all, setAll] = useState(false);
    if (!lints.length) {
        return <div class="lint ok" role="status"><Icon name="check" /><div><strong>Nothing is wrong.</strong> <span class="muted">No jams, no leaks, no failed actors, no full rings.</span></div></div>;
    }
    const shown = all ? lints : lints.slice(0, AT_FIRST);
    return (
        <ul class="lints" aria-label="What is wrong, worst first">
            {shown.map((lint) => (
                <li key={`${lint.kind}${lint.actor ?? lint.node ?? ""}`} class={`lint ${lint.severity}`} data-kind={lint.kind}>
                    <Icon name={lint.severity} />
                    <div class="lint-text">
                        <div class="lint-title"><strong>{capital(lint.title)}</strong><Badge tone={lint.severity}>{SEVERITY_WORD[lint.severity]}</Badge></div>
                        <p>{lint.detail}</p>
                    </div>
                    <div class="lint-links">
                        {lint.actor && <a href={actorHref(lint.actor)}>Show the actor</a>}
                        <a href={href(lint.page)}>{PAGE_WORD[lint.page] ?? "Show more"}</a>
                    </div>
                </li>
            ))}
            {lints.length > AT_FIRST && <li><button class="more" aria-expanded={all} onClick={() => setAll(!all)}>{all ? "Show fewer" : `Show ${lints.length - AT_FIRST} more`}</button></li>}
        </ul>
    );
}
