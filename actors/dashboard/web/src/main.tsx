// The page's frame: navigation, what we look at (live or a recording), and how the connection to the stack is.
import { render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import "./style/base.css";
import "./style/parts.css";
import "./style/pages.css";
import type { Recordings } from "./api";
import { setToken, takeToken, useApi } from "./client";
import { duration } from "./format";
import { retryNow, setPaused, start, useLive, type Link, type State } from "./live";
import { go, href, useRoute, type Route } from "./route";
import { applyTheme, isDark, onTheme, toggleTheme } from "./theme";
import { Icon } from "./parts/icons";
import { Overview } from "./pages/overview";
import { Topology } from "./pages/topology";
import { Actors } from "./pages/actors";
import { Actor } from "./pages/actor";
import { Tree } from "./pages/tree";
import { Queues } from "./pages/queues";
import { Frames } from "./pages/frames";
import { Packets } from "./pages/packets";
import { Connections } from "./pages/connections";
import { Connection } from "./pages/connection";
import { Drops } from "./pages/drops";
import { Recorder } from "./pages/recorder";

const NAV: [group: string, pages: [page: string, title: string][]][] = [
    ["Now", [["overview", "Overview"], ["topology", "Topology"]]],
    ["Traffic", [["connections", "Connections"], ["packets", "Packets"], ["drops", "Drops"]]],
    ["Inside", [["actors", "Actors"], ["tree", "Tree"], ["queues", "Queues"], ["frames", "Frames"]]],
    ["Later", [["recorder", "Recorder"]]],
];
const PAGES = NAV.flatMap(([, pages]) => pages);

function Page({ route }: { route: Route }) {
    switch (route.page) {
        case "overview": return <Overview />;
        case "topology": return <Topology />;
        case "actors": return route.id === null ? <Actors /> : <Actor id={route.id} />;
        case "tree": return <Tree />;
        case "queues": return <Queues />;
        case "frames": return <Frames />;
        case "packets": return <Packets id={route.id} />;
        case "connections": return route.id === null ? <Connections /> : <Connection id={route.id} />;
        case "drops": return <Drops />;
        case "recorder": return <Recorder />;
        default: return <div class="empty"><strong>There is no such page.</strong><p><a href={href("overview")}>To the overview</a></p></div>;
    }
}

function App() {
    const route = useRoute();
    const live = useLive();
    const main = useRef<HTMLElement>(null);
    const [help, setHelp] = useState(false);
    const where = `${route.page}/${route.id ?? ""}`;
    const first = useRef(true);
    useEffect(() => {
        const title = PAGES.find(([page]) => page === route.page)?.[1] ?? "";
        document.title = `${title}${route.id ? ` ${route.id}` : ""} · wirepath`;
        document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
        // Who uses keys goes on from the new page's head.
        if (!first.current) {
            scrollTo(0, 0);
            main.current?.querySelector<HTMLElement>("h1")?.focus({ preventScroll: true });
        }
        first.current = false;
    }, [where]);
    useEffect(() => {
        const onKey = (event: KeyboardEvent) => {
            const typing = (event.target as HTMLElement).closest("input, select, textarea");
            if (event.key === "Escape") {
                setHelp(false);
                if (typing) (event.target as HTMLElement).blur();
            }
            if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
            const digit = "1234567890".indexOf(event.key);
            if (event.key === "/") document.getElementById("filter")?.focus();
            else if (event.key === "?") setHelp((shown) => !shown);
            else if (event.key === "t") toggleTheme();
            else if (event.key === "p") setPaused(!live.paused);
            else if (digit >= 0 && PAGES[digit]) go(href(PAGES[digit][0]));
            else return;
            event.preventDefault();
        };
        addEventListener("keydown", onKey);
        return () => removeEventListener("keydown", onKey);
    }, [live.paused]);

    if (live.link.state === "lost" && live.link.error.status === 401) return <AskToken wrong={live.link.error.message} />;
    return (
        <>
            <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>Skip to the page</a>
            <Sidebar route={route} live={live} onHelp={() => setHelp(true)} />
            <main id="main" ref={main} tabIndex={-1}>
                <LinkNotice link={live.link} stale={live.live !== null} />
                {route.source && <RecordingBar route={route} />}
                <Page route={route} />
            </main>
            {help && <Help onClose={() => setHelp(false)} />}
        </>
    );
}

function Sidebar({ route, live, onHelp }: { route: Route; live: State; onHelp: () => void }) {
    const worst = live.live?.overview.lints[0]?.severity;
    return (
        <header class="side">
            <a class="brand" href={href("overview")}>
                <svg width="26" height="26" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8" class="brand-box" /><path d="M6 11h7l6 10h7M6 21h7l6-10h7" fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round" stroke-linejoin="round" /><circle cx="16" cy="16" r="2.6" class="brand-dot" /></svg>
                wirepath
            </a>
            <nav aria-label="Pages">
                {NAV.map(([group, pages]) => (
                    <div class="nav-group" key={group}>
                        <span class="nav-title">{group}</span>
                        {pages.map(([page, title]) => (
                            <a key={page} href={href(page)} aria-current={route.page === page ? "page" : undefined}>
                                <Icon name={page} />{title}
                                {page === "overview" && worst && worst !== "info" && <i class={`nav-dot ${worst}`} aria-label={`: ${worst}`} />}
                            </a>
                        ))}
                    </div>
                ))}
            </nav>
            <div class="side-foot">
                <LinkState live={live} />
                <div class="side-buttons">
                    <button class="icon-button" onClick={() => setPaused(!live.paused)} aria-pressed={live.paused} disabled={!!route.source}
                        title={live.paused ? "Go on (p)" : "Hold the figures still (p)"} aria-label={live.paused ? "Go on" : "Hold the figures still"}>
                        <Icon name={live.paused ? "play" : "pause"} />
                    </button>
                    <ThemeButton />
                    <button class="icon-button" onClick={onHelp} title="Keys (?)" aria-label="Keys"><b>?</b></button>
                </div>
            </div>
        </header>
    );
}

function ThemeButton() {
    const [dark, set] = useState(isDark());
    useEffect(() => onTheme(() => set(isDark())), []);
    return (
        <button class="icon-button" onClick={toggleTheme} title="Light or dark (t)" aria-label={dark ? "Light colours" : "Dark colours"}>
            <Icon name={dark ? "sun" : "moon"} />
        </button>
    );
}

function LinkState({ live }: { live: State }) {
    const { link } = live;
    const [tone, text] = live.paused && link.state === "live" ? ["held", "Held still"]
        : ({ live: ["live", "Live"], connecting: ["held", "Connecting"], quiet: ["bad", "Not answering"], lost: ["bad", "No connection"], recording: ["recording", "Recording"] } as const)[link.state];
    const uptime = live.live && link.state !== "recording" ? `up ${duration(live.live.overview.uptime_ns)}` : "";
    return (
        <div class={`link-state ${tone}`} role="status">
            <i aria-hidden="true" /><span>{text}</span>
            <small>{live.lost > 0 && link.state === "live" ? `${live.lost} readings skipped: this page is slow` : uptime}</small>
        </div>
    );
}

function LinkNotice({ link, stale }: { link: Link; stale: boolean }) {
    if (link.state !== "quiet" && link.state !== "lost") return null;
    const seconds = Math.round((Date.now() - link.since) / 1000);
    const old = stale ? ` What you see is ${seconds} s old.` : "";
    return (
        <div class="notice" role="alert">
            <Icon name="critical" size={18} />
            {link.state === "quiet"
                ? <p><strong>The stack has sent nothing for {seconds} s.</strong> It is connected, but hangs or was stopped.{old}</p>
                : <p><strong>{link.error.message}</strong>{old} {link.error.status === 403 ? "" : `Trying again${link.retryAt > Date.now() ? ` in ${Math.ceil((link.retryAt - Date.now()) / 1000)} s` : " now"}.`}</p>}
            <button onClick={retryNow}>Try now</button>
        </div>
    );
}

function RecordingBar({ route }: { route: Route }) {
    const { data } = useApi<Recordings>("recordings", 5000);
    const recording = data?.rows.find((row) => row.id === route.source);
    const here = `${route.page}${route.id ? `/${encodeURIComponent(route.id)}` : ""}`;
    const [playing, setPlaying] = useState(false);
    const at = Number(route.at ?? recording?.end_ns ?? 0);
    useEffect(() => {
        if (!playing || !recording) return;
        const timer = setTimeout(() => {
            const next = Math.min(recording.end_ns, at + 1e9);
            go(href(here, { at: String(Math.round(next)) }), true);
            if (next >= recording.end_ns) setPlaying(false);
        }, 1000);
        return () => clearTimeout(timer);
    }, [playing, at, recording, here]);
    return (
        <section class="recording-bar" aria-label="Recording">
            <Icon name="recorder" />
            <strong>{recording ? recording.name || `Recording ${recording.id}` : `Recording ${route.source}`}</strong>
            {recording && recording.end_ns > recording.begin_ns && <>
                <button class="icon-button" aria-label={playing ? "Pause" : "Play"} onClick={() => {
                    if (!playing && at >= recording.end_ns) go(href(here, { at: String(recording.begin_ns) }), true);
                    setPlaying(!playing);
                }}><Icon name={playing ? "pause" : "play"} /></button>
                <input type="range" aria-label="Time in the recording" min={0} max={recording.end_ns - recording.begin_ns} step={250e6}
                    value={at - recording.begin_ns} aria-valuetext={duration(at - recording.begin_ns)}
                    onInput={(event) => go(href(here, { at: String(recording.begin_ns + Number(event.currentTarget.value)) }), true)} />
                <span class="num">{duration(at - recording.begin_ns)} of {duration(recording.end_ns - recording.begin_ns)}</span>
            </>}
            <a class="button" href={href(here, { source: null, at: null })}>Back to live</a>
        </section>
    );
}

function AskToken({ wrong }: { wrong: string }) {
    return (
        <main id="main" class="ask">
            <form class="card" onSubmit={(event) => {
                event.preventDefault();
                setToken(new FormData(event.currentTarget).get("token")!.toString().trim());
                retryNow();
            }}>
                <h1>This dashboard wants its token</h1>
                <p>{wrong}</p>
                <p class="muted">The program printed it when the dashboard began to listen. It stays in this tab and goes nowhere else.</p>
                <label>Token<input name="token" type="password" autocomplete="off" autofocus required /></label>
                <button class="primary">Open</button>
            </form>
        </main>
    );
}

function Help({ onClose }: { onClose: () => void }) {
    const close = useRef<HTMLButtonElement>(null);
    useEffect(() => close.current?.focus(), []);
    const keys: [string, string][] = [
        ["1 … 9, 0", "The pages, from the top"], ["/", "Filter the list"], ["↑ ↓ PgUp PgDn", "Move in a list or tree"],
        ["Enter", "Open"], ["p", "Hold the figures still, or go on"], ["t", "Light or dark"], ["Esc", "Leave"],
    ];
    return (
        <div class="veil" onClick={onClose}>
            <div class="card dialog" role="dialog" aria-modal="true" aria-label="Keys" onClick={(event) => event.stopPropagation()}>
                <div class="card-head"><h2>Keys</h2><button ref={close} class="icon-button" aria-label="Close" onClick={onClose}><Icon name="cross" /></button></div>
                <dl class="keys">{keys.map(([key, text]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{text}</dd></div>)}</dl>
            </div>
        </div>
    );
}

takeToken();
applyTheme();
start();
render(<App />, document.body);

