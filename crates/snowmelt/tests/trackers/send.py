"""Sends three events with the real Python tracker, and prints their ids, one a line.

Arguments: URL of the collector, get or post, application id.
"""

import sys

from snowplow_tracker import Emitter, PageView, SelfDescribing, SelfDescribingJson, StructuredEvent, Subject, Tracker

url, method, app_id = sys.argv[1:]
refused = []
emitter = Emitter(
    url,
    method=method,
    batch_size=3,
    request_timeout=(10, 10),
    # Asked again, a refused event would keep the tracker alive for ever.
    custom_retry_codes={code: False for code in range(300, 600)},
    on_failure=lambda accepted, events: refused.extend(events),
)
subject = Subject()
subject.set_platform("web").set_user_id("anna").set_lang("de-DE").set_timezone("Europe/Vienna")
subject.set_screen_resolution(1920, 1080).set_viewport(1440, 900).set_color_depth(24)
tracker = Tracker("python-shop", emitter, subject=subject, app_id=app_id, encode_base64=method == "post")

web_page = SelfDescribingJson(
    "iglu:com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0",
    {"id": "8b3d0a1e-6c5f-4e0b-9a57-0d7f2c9b1a44"},
)
link_click = SelfDescribingJson(
    "iglu:com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1",
    {"targetUrl": "https://shop.example.test/größen?a=1&b=2", "elementId": "sizes"},
)
events = [
    PageView(
        page_url="https://shop.example.test/kettles/42?utm_source=letter&b=%C3%A4#details",
        page_title="Blue kettle – 20 % off",
        referrer="https://www.example.org/search?q=kettle",
        context=[web_page],
    ),
    StructuredEvent("shop", "add-to-basket", label="kettle", property_="blue", value=19.99),
    SelfDescribing(link_click, context=[web_page]),
]
for event in events:
    print(tracker.track(event))
tracker.flush()
if refused:
    sys.exit(f"{len(refused)} events were refused")
