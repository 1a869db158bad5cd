#!/usr/bin/env node
// look.mjs - what a browser makes of a page
//
//     node look.mjs PAGE DIRECTORY
//
// Opens the file PAGE as on a desktop, on a phone, and both in the dark; makes
// desktop.png, phone.png, dark.png and phone-dark.png of it in DIRECTORY; and
// prints as JSON what it saw: by view what is wider than the page, which text
// and which colours have too little contrast, and once what the page consists
// of, what it asked for, and what the console said.  The page's own policy is
// switched off, so that a script that gets into the page would run.

import { writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Chromium } from "./chromium.mjs";

const views = {
  desktop: { width: 1280, height: 900, mobile: false, scheme: "light" },
  phone: { width: 390, height: 844, mobile: true, scheme: "light" },
  dark: { width: 1280, height: 900, mobile: false, scheme: "dark" },
  "phone-dark": { width: 390, height: 844, mobile: true, scheme: "dark" },
};

// ---- what is asked of the page; these run in it ----

function layout() {
  const describe = (e) => `${e.tagName} ${e.id || e.getAttribute("class") || ""} ${e.textContent.slice(0, 60)}`.trim();
  const width = document.documentElement.clientWidth;
  // what is inside of something that scrolls by itself cannot make the page wider
  const wide = [...document.body.querySelectorAll("*")].filter((e) => !e.closest(".scroll") && e.getBoundingClientRect().right > width + 0.5).map(describe);
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = (color) => channels(color).slice(0, 3).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (a, b) => (Math.max(luminance(a), luminance(b)) + 0.05) / (Math.min(luminance(a), luminance(b)) + 0.05);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if ((channels(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  let lowest = Infinity;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || e.closest("title, desc, style")) continue;
    const ratio = contrast(getComputedStyle(e)[e instanceof SVGElement ? "fill" : "color"], behind(e));
    lowest = Math.min(lowest, ratio);
    if (ratio < 4.5) faint.push(`${describe(e)}: ${ratio.toFixed(2)}`);
  }
  // parts of charts, against the card that they are on
  for (const e of document.querySelectorAll("rect:not(.range)")) {
    const ratio = contrast(getComputedStyle(e).fill, behind(e.closest("section")));
    if (ratio < 3) faint.push(`${e.getAttribute("class")}: ${ratio.toFixed(2)}`);
  }
  const small = [...document.querySelectorAll("summary")].filter((e) => e.getBoundingClientRect().height < 20).map(describe);
  return { pageWidth: document.documentElement.scrollWidth, width, wide, lowestContrast: lowest, faint, small };
}

function contents() {
  const text = (e) => e.innerText.trim();
  const elements = {};
  const attributes = {};
  for (const e of document.querySelectorAll("*")) {
    elements[e.localName] = (elements[e.localName] ?? 0) + 1;
    for (const a of e.attributes) attributes[a.name] = (attributes[a.name] ?? 0) + 1;
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  const referred = [...document.querySelectorAll("[aria-labelledby], [aria-describedby]")]
    .flatMap((e) => [e.getAttribute("aria-labelledby"), e.getAttribute("aria-describedby")]).filter(Boolean);
  return {
    title: document.title,
    lang: document.documentElement.lang,
    charset: document.characterSet,
    mode: document.compatMode,
    hacked: window.hacked ?? null,
    elements,
    attributes,
    doubleIds: ids.filter((id, i) => ids.indexOf(id) !== i),
    missingIds: referred.filter((id) => !ids.includes(id)),
    unnamed: [...document.querySelectorAll('svg[role="img"]')].filter((e) => !e.querySelector(":scope > title")?.textContent.trim()).length,
    headings: [...document.querySelectorAll("h1, h2, h3")].map((e) => `${e.localName} ${text(e)}`),
    header: text(document.querySelector("header")),
    tiles: Object.fromEntries([...document.querySelectorAll(".tiles > div")].map((e) => [e.id, [...e.querySelectorAll("dd")].map(text)])),
    // the numbers as they are in the document, not as they are laid out
    tables: Object.fromEntries([...document.querySelectorAll("table")].map((t) => [t.id,
      [...t.querySelectorAll("tbody tr, tfoot tr")].map((r) => [...r.cells].map((c) => c.textContent.trim()))])),
    names: [...document.querySelectorAll(".campaigns .name")].map((e) => e.textContent),
    bars: Object.fromEntries([...document.querySelectorAll("svg.plot")].map((e) => [e.querySelector("title").id, [...e.querySelectorAll("g > title")].map((t) => t.textContent)])),
    breakdowns: [...document.querySelectorAll("svg.breakdown > title")].map((e) => e.textContent),
    widths: [...document.querySelectorAll("svg.breakdown")].map((e) => [...e.querySelectorAll("rect")].map((r) => [r.getAttribute("class"), parseFloat(r.getAttribute("width"))])),
  };
}

// ----

const [page, directory] = process.argv.slice(2);
if (!directory) {
  console.error("usage: look.mjs PAGE DIRECTORY");
  process.exit(2);
}
const url = pathToFileURL(resolve(page)).href;
const seen = { console: [], requests: [], views: {} };
const browser = await Chromium.start(process.env.CHROMIUM);
try {
  const tab = await browser.tab();
  const run = async (f) => {
    const { result, exceptionDetails } = await tab.send("Runtime.evaluate", { expression: `(${f})()`, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  };
  tab.on("Runtime.consoleAPICalled", (m) => seen.console.push(`${m.type} ${m.args.map((a) => a.value).join(" ")}`));
  tab.on("Runtime.exceptionThrown", (m) => seen.console.push(m.exceptionDetails.text));
  tab.on("Log.entryAdded", (m) => seen.console.push(`${m.entry.level} ${m.entry.text}`));
  tab.on("Network.requestWillBeSent", (m) => m.request.url !== url && seen.requests.push(m.request.url));
  for (const domain of ["Runtime", "Log", "Network", "Page"]) await tab.send(`${domain}.enable`);

  // first as it is, then without its policy
  for (const [name, view] of Object.entries({ "": views.desktop, ...views })) {
    if (name === "desktop") await tab.send("Page.setBypassCSP", { enabled: true });
    await tab.send("Emulation.setDeviceMetricsOverride", { width: view.width, height: view.height, deviceScaleFactor: 1, mobile: view.mobile });
    await tab.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: view.scheme }] });
    const loaded = new Promise((resolve) => tab.on("Page.loadEventFired", resolve));
    await tab.send("Page.navigate", { url });
    await loaded;
    if (name === "") continue;
    const { data } = await tab.send("Page.captureScreenshot", { format: "png", captureBeyondViewport: true });
    await writeFile(join(directory, `${name}.png`), data, "base64");
    await run("() => document.querySelectorAll('details').forEach((e) => { e.open = true; })");
    seen.views[name] = await run(layout);
    seen.contents ??= await run(contents);
  }
} finally {
  await browser.stop();
}
console.log(JSON.stringify(seen));
