// Drives Chromium: the browser tracker on a page of one site sends to collectors of another and of its own. Every step
// ends when its events are stored, which the page's server says. Prints one JSON object a line: what the page and the
// browser have of cookies after a step.
//
// Arguments: folder with node_modules, Chromium's path, a folder for its profile, ports as JSON: page, plain, secure, own.

import { mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, executablePath, profile, ports] = process.argv.slice(2);
const { page: pagePort, plain: plainPort, secure: securePort, own: ownPort } = JSON.parse(ports);
const require = createRequire(`${folder}/`);
const { chromium } = require("playwright-core");

const shop = `http://www.shop.test:${pagePort}`;
const plain = `http://collector.test:${plainPort}`;
const secure = `https://collector.test:${securePort}`;
const own = `http://c.shop.test:${ownPort}`;

// A profile as a person has one, who lets other sites keep cookies: private windows do not, nor does Debian's Chromium
// unless it is told to.
mkdirSync(`${profile}/Default`, { recursive: true });
writeFileSync(`${profile}/Default/Preferences`, JSON.stringify({ profile: { cookie_controls_mode: 0 } }));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  ignoreHTTPSErrors: true,
  timeout: 60000,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
  ],
});
const page = await context.newPage();
page.setDefaultTimeout(60000);

/** Waits until so many events of a step are stored. */
async function stored(name, count) {
  const patience = Date.now() + 60000;
  for (;;) {
    const found = await (await fetch(`http://127.0.0.1:${pagePort}/stored/${name}`)).text();
    if (Number(found) >= count) return;
    if (Date.now() > patience) throw new Error(`${name}: ${found} of ${count} events are stored`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Two page views, the second once the first is answered. */
async function twoPageViews(name, collector, options) {
  await page.goto(`${shop}/?step=${name}`);
  await page.evaluate(
    async ([name, collector, options]) => {
      const { newTracker, trackPageView } = window.snowplowBrowserTracking;
      let answered;
      newTracker(name, collector, {
        appId: name,
        retryFailedRequests: false,
        onRequestSuccess: () => answered.resolve(),
        onRequestFailure: (failure) => answered.reject(new Error(JSON.stringify(failure))),
        ...options,
      });
      for (let view = 0; view < 2; view++) {
        answered = Promise.withResolvers();
        trackPageView({ title: `view ${view}` }, [name]);
        await answered.promise;
      }
    },
    [name, collector, options],
  );
  await stored(name, 2);
  await say(name, collector);
}

/** Leaves the page for another of the shop while `leave` runs in it; what it sends then must arrive. */
async function leaving(name, collector, leave) {
  await page.goto(`${shop}/?step=${name}`);
  await page.evaluate(leave, [name, collector]);
  await page.goto(`${shop}/?left=${name}`);
  await stored(name, 1);
  await say(name, collector);
}

async function say(name, collector) {
  const seen = await page.evaluate(() => document.cookie);
  const jar = await context.cookies(collector);
  console.log(JSON.stringify({ step: name, seen, jar }));
}

try {
  await twoPageViews("plain-post", plain, { eventMethod: "post" });
  await twoPageViews("plain-get", plain, { eventMethod: "get" });
  await twoPageViews("secure-post", secure, { eventMethod: "post" });
  await twoPageViews("secure-get", secure, { eventMethod: "get" });
  // As the tracker sends it with `keepalive`, and as its older versions do, with a beacon.
  await leaving("unload", secure, ([name, collector]) => {
    const { newTracker, trackPageView } = window.snowplowBrowserTracking;
    newTracker(name, collector, { appId: name, keepalive: true });
    addEventListener("pagehide", () => trackPageView({}, [name]));
  });
  await leaving("beacon", secure, ([name, collector]) => {
    const body = JSON.stringify({
      schema: "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
      data: [{ e: "pv", p: "web", aid: name, tv: "js-3" }],
    });
    addEventListener("pagehide", () => {
      const blob = new Blob([body], { type: "application/json" });
      navigator.sendBeacon(`${collector}/com.snowplowanalytics.snowplow/tp2`, blob);
    });
  });
  const anonymous = { anonymousTracking: { withServerAnonymisation: true } };
  await twoPageViews("anonymous-post", secure, { eventMethod: "post", ...anonymous });
  await twoPageViews("anonymous-get", secure, { eventMethod: "get", ...anonymous });
  await twoPageViews("own-post", own, { eventMethod: "post" });
  await twoPageViews("own-get", own, { eventMethod: "get" });
} finally {
  await context.close();
}
