// A server of sample figures, a headless Chromium, and pages that keep account of what went wrong in them.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

/** Built by `.ci/browser`. */
const SAMPLE = process.env.SAMPLE ?? "target/debug/examples/sample";

/** How long anything may take on a busy machine; what comes, comes much sooner. */
const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 180_000);

/** The sizes the page is made for. */
export const WIDE = { width: 1440, height: 900 };
export const NARROW = { width: 390, height: 844 };

const undo = new WeakMap();

/** Has `act` done at the test's end, before what was asked for earlier: a page goes before its server. */
function finallyDo(test, act) {
    if (!undo.has(test)) {
        const acts = [];
        undo.set(test, acts);
        test.after(async () => {
            for (const one of acts.reverse()) await one();
        });
    }
    undo.get(test).push(act);
}

/** Starts a program that tells on a line of its own where its dashboard is; ends it with the test. */
export async function serve(test, program, args) {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
    const ended = once(child, "exit");
    const stop = async () => {
        child.kill("SIGKILL");
        await ended;
    };
    finallyDo(test, stop);
    const address = (async () => {
        for await (const line of createInterface({ input: child.stdout })) {
            const url = /https?:\/\/\S+/.exec(line);
            if (url) return new URL(url[0]);
        }
        throw new Error(`${program} ended before it told its address`);
    })();
    const url = await address;
    child.stdout.resume();
    return { child, url, stop };
}

export function sample(test, { address = "127.0.0.1:0", connections = 200, second, lose, token = false } = {}) {
    const args = [address, String(connections)];
    if (second !== undefined) args.push("--second", String(second));
    if (lose !== undefined) args.push("--lose", String(lose));
    if (token) args.push("--token");
    return serve(test, SAMPLE, args);
}

/** Built by `.ci/browser`, too. */
const WIREPATH = process.env.WIREPATH ?? "target/debug/wirepath";

/**
 * The demo, busy until it is stopped: its server's dashboard, and a way onto its hosts. `lack` says why there is none on
 * AF_XDP.
 */
export async function demo(args = []) {
    const command = [WIREPATH, "demo", "--live", "--size", "4", "--dashboard", "127.0.0.1:0", ...args];
    const child = spawn("nice", ["-n", "10", ...command], { stdio: ["ignore", "pipe", "inherit"] });
    const ended = once(child, "exit");
    const stop = async () => {
        // The hosts' processes die with it.
        child.kill("SIGKILL");
        await ended;
    };
    let url = null;
    const onXdp = await (async () => {
        for await (const line of createInterface({ input: child.stdout })) {
            url ??= /server: dashboard (\S+)/.exec(line)?.[1] ?? null;
            const path = /client: data path (.*)/.exec(line)?.[1];
            if (path !== undefined) return path.startsWith("AF_XDP");
            if (/^Over OS UDP/.test(line)) return false;
        }
        throw new Error("the demo ended before it was busy");
    })();
    if (!onXdp) {
        await stop();
        return { lack: "needs root and AF_XDP" };
    }
    child.stdout.resume();
    /** Runs a line of shell on a side's host. */
    const enter = (side, line) => {
        const { stdout } = spawnSync("pgrep", ["-P", String(child.pid), "-f", `demo-${side}`], { encoding: "utf8" });
        const { status, stderr } = spawnSync("nsenter", [`--net=/proc/${stdout.trim()}/ns/net`, "bash", "-c", line], { encoding: "utf8" });
        assert.equal(status, 0, stderr);
    };
    return { child, url: new URL(url), stop, enter };
}

export function launch() {
    return chromium.launch({
        executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
        args: [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
        ],
    });
}

/**
 * A page at `url`. When the test ends it fails for any error on the console, any exception, any violation of the
 * content security policy and any request to another origin, but those `forgive` matches.
 */
export async function open(test, browser, url, { viewport = WIDE, colorScheme = "light", forgive = null } = {}) {
    const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce", acceptDownloads: true });
    context.setDefaultTimeout(PATIENCE_MS);
    const page = await context.newPage();
    const problems = [];
    const note = (text) => {
        if (!forgive?.test(text)) problems.push(text);
    };
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && note(`console: ${message.text()}`));
    page.on("pageerror", (error) => note(`exception: ${error.stack}`));
    page.on("request", (request) => {
        const to = new URL(request.url());
        if (to.origin !== url.origin && to.protocol !== "blob:") note(`off its origin: ${to}`);
    });
    await page.exposeFunction("noteViolation", (text) => note(`policy: ${text}`));
    await page.addInitScript(() => {
        addEventListener("securitypolicyviolation", (event) => window.noteViolation(`${event.violatedDirective} ${event.blockedURI}`));
    });
    finallyDo(test, async () => {
        await context.close();
        assert.deepEqual(problems, []);
    });
    await page.goto(url.href);
    await page.locator("main h1").first().waitFor();
    return page;
}

/** Goes to a page of the dashboard by its address. */
export async function visit(page, path) {
    await page.evaluate((hash) => (location.hash = hash), `#/${path}`);
    await page.locator("main h1").first().waitFor();
}

export async function api(server, path) {
    const response = await fetch(new URL(`/api/v1/${path}`, server.url));
    assert.equal(response.status, 200, path);
    return (await response.json()).data;
}

/** Asks again until the answer satisfies, for as long as anything may take. */
export async function until(holds) {
    for (const end = Date.now() + PATIENCE_MS; !(await holds());) {
        assert.ok(Date.now() < end, `never came: ${holds}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}
