//! The list of the embedded schemas, one line for each file of `crates/enrich/schemas`, sorted by path. A test compares
//! it with the folder. To embed another schema: add the file, add the line, nothing else.

/// A file of the folder, under its place in a registry.
macro_rules! schema {
    ($path:literal) => {
        ($path, include_str!(concat!("../../schemas/", $path)))
    };
}

/// Place in a registry, content.
pub(super) const FILES: &[(&str, &str)] = &[
    schema!("com.snowplowanalytics.iglu/validation_info/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.mobile/application/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.mobile/screen/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.mobile/screen_end/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.mobile/screen_summary/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.mobile/screen_view/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/ad_click/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/ad_conversion/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/ad_impression/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/add_to_cart/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/application_error/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/application_error/jsonschema/1-0-1"),
    schema!("com.snowplowanalytics.snowplow/application_error/jsonschema/1-0-2"),
    schema!("com.snowplowanalytics.snowplow/browser_context/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/browser_context/jsonschema/2-0-0"),
    schema!("com.snowplowanalytics.snowplow/change_form/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-1"),
    schema!("com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2"),
    schema!("com.snowplowanalytics.snowplow/consent_document/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/consent_granted/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/consent_withdrawn/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1"),
    schema!("com.snowplowanalytics.snowplow/cross_navigation/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/duplicate/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/failure/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/focus_form/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/geolocation_context/jsonschema/1-1-0"),
    schema!("com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1"),
    schema!("com.snowplowanalytics.snowplow/mobile_context/jsonschema/1-0-2"),
    schema!("com.snowplowanalytics.snowplow/mobile_context/jsonschema/1-0-3"),
    schema!("com.snowplowanalytics.snowplow/parent_event/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-1"),
    schema!("com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-2"),
    schema!("com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-3"),
    schema!("com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"),
    schema!("com.snowplowanalytics.snowplow/remove_from_cart/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/screen_view/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/site_search/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/social_interaction/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/submit_form/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/timing/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/uri_redirect/jsonschema/1-0-0"),
    schema!("com.snowplowanalytics.snowplow/web_page/jsonschema/1-0-0"),
    schema!("org.ietf/http_client_hints/jsonschema/1-0-0"),
];
