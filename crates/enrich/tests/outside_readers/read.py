"""Reads what enrich makes, one JSON per line: bad rows against the published schemas in the folder that is named, and
lines of enriched events with Snowplow's analytics SDK. Prints what is wrong and ends with 1, or how much was read."""

import json
import pathlib
import sys

import jsonschema
import rfc3339_validator  # Without it no date would be looked at.
from snowplow_analytics_sdk.event_transformer import transform
from snowplow_analytics_sdk.snowplow_event_transformation_exception import (
    SnowplowEventTransformationException,
)

assert rfc3339_validator
PUBLISHED = pathlib.Path(sys.argv[1])

# Our form and that of the Python SDK, which is older than the one that the others share: it tells no versions, keeps
# `se_value` as text, has another name for a column, and no nulls.
OURS_ALONE = {"se_value"}
RENAMED = {"refr_device_tstamp": "refr_dvce_tstamp"}

validators = {}


def obeys(row):
    uri = row["schema"]
    if uri not in validators:
        schema = json.loads((PUBLISHED / uri.removeprefix("iglu:")).read_text())
        validators[uri] = jsonschema.Draft4Validator(
            schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER
        )
    return [f"{uri}: {error.message[:200]}" for error in validators[uri].iter_errors(row["data"])]


def plain(value):
    """Without versions, and instants without the fraction that we leave out."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items() if name != "_schema_version"}
    if isinstance(value, str) and value.endswith(".000Z"):
        return value[: -len(".000Z")] + "Z"
    return value


def is_event(line, flat):
    try:
        found = {RENAMED.get(name, name): value for name, value in transform(line).items()}
    except SnowplowEventTransformationException as error:
        return [f"{error.error_messages}: {line[:200]}"]
    ours = {name: value for name, value in flat.items() if value is not None}
    return [
        f"{name}: {found.get(name)!r}, and ours is {ours.get(name)!r}"
        for name in ours.keys() | found.keys()
        if name not in OURS_ALONE and plain(found.get(name)) != plain(ours.get(name))
    ]


wrong, rows, lines = [], 0, 0
for text in sys.stdin:
    item = json.loads(text)
    if "line" in item:
        lines += 1
        wrong += is_event(item["line"], item["flat"])
    else:
        rows += 1
        wrong += obeys(item)
if wrong:
    print("\n".join(wrong))
    sys.exit(1)
print(f"{rows} bad rows obey, {lines} lines are events")
