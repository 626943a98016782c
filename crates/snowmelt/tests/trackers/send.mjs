// Sends three events with the real Node tracker, and prints their ids, one a line.
//
// Arguments: URL of the collector, get or post, application id, folder with node_modules.

import { createRequire } from "node:module";

const [url, method, appId, folder] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const { buildPageView, buildSelfDescribingEvent, buildStructEvent, newTracker } = require("@snowplow/node-tracker");

const refused = [];
const tracker = newTracker(
  { namespace: "node-shop", appId, encodeBase64: method === "post" },
  {
    endpoint: url,
    eventMethod: method,
    bufferSize: 3,
    connectionTimeout: 10000,
    // Asked again, a refused event would keep the tracker alive for ever.
    retryFailedRequests: false,
    onRequestFailure: (failure) => refused.push(failure),
  },
);
tracker.setPlatform("web");
tracker.setUserId("anna");
tracker.setLang("de-DE");
tracker.setTimezone("Europe/Vienna");
tracker.setScreenResolution("1920", "1080");
tracker.setViewport("1440", "900");
tracker.setColorDepth("24");

const webPage = {
  schema: "iglu:com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0",
  data: { id: "8b3d0a1e-6c5f-4e0b-9a57-0d7f2c9b1a44" },
};
const linkClick = {
  schema: "iglu:com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1",
  data: { targetUrl: "https://shop.example.test/größen?a=1&b=2", elementId: "sizes" },
};
const events = [
  [
    buildPageView({
      pageUrl: "https://shop.example.test/kettles/42?utm_source=letter&b=%C3%A4#details",
      pageTitle: "Blue kettle – 20 % off",
      referrer: "https://www.example.org/search?q=kettle",
    }),
    [webPage],
  ],
  [buildStructEvent({ category: "shop", action: "add-to-basket", label: "kettle", property: "blue", value: 19.99 })],
  [buildSelfDescribingEvent({ event: linkClick }), [webPage]],
];
for (const [event, entities] of events) {
  console.log(tracker.track(event, entities).eid);
}
await tracker.flush();
if (refused.length > 0) {
  console.error(refused);
  process.exit(1);
}
