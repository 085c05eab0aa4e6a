// Every page, against figures like those of a busy stack.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { NARROW, WIDE, api, launch, open, sample, until, visit } from "./harness.mjs";

const PAGES = [
    "overview", "topology", "connections", "connections/103", "packets", "drops", "actors", "actors/103", "tree", "queues",
    "frames", "recorder",
];

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

describe("every page", () => {
    for (const [size, viewport] of Object.entries({ wide: WIDE, narrow: NARROW })) {
        for (const colorScheme of ["light", "dark"]) {
            it(`is whole on a ${size} screen in ${colorScheme} colours`, async (test) => {
                const server = await sample(test);
                const page = await open(test, browser, server.url, { viewport, colorScheme });
                assert.equal(await page.locator("html").getAttribute("data-theme"), colorScheme);
                for (const path of PAGES) {
                    await visit(page, path);
                    // Something to read, and nothing still awaited.
                    await page.locator("main .card, main .figures, main .list").first().waitFor();
                    await page.locator("main .empty.quiet").waitFor({ state: "detached" });
                    const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
                    assert.ok(over <= 0, `${path} is ${over} pixels too wide`);
                    // Nor does anything in it scroll sideways.
                    const sideways = await page.evaluate(() => [...document.querySelectorAll("main *")]
                        .filter((box) => box.scrollWidth > box.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(box).overflowX))
                        .map((box) => String(box.className)));
                    assert.deepEqual(sideways, [], path);
                    assert.equal(await page.getByText(/NaN|undefined|Infinity|\[object/).count(), 0, path);
                }
            });
        }
    }
});

describe("the five questions", () => {
    it("are answered on the first page", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url);
        const answer = (question) => page.locator(".question", { hasText: question });
        await answer("Which path is my traffic on?").getByText("AF_XDP (driver mode, copy) on eth0").waitFor();
        await answer("Where do packets wait?").getByText(/(Receiving|Sending), .+: [\d.]+ (ns|µs|ms)/).waitFor();
        await answer("Why is my connection slow?").getByText(/held back/).first().waitFor();
        await answer("Who holds the frames?").getByText("Connection 103: 200").waitFor();
        await answer("What was dropped?").getByText(/in all, .+ now/).waitFor();
    });
});

describe("a packet's journey", () => {
    for (const direction of ["rx", "tx"]) {
        it(`sums hop by hop to its total (${direction})`, async (test) => {
            const server = await sample(test);
            const page = await open(test, browser, server.url);
            await visit(page, "packets");
            await page.locator(".switch", { hasText: "Received" }).getByText(direction === "rx" ? "Received" : "Sent").click();
            const row = page.locator("[data-journey]", { hasText: direction === "rx" ? "delivered" : "sent" }).first();
            await row.waitFor();
            await row.locator("a").first().click();
            const fall = page.locator("[data-waterfall]");
            await fall.waitFor();
            const id = await fall.getAttribute("data-waterfall");
            const shown = await fall.evaluate((element) => ({
                hops: [...element.querySelectorAll("[data-hop]")].map((hop) => ({
                    stage: hop.dataset.hop, wait_ns: Number(hop.querySelector("[data-wait]").dataset.wait),
                    run_ns: Number(hop.querySelector("[data-run]").dataset.run),
                })),
                total: Number(element.querySelector("[data-total]").dataset.total),
                sum: Number(element.querySelector("[data-sum]").dataset.sum),
                books: element.querySelector(".books").textContent,
            }));
            assert.equal(shown.hops.reduce((sum, hop) => sum + hop.wait_ns + hop.run_ns, 0), shown.total);
            assert.equal(shown.sum, shown.total);
            assert.ok(!/≠/.test(shown.books));
            const truth = await api(server, `traces/${id}`);
            assert.equal(truth.total_ns, shown.total);
            assert.deepEqual(truth.hops.map(({ stage, wait_ns, run_ns }) => ({ stage, wait_ns, run_ns })), shown.hops);
        });
    }

    it("is grouped with those that went the same way", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url);
        await visit(page, "packets");
        const group = page.locator(".groups tbody tr", { hasText: /device.*demux.*connection.*QUIC.*stream/ });
        await group.getByRole("button", { name: "Stages" }).click();
        await page.locator(".way-table th", { hasText: "demux" }).waitFor();
        await until(async () => (await page.locator("[data-journey]", { hasText: "received" }).count()) > 0 && (await page.locator("[data-journey] td:nth-child(2)", { hasText: "sent" }).count()) === 0);
    });

    it("is followed by the filter that was armed", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url);
        await visit(page, "packets?address=10.77.0.2");
        assert.equal(await page.getByLabel("Address").inputValue(), "10.77.0.2");
        await page.getByRole("button", { name: "Arm", exact: true }).click();
        await page.getByText("Following to or from 10.77.0.2").waitFor();
        assert.equal((await api(server, "traces")).armed.filter.address, "10.77.0.2");
        await page.getByRole("button", { name: "Disarm" }).click();
        await page.getByText(/^Following 1 in 1,024/).waitFor();
        assert.equal((await api(server, "traces")).armed.filter, null);
    });
});

describe("a delayed connection", () => {
    it("heats its edge, is drawn as the cause, and is told first", async (test) => {
        // In this second of the sample's minute a connection is slow.
        const server = await sample(test, { second: 22 });
        const page = await open(test, browser, server.url);
        const lint = page.locator('.lint[data-kind="mailbox_jam"], .lint[data-kind="slow_actor"]').first();
        await lint.waitFor();
        assert.match(await lint.textContent(), /connection 103/i);
        await lint.getByText("Show the actor", { exact: true }).click();
        await page.getByRole("heading", { name: "Connection 103" }).waitFor();
        await visit(page, "topology");
        await page.locator('[data-state="cause"]').waitFor();
        assert.equal(await page.locator('[data-state="cause"]').getAttribute("data-node"), "actor:103");
        assert.equal(await page.locator('[data-state="cause"]').count(), 1);
        const heat = async (edge) => Number(await page.locator(edge).first().getAttribute("data-heat"));
        const hot = await heat('[data-edge^="rx:"][data-edge$=">actor:103"]');
        const cool = await heat('[data-edge^="rx:"][data-edge$=">actor:100"]');
        assert.ok(hot > cool, `the delayed connection's edge has a heat of ${hot}, another's ${cool}`);
        assert.ok(hot >= 0.6, `${hot}`);
    });
});

describe("a killed listener", () => {
    it("shows why it ended and who took its place", async (test) => {
        const server = await sample(test);
        // The browser says of itself that the dead actor was not found.
        const page = await open(test, browser, server.url, { forgive: /404/ });
        await visit(page, "tree");
        const end = page.locator('[data-ended="8"]');
        await end.getByText("Listener 0.0.0.0:4433").waitFor();
        assert.match(await end.textContent(), /failed.*panicked or was killed/);
        await page.locator('[data-tree="9"]').getByText("1 restart").waitFor();
        await end.getByText("actor 9").click();
        await page.getByRole("heading", { name: "Listener 0.0.0.0:4433" }).waitFor();
        await page.locator('[data-ended="8"]').waitFor();
        // Whoever asks for the dead one learns of its end.
        await visit(page, "actors/8");
        await page.getByText("It lives no more.").waitFor();
        await page.getByText("Restarted as").waitFor();
    });
});

describe("held frames", () => {
    it("name their holder, and the sum is the capacity", async (test) => {
        const server = await sample(test, { second: 45 });
        const page = await open(test, browser, server.url);
        await visit(page, "frames");
        const holder = page.locator('[data-holder="connection 103"]');
        await holder.waitFor();
        assert.match(await holder.textContent(), /Connection 103\s*4,900/);
        await page.locator(".books").getByText("16,384 there are").waitFor();
        assert.ok(!/≠/.test(await page.locator(".books").textContent()));
        await page.locator("section", { has: page.getByRole("heading", { name: /May be lost/ }) }).getByRole("cell", { name: "77" }).last().waitFor();
        await holder.getByRole("link").click();
        await page.getByRole("heading", { name: "Connection 103" }).waitFor();
    });
});

describe("drops", () => {
    it("are told by layer and cause, and the sum is the total", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url);
        await visit(page, "drops");
        const cause = page.locator('[data-cause="socket_unmatched_dropped"]');
        await cause.waitFor();
        assert.ok((await cause.locator(".drop-words p").textContent()).length > 10, "a cause says what it means");
        const drops = await api(server, "drops");
        assert.equal(drops.rows.reduce((sum, row) => sum + row.count, 0), drops.total);
        await cause.getByText("Follow such packets").click();
        await page.getByLabel("Ends as").waitFor();
        assert.equal(await page.getByLabel("Ends as").inputValue(), "socket_unmatched_dropped");
    });
});

describe("a datagram lost between two actors", () => {
    it("turns the books red at its hop", async (test) => {
        const server = await sample(test, { lose: 3 });
        const page = await open(test, browser, server.url);
        const lint = page.locator('.lint[data-kind="not_conserved"]');
        await lint.waitFor();
        assert.match(await lint.textContent(), /3 datagrams were handed on \(demux, listener → listener, connection\)/);
        assert.equal(await page.locator("table[data-conserved]").getAttribute("data-conserved"), "false");
        const missing = (hop) => page.locator(`[data-hop="${hop}"] td`).nth(0).textContent();
        assert.equal(await missing("demux, listener → listener, connection"), "3");
        assert.equal(await missing("device → demux"), "0");
        assert.equal((await api(server, "overview")).conserved, false);
    });

    it("is not there when all arrives", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url);
        await page.getByText("The books balance: every datagram and message is accounted for.").waitFor();
        assert.equal(await page.locator('.lint[data-kind="not_conserved"]').count(), 0);
    });
});

describe("a connection", () => {
    it("tells what holds it back, and each stream what it waits for", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url);
        await visit(page, "connections/101");
        await page.locator(".verdict strong", { hasText: /peer's flow control stops it/ }).waitFor();
        await page.locator('.causes [data-cause="flow_control"]', { hasText: /9\d %/ }).waitFor();
        const waits = (id) => page.locator(`[data-stream="${id}"]`).getAttribute("data-waits");
        await page.locator("[data-stream]").first().waitFor();
        assert.deepEqual([await waits(4), await waits(3)], ["stream_flow_control", "reader"]);
        const row = (await api(server, "connections/101")).streams.rows.find(({ id }) => id === "4");
        assert.equal(row.written_bytes, row.acked_bytes + row.buffered_bytes);
        assert.equal(row.sent_bytes, row.limit_bytes);
    });

    it("tells of all its paths", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url);
        await visit(page, "connections/104");
        const path = page.locator("[data-path]");
        await path.nth(1).waitFor();
        assert.match(await path.nth(0).textContent(), /in use.*proven/);
        assert.match(await path.nth(1).textContent(), /not proven yet.*being tested/);
    });
});

describe("what watching takes", () => {
    it("is fixed, part by part", async (test) => {
        const server = await sample(test, { connections: 3000 });
        const page = await open(test, browser, server.url);
        await page.locator('[data-memory="figures"]', { hasText: /MiB/ }).waitFor();
        const { tracing } = await api(server, "overview");
        assert.equal(tracing.memory_limit_bytes, 32 * 2 ** 20);
        assert.equal(tracing.memory.reduce((sum, { limit_bytes }) => sum + limit_bytes, 0), 32 * 2 ** 20);
        for (const { name, bytes, limit_bytes } of tracing.memory) assert.ok(bytes <= limit_bytes, name);
        // Who is looked at has a timeline, behind thousands of others.
        await visit(page, "connections/3050");
        await page.getByText("Window and in flight").waitFor();
    });
});

describe("20,000 actors", () => {
    for (const [size, viewport] of Object.entries({ wide: WIDE, narrow: NARROW })) {
        it(`filter and scroll (${size})`, async (test) => {
            const server = await sample(test, { connections: 20_000 });
            const page = await open(test, browser, server.url, { viewport });
            await visit(page, "actors");
            const box = page.getByRole("table", { name: "actors" });
            await page.getByText(/^20,0\d\d actors$/).waitFor();
            const rows = box.locator(".row[data-id]");
            const { total } = await api(server, "actors?limit=1");
            const seen = () => rows.evaluateAll((all) => all.map((row) => Number(row.getAttribute("aria-rowindex"))));
            // To the end, in leaps: only what is in sight is ever there.
            for (const share of [0.25, 0.5, 0.75, 1]) {
                await box.evaluate((element, to) => (element.scrollTop = (element.scrollHeight - element.clientHeight) * to), share);
                // The head is the first row.
                const wanted = share === 1 ? total + 1 : Math.round(total * share);
                await until(async () => (await seen()).includes(wanted));
                assert.ok((await rows.count()) < 80, `${await rows.count()} rows are in the page`);
            }
            const match = await api(server, "actors?filter=10117&limit=10");
            assert.ok(match.total >= 1);
            await page.locator("#filter").fill("10117");
            await page.getByText(new RegExp(`^${match.total} of 20,0\\d\\d actors$`)).waitFor();
            await box.locator('.row[data-id="10117"]').click();
            await page.getByRole("heading", { name: "Connection 10117" }).waitFor();
        });
    }

    it("are sorted by the server", async (test) => {
        const server = await sample(test, { connections: 20_000 });
        const page = await open(test, browser, server.url);
        await visit(page, "actors");
        const box = page.getByRole("table", { name: "actors" });
        await box.getByRole("button", { name: "Messages" }).click();
        const first = (await api(server, "actors?sort=messages_per_s&desc=true&limit=1")).rows[0].id;
        await until(async () => (await box.locator('.row[aria-rowindex="2"]').getAttribute("data-id")) === first);
        assert.equal(await box.getByRole("columnheader", { name: "Messages" }).getAttribute("aria-sort"), "descending");
    });
});

describe("the keyboard", () => {
    it("does all that the mouse does", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url);
        await page.keyboard.press("Tab");
        assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the page");
        await page.keyboard.press("2");
        await page.getByRole("heading", { name: "Topology" }).waitFor();
        await page.keyboard.press("6");
        await page.getByRole("heading", { name: "Actors" }).waitFor();
        await page.locator(".row[data-id]").first().waitFor();
        await page.keyboard.press("/");
        await page.keyboard.type("listener");
        await page.getByText(/^1 of .* actors$/).waitFor();
        await page.keyboard.press("Escape");
        await page.getByRole("table", { name: "actors" }).focus();
        await page.keyboard.press("ArrowDown");
        await page.keyboard.press("Enter");
        await page.getByRole("heading", { name: "Listener 0.0.0.0:4433" }).waitFor();
        await page.keyboard.press("t");
        assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
        await page.keyboard.press("7");
        await page.locator('[role="treeitem"]').first().focus();
        await page.keyboard.press("ArrowDown");
        assert.equal(await page.evaluate(() => document.activeElement.getAttribute("role")), "treeitem");
        await page.keyboard.press("?");
        await page.getByRole("dialog").waitFor();
        await page.keyboard.press("Escape");
        await page.getByRole("dialog").waitFor({ state: "detached" });
    });
});
