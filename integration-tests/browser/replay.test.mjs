// A recording is made, and looked at in the same pages.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { api, launch, open, sample, visit } from "./harness.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

describe("the flight recorder", () => {
    it("records, and shows it in the same pages", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url);
        await visit(page, "recorder");
        await page.getByLabel("Name").fill("what was it");
        await page.getByLabel("Seconds").fill("2");
        await page.getByRole("button", { name: "Record", exact: true }).click();
        const recording = page.locator("[data-recording]", { hasText: "what was it" });
        await recording.getByText("recording", { exact: true }).waitFor();
        await page.locator('[data-recording][data-state="done"]', { hasText: "what was it" }).waitFor();
        const id = await recording.getAttribute("data-recording");
        const row = (await api(server, "recordings")).rows.find((one) => one.id === id);
        assert.ok(row.readings >= 2, `${row.readings} readings`);

        const asked = [];
        page.on("request", (request) => request.url().includes("/api/") && asked.push(new URL(request.url())));
        await recording.getByRole("link", { name: "Open" }).click();
        await page.getByRole("region", { name: "Recording" }).getByText("what was it").waitFor();
        await page.getByText("From a recording").waitFor();
        for (const path of ["topology", "actors", "tree", "queues", "frames", "packets", "connections", "connections/103", "actors/103", "drops"]) {
            await visit(page, `${path}?source=${id}`);
            await page.locator("main .card, main .list").first().waitFor();
            await page.locator("main .empty.quiet").waitFor({ state: "detached" });
            // By way of the navigation the recording stays.
            assert.match(await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Drops" }).getAttribute("href"), new RegExp(`source=${id}`));
        }
        const figures = asked.filter((url) => !url.pathname.endsWith("/recordings"));
        assert.ok(figures.length > 8);
        assert.deepEqual(figures.filter((url) => url.searchParams.get("source") !== id).map(String), []);

        // Time goes back in it.
        await visit(page, `queues?source=${id}`);
        const hits = page.locator(".rules tbody tr").nth(1).locator("td").nth(2);
        const end = await hits.textContent();
        await page.getByLabel("Time in the recording").fill("0");
        await page.waitForFunction((old) => document.querySelectorAll(".rules tbody tr")[1]?.children[2].textContent !== old, end);
        assert.match(page.url(), /at=\d+/);

        await page.getByRole("link", { name: "Back to live" }).click();
        await page.getByText("Live", { exact: true }).waitFor();
    });

    it("gives its journeys as a file", async (test) => {
        const server = await sample(test);
        const page = await open(test, browser, server.url);
        await visit(page, "recorder");
        await page.getByLabel("Seconds").fill("60");
        await page.getByRole("button", { name: "Record", exact: true }).click();
        const recording = page.locator('[data-recording][data-state="recording"]').first();
        await recording.getByRole("button", { name: "Stop" }).click();
        const done = page.locator('[data-recording][data-state="done"]').first();
        const [file] = await Promise.all([page.waitForEvent("download"), done.getByRole("button", { name: ".trace" }).click()]);
        const { journeys, readings } = JSON.parse(await readFile(await file.path(), "utf8"));
        assert.ok(readings.length > 0 && Array.isArray(journeys));

        // Another server, and another day: the file is looked at in the same pages.
        const other = await sample(test);
        const there = await open(test, browser, other.url);
        await visit(there, "recorder");
        await there.getByLabel("Or open a recording's file").setInputFiles(await file.path());
        await there.getByText("From a recording").waitFor();
        await there.getByRole("region", { name: "Recording" }).waitFor();
        await visit(there, `frames?source=${(await api(other, "recordings")).rows[0].id}`);
        await there.locator('[data-holder="connection 103"]').waitFor();
    });
});
