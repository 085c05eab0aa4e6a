// The page before the real thing: a server and a client busy over AF_XDP, each on a host of its own.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { api, demo, launch, open, until, visit } from "./harness.mjs";

let browser;
let server;
before(async () => [browser, server] = [await launch(), await demo(["--lay-open"])]);
after(async () => {
    await browser.close();
    await server.stop?.();
});

/** A test of the demo; where it can't run on AF_XDP it is skipped by its name, with the reason. */
const live = (name, check) => it(name, async (test) => (server.lack ? test.skip(server.lack) : check(test)));

const duration = (hops) => hops.reduce((total, hop) => total + hop.wait_ns + hop.run_ns, 0);

describe("a stack on AF_XDP", () => {
    live("says that it is, and moves", async (test) => {
        const page = await open(test, browser, server.url);
        // Which path is my traffic on?
        const path = page.locator(".question.wide");
        await path.getByText(/AF_XDP \(driver mode, copy\) on wp-server/).waitFor();
        await path.getByText("driver mode", { exact: true }).waitFor();
        const arrived = page.locator('[data-hop="device → demux"] td').nth(2);
        const first = await arrived.textContent();
        await until(async () => (await arrived.textContent()) !== first);
    });

    live("has books that balance at every hop while packets move", async (test) => {
        const page = await open(test, browser, server.url);
        await until(async () => (await api(server, "overview")).books.every((hop) => hop.sent > 0));
        for (let reading = 0; reading < 8; reading++) {
            const { books, conserved } = await api(server, "overview");
            assert.equal(books.length, 9);
            for (const hop of books) {
                assert.equal(hop.unaccounted, 0, JSON.stringify(hop));
                assert.equal(hop.sent, hop.received + hop.queued + hop.dropped + hop.moving + hop.unaccounted, hop.hop);
            }
            assert.ok(conserved);
            const { rows } = await api(server, "actors?limit=1000");
            for (const row of rows) assert.equal(row.sent, row.handled + row.dropped + row.queued + row.unaccounted, JSON.stringify(row));
            await new Promise((resolve) => setTimeout(resolve, 250));
        }
        await page.getByText("The books balance: every datagram and message is accounted for.").waitFor();
        assert.equal(await page.locator("table[data-conserved]").getAttribute("data-conserved"), "true");
    });

    live("follows datagrams in and out, and their hops sum to their totals", async (test) => {
        const page = await open(test, browser, server.url);
        const IN = "device > demux > connection > quic > stream";
        const OUT = "connection > device > ring > kernel";
        await until(async () => {
            const { groups } = await api(server, "traces");
            return [IN, OUT].every((way) => groups.some(({ path }) => path.endsWith(way)));
        });
        const { groups, journeys } = await api(server, "traces?limit=1000");
        for (const way of ["rx", "tx"]) {
            const some = journeys.filter((journey) => journey.direction === way);
            assert.ok(some.length, way);
            for (const journey of some) assert.equal(duration(journey.hops), journey.total_ns, JSON.stringify(journey));
        }
        for (const group of groups) assert.deepEqual(group.path.split(" > ").sort(), group.stages.map(({ stage }) => stage).sort());
        await visit(page, "packets");
        await page.locator(".groups tbody tr", { hasText: /device.*demux.*connection.*QUIC.*stream/ }).first().waitFor();
        await page.locator("[data-journey]").first().waitFor();
    });

    live("knows where every frame is, and with whom", async (test) => {
        const page = await open(test, browser, server.url);
        const sum = (list) => list.reduce((n, one) => n + one.frames, 0);
        for (const umem of (await api(server, "frames")).umems) {
            assert.ok(umem.balanced && sum(umem.places) === umem.capacity, JSON.stringify(umem));
            assert.equal(sum(umem.holders), sum(umem.places.filter(({ place }) => !["free", "quarantined"].includes(place))));
            assert.ok(umem.holders.every((one) => one.oldest_age_ns !== null));
            assert.deepEqual(umem.suspects, [], "none is lost");
        }
        await visit(page, "frames");
        await page.locator('[data-holder="kernel, to receive into"]').waitFor();
    });

    live("names what it drops, and misses nothing by that", async (test) => {
        const page = await open(test, browser, server.url);
        await visit(page, "drops");
        const drops = async () => (await api(server, "drops")).rows.filter((row) => row.layer === "demux");
        const before = (await drops()).reduce((n, row) => n + row.count, 0);
        // From the client's host, past its stack: a datagram of no connection.
        server.enter("client", "echo stray > /dev/udp/10.77.0.1/4433");
        await until(async () => (await drops()).reduce((n, row) => n + row.count, 0) > before);
        const [row] = await drops();
        const cause = page.locator(`[data-cause="${row.cause}"]`);
        await cause.waitFor();
        assert.ok((await cause.locator(".drop-words p").textContent()).length > 10);
        const { conserved, books } = await api(server, "overview");
        assert.ok(conserved, JSON.stringify(books));
    });

    live("hands out a connection's qlog", async (test) => {
        const page = await open(test, browser, server.url);
        const [{ id }] = (await api(server, "connections?sort=age_ns&desc=true")).rows;
        await visit(page, `connections/${id}`);
        const [log] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "qlog" }).click()]);
        assert.match(log.suggestedFilename(), /\.sqlog$/);
        const records = (await readFile(await log.path(), "utf8")).split("\u001e").filter(Boolean).map((record) => JSON.parse(record));
        assert.equal(records[0].qlog_format, "JSON-SEQ");
        assert.ok(records.some(({ name }) => name === "transport:packet_sent"));
    });
});
