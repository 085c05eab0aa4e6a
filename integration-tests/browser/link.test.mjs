// How the page and its server come together, part, and find each other again; and who is let in.
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, describe, it } from "node:test";
import { launch, open, sample, until, visit } from "./harness.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

/** What a browser logs of itself when a server is away. */
const AWAY = /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_NETWORK/;

describe("the live stream", () => {
    it("moves the figures without a request for each", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url);
        await page.getByText("Live", { exact: true }).waitFor();
        await visit(page, "queues");
        const requests = [];
        page.on("request", (request) => requests.push(request.url()));
        const hits = page.locator(".rules tbody tr").nth(1).locator("td").nth(2);
        const first = await hits.textContent();
        await until(async () => (await hits.textContent()) !== first);
        assert.deepEqual(requests, []);
    });

    it("is held still and let go", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url);
        await visit(page, "queues");
        const hits = page.locator(".rules tbody tr").nth(1).locator("td").nth(2);
        await hits.waitFor();
        await page.getByRole("button", { name: "Hold the figures still" }).click();
        await page.getByText("Held still").waitFor();
        const held = await hits.textContent();
        await page.getByRole("button", { name: "Go on" }).click();
        await until(async () => (await hits.textContent()) !== held);
    });
});

describe("a server that is gone", () => {
    it("is told, and found again", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url, { forgive: AWAY });
        await page.getByText("Live", { exact: true }).waitFor();
        await server.stop();
        await page.getByRole("alert").getByText(/What you see is \d+ s old/).waitFor();
        await page.getByText("No connection").waitFor();
        await sample(test, { address: server.url.host });
        await page.getByText("Live", { exact: true }).waitFor();
        await page.locator(".notice").waitFor({ state: "detached" });
    });
});

describe("a server that is frozen", () => {
    it("is told, and goes on where it was", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url, { forgive: AWAY });
        await page.getByText("Live", { exact: true }).waitFor();
        server.child.kill("SIGSTOP");
        await page.getByRole("alert").getByText(/has sent nothing for \d+ s/).waitFor();
        server.child.kill("SIGCONT");
        await page.getByText("Live", { exact: true }).waitFor();
        await page.locator(".notice").waitFor({ state: "detached" });
    });
});

/** A request with headers that browsers would not let a page set. */
function ask(server, path, { method = "GET", headers = {}, body } = {}) {
    return new Promise((resolve, reject) => {
        const { hostname, port, host } = server.url;
        const it = request({ hostname, port, path, method, headers: { host, ...headers } }, (response) => {
            response.resume();
            resolve(response);
        });
        it.on("error", reject);
        it.end(body);
    });
}

const JSON_BODY = { method: "POST", body: "{}" };
const json = { "content-type": "application/json" };

describe("who may look", () => {
    it("has the token", async (test) => {
        const server = await sample(test, { token: true });
        const token = server.url.searchParams.get("token");
        assert.match(token, /^[0-9a-f]{64}$/);
        const wrong = token.replace(/./g, "0");
        for (const path of ["/api/v1/overview", "/api/v1/stream", "/api/v1/recordings", "/api/v1/no-such-thing", "/metrics"]) {
            assert.equal((await ask(server, path)).statusCode, 401, path);
            assert.equal((await ask(server, path, { headers: { authorization: `Bearer ${wrong}` } })).statusCode, 401, path);
        }
        assert.equal((await ask(server, "/api/v1/overview", { headers: { authorization: `Bearer ${token}` } })).statusCode, 200);
        assert.equal((await ask(server, "/api/v1/overview", { headers: { authorization: `Bearer ${token.slice(1)}` } })).statusCode, 401);
    });

    it("asks for a name that is ours", async (test) => {
        const server = await sample(test);
        assert.equal((await ask(server, "/api/v1/overview", { headers: { host: "evil.example" } })).statusCode, 403);
        assert.equal((await ask(server, "/api/v1/overview", { headers: { host: `localhost:${server.url.port}` } })).statusCode, 200);
    });

    it("changes things from no other site's page", async (test) => {
        const server = await sample(test);
        const from = (origin) => ask(server, "/api/v1/traces", { ...JSON_BODY, headers: { ...json, origin } });
        assert.equal((await from("http://evil.example")).statusCode, 403);
        assert.equal((await from("null")).statusCode, 403);
        assert.equal((await from(server.url.origin)).statusCode, 200);
        const cross = await ask(server, "/api/v1/recordings", { ...JSON_BODY, headers: { ...json, "sec-fetch-site": "cross-site" } });
        assert.equal(cross.statusCode, 403);
    });

    it("opens the printed address, which then keeps no token", async (test) => {
        const server = await sample(test, { token: true });
        const page = await open(test, browser, server.url);
        await page.getByText("Live", { exact: true }).waitFor();
        assert.ok(!page.url().includes("token"), page.url());
        for (const path of ["frames", "connections", "packets"]) {
            await visit(page, path);
            await page.locator("main .card, main .list").first().waitFor();
        }
        await page.reload();
        await page.getByText("Live", { exact: true }).waitFor();
    });

    it("is asked for the token without one", async (test) => {
        const server = await sample(test, { token: true });
        const page = await open(test, browser, new URL("/", server.url), { forgive: /401/ });
        await page.getByRole("heading", { name: "This dashboard wants its token" }).waitFor();
        await page.getByLabel("Token").fill("0".repeat(64));
        await page.getByRole("button", { name: "Open" }).click();
        await page.getByLabel("Token").fill(server.url.searchParams.get("token"));
        await page.getByRole("button", { name: "Open" }).click();
        await page.getByText("Live", { exact: true }).waitFor();
    });

    it("is asked for the token when it changed", async (test) => {
        const server = await sample(test, { token: true });
        const page = await open(test, browser, server.url, { forgive: new RegExp(`${AWAY.source}|401`) });
        await page.getByText("Live", { exact: true }).waitFor();
        await server.stop();
        const next = await sample(test, { token: true, address: server.url.host });
        await page.getByRole("heading", { name: "This dashboard wants its token" }).waitFor();
        await page.getByLabel("Token").fill(next.url.searchParams.get("token"));
        await page.getByRole("button", { name: "Open" }).click();
        await page.getByText("Live", { exact: true }).waitFor();
    });
});

describe("the content security policy", () => {
    it("is on every answer, and nothing in the page needs more", async (test) => {
        const server = await sample(test);
        for (const path of ["/", "/app.js", "/app.css", "/icon.svg", "/inter-latin-wght-normal.woff2", "/api/v1/overview", "/no-such-thing"]) {
            const { headers } = await ask(server, path);
            assert.match(headers["content-security-policy"] ?? "", /default-src 'self'/, path);
            assert.ok(!/unsafe/.test(headers["content-security-policy"]), path);
            assert.equal(headers["x-content-type-options"], "nosniff", path);
        }
        const page = await open(test, browser, server.url, { forgive: /Executing inline script|script-src-elem inline/ });
        assert.equal(await page.locator("script:not([src]), style").count(), 0);
        // And it is in force: what it forbids does not run.
        const ran = await page.evaluate(() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.head.append(script);
            return window.ran === true;
        });
        assert.equal(ran, false);
    });
});
