//! The request's path as vendor and version: what decides the adapter. Snowplow: `enrich-core.md` 1.6.

/// The vendor of the tracker protocol, also of the paths that name none.
pub(crate) const SNOWPLOW: &str = "com.snowplowanalytics.snowplow";

/// What the bad row says of any other path.
pub(crate) const EXPECTATION: &str =
    "path does not match (/)vendor/version(/) nor is a legacy /i(ce.png) request";

/// Vendor and version of a path, `None` if it is not understood. Two segments come before the pixel's name, so
/// `/ice.png/x` has the vendor `ice.png`.
pub(crate) fn vendor_and_version(path: &str) -> Option<(&str, &str)> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if let Some((vendor, version)) = inner.split_once('/')
        && !vendor.is_empty()
        && !version.is_empty()
        && !version.contains('/')
    {
        return Some((vendor, version));
    }
    let is_pixel = path == "/i" || path.starts_with("/i?") || path.starts_with("/ice.png");
    is_pixel.then_some((SNOWPLOW, "tp1"))
}
