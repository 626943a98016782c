//! Prints answers. Order and spelling of the headers are Snowplow's (`collector.md` 1.4 and 1.5).

use crate::config::Config;
use crate::cookie::{self, Change};
use crate::{cors, http_date};
use model::time::Timestamp;

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// HTTP/1.1 goes on by itself.
    Continue,
    /// HTTP/1.0 must be told.
    ContinueHttp10,
    Close,
}

/// The answer to a recorded event.
pub(crate) struct Event<'a> {
    /// What is answered with: GET and HEAD get the pixel.
    pub(crate) body: EventBody,
    pub(crate) change: Change<'a>,
    pub(crate) origin: Option<&'a str>,
    pub(crate) now: Timestamp,
    pub(crate) after: After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventBody {
    Ok,
    Pixel,
    /// HEAD: the headers of the pixel alone.
    PixelHead,
}

/// A transparent GIF of one pixel.
pub(crate) const PIXEL: [u8; 43] = [
    0x47, 0x49, 0x46, 0x38, 0x39, 0x61, 0x01, 0x00, 0x01, 0x00, 0xf0, 0x00, 0x00, 0xff, 0xff, 0xff,
    0x00, 0x00, 0x00, 0x21, 0xf9, 0x04, 0x05, 0x00, 0x00, 0x00, 0x00, 0x2c, 0x00, 0x00, 0x00, 0x00,
    0x01, 0x00, 0x01, 0x00, 0x00, 0x02, 0x02, 0x44, 0x01, 0x00, 0x3b,
];

pub(crate) const ROBOTS: &str = "User-agent: *\nDisallow: /\n\nUser-agent: Googlebot\nDisallow: /\n\n\
                                 User-agent: AdsBot-Google\nDisallow: /";

/// When a tracker that is told 503 may come back. Most have a rhythm of their own.
const RETRY_AFTER_SECONDS: &str = "5";

/// The answer to an event that is stored.
pub(crate) fn event(out: &mut Vec<u8>, config: &Config, event: &Event<'_>) {
    put(out, "HTTP/1.1 200 OK\r\n");
    cookie::print(out, &config.cookie, event.change, event.origin, event.now);
    let pixel = match event.body {
        EventBody::Ok => false,
        EventBody::Pixel | EventBody::PixelHead => true,
    };
    if pixel {
        put(out, "Cache-Control: no-cache, no-store, must-revalidate\r\n");
    }
    allow_origin(out, event.origin);
    put(out, if pixel { "Content-Type: image/gif\r\n" } else { "Content-Type: text/plain\r\n" });
    let length = if pixel { PIXEL.len() } else { 2 };
    end(out, event.now, length, event.after);
    match event.body {
        EventBody::Ok => put(out, "ok"),
        EventBody::Pixel => out.extend_from_slice(&PIXEL),
        EventBody::PixelHead => {}
    }
}

/// The answer to an event that could not be stored now: no cookie changes, and a page may read the status.
pub(crate) fn unavailable(out: &mut Vec<u8>, origin: Option<&str>, now: Timestamp, after: After) {
    put(out, "HTTP/1.1 503 Service Unavailable\r\nRetry-After: ");
    put(out, RETRY_AFTER_SECONDS);
    put(out, "\r\n");
    allow_origin(out, origin);
    end(out, now, 0, after);
}

/// The answer to OPTIONS.
pub(crate) fn preflight(
    out: &mut Vec<u8>,
    config: &Config,
    origin: Option<&str>,
    now: Timestamp,
    after: After,
) {
    put(out, "HTTP/1.1 200 OK\r\n");
    allow_origin(out, origin);
    put(out, "Access-Control-Allow-Headers: Content-Type, SP-Anonymous");
    for name in &config.cors.allowed_headers {
        put(out, ", ");
        put(out, name);
    }
    put(out, "\r\nAccess-Control-Max-Age: ");
    put(out, &config.cors.access_control_max_age.as_secs().to_string());
    put(out, "\r\n");
    end(out, now, 0, after);
}

/// A fixed text; `head_only` leaves it out.
pub(crate) fn text(
    out: &mut Vec<u8>,
    status: &str,
    body: &str,
    head_only: bool,
    now: Timestamp,
    after: After,
) {
    put(out, "HTTP/1.1 ");
    put(out, status);
    put(out, "\r\nContent-Type: text/plain; charset=UTF-8\r\n");
    end(out, now, body.len(), after);
    if !head_only {
        put(out, body);
    }
}

/// A status without a body, after which the connection is closed.
pub(crate) fn refusal(out: &mut Vec<u8>, status: &str, now: Timestamp) {
    put(out, "HTTP/1.1 ");
    put(out, status);
    put(out, "\r\n");
    end(out, now, 0, After::Close);
}

fn allow_origin(out: &mut Vec<u8>, origin: Option<&str>) {
    let echoed = cors::echoed(origin);
    put(out, "Access-Control-Allow-Origin: ");
    put(out, echoed.unwrap_or("*"));
    put(out, "\r\nAccess-Control-Allow-Credentials: true\r\n");
    if echoed.is_some() {
        put(out, "Vary: Origin\r\n");
    }
}

fn end(out: &mut Vec<u8>, now: Timestamp, length: usize, after: After) {
    put(out, "Date: ");
    http_date::print(out, now);
    put(out, "\r\nContent-Length: ");
    put(out, &length.to_string());
    put(
        out,
        match after {
            After::Continue => "\r\n\r\n",
            After::ContinueHttp10 => "\r\nConnection: keep-alive\r\n\r\n",
            After::Close => "\r\nConnection: close\r\n\r\n",
        },
    );
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}
