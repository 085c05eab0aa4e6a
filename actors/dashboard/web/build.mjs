// Bundles the page into ../web/dist, which is committed: building the crate needs no Node.
// `--check` builds elsewhere and compares instead.
import { build } from "esbuild";
import { gzipSync } from "node:zlib";
import { cpSync, mkdtempSync, readFileSync, readdirSync, rmSync, mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** All files together, gzipped: what a first visit costs. */
const LIMIT_BYTES = 150 * 1024;

const here = dirname(fileURLToPath(import.meta.url));
const committed = join(here, "dist");
const check = process.argv.includes("--check");
const out = check ? mkdtempSync(join(tmpdir(), "wirepath-web-")) : committed;

if (!check) rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
await build({
    absWorkingDir: here,
    entryPoints: { app: "src/main.tsx" },
    outdir: out,
    bundle: true,
    minify: true,
    format: "esm",
    target: ["es2022", "chrome109", "firefox115", "safari16"],
    jsx: "automatic",
    jsxImportSource: "preact",
    loader: { ".woff2": "file" },
    assetNames: "[name]",
    legalComments: "none",
    logLevel: "warning",
});
for (const file of ["index.html", "icon.svg"]) cpSync(join(here, "src", file), join(out, file));
writeFileSync(join(out, "licenses.txt"), licences());

const files = readdirSync(out).sort();
let total = 0;
for (const file of files) {
    const size = gzipSync(readFileSync(join(out, file)), { level: 9 }).length;
    total += size;
    console.log(`${file.padEnd(36)} ${(size / 1024).toFixed(1).padStart(6)} KiB gzipped`);
}
console.log(`${"all".padEnd(36)} ${(total / 1024).toFixed(1).padStart(6)} KiB of ${LIMIT_BYTES / 1024}`);
let bad = total > LIMIT_BYTES ? ["larger than allowed"] : [];

if (check) {
    const old = readdirSync(committed).sort();
    if (old.join() !== files.join()) bad.push(`dist/ holds ${old.join(", ")}, the sources make ${files.join(", ")}`);
    for (const file of files.filter((file) => old.includes(file))) {
        if (!readFileSync(join(out, file)).equals(readFileSync(join(committed, file)))) bad.push(`dist/${file} is not what the sources make`);
    }
    rmSync(out, { recursive: true });
    console.log(bad.length ? "run `make web` and commit dist/" : "dist/ is what the sources make");
}
bad.forEach((line) => console.error(line));
process.exit(bad.length ? 1 : 0);

/** What the licences of the bundled packages ask to be said. */
function licences() {
    return ["preact", "uplot", "@fontsource-variable/inter"]
        .map((name) => {
            const at = join(here, "node_modules", name);
            const { version, license } = JSON.parse(readFileSync(join(at, "package.json"), "utf8"));
            return `${name} ${version} (${license})\n\n${readFileSync(join(at, "LICENSE"), "utf8").trim()}\n`;
        })
        .join(`\n${"-".repeat(80)}\n\n`);
}
