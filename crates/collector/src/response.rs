//! Prints answers. Order and spelling of the headers are Snowplow's (`collector.md` 1.4 and 1.5).

use crate::config::Config;
use crate::cookie::{self, Change};
use crate::event::Reply;
use crate::head::Method;
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

/// What every answer is printed with.
#[derive(Clone, Copy)]
pub(crate) struct Printing<'a> {
    pub(crate) config: &'a Config,
    pub(crate) now: Timestamp,
    pub(crate) after: After,
    /// HEAD: the headers alone.
    pub(crate) head_only: bool,
}

/// The answer to an event.
pub(crate) struct Event<'a> {
    pub(crate) reply: &'a Reply,
    pub(crate) method: Method,
    pub(crate) change: Change<'a>,
    pub(crate) origin: Option<&'a str>,
}

/// A transparent GIF of one pixel.
const PIXEL: [u8; 43] = [
    0x47, 0x49, 0x46, 0x38, 0x39, 0x61, 0x01, 0x00, 0x01, 0x00, 0xf0, 0x00, 0x00, 0xff, 0xff, 0xff,
    0x00, 0x00, 0x00, 0x21, 0xf9, 0x04, 0x05, 0x00, 0x00, 0x00, 0x00, 0x2c, 0x00, 0x00, 0x00, 0x00,
    0x01, 0x00, 0x01, 0x00, 0x00, 0x02, 0x02, 0x44, 0x01, 0x00, 0x3b,
];

/// The flags of the pixel's graphics control, in which 2.x differs.
const PIXEL_FLAGS_AT: usize = 22;
const PIXEL_FLAGS_V2: u8 = 0x01;

const ROBOTS: &str = "User-agent: *\nDisallow: /\n\nUser-agent: Googlebot\nDisallow: /\n\n\
                      User-agent: AdsBot-Google\nDisallow: /";
const ROBOTS_V2: &str = "User-agent: *\nDisallow: /";

/// The type of the collector's own texts.
const TEXT: &str = "text/plain; charset=UTF-8";

/// When a tracker that is told 503 may come back. Most have a rhythm of their own.
const RETRY_AFTER_SECONDS: &str = "5";

impl Printing<'_> {
    /// The answer to an event, once it is stored.
    pub(crate) fn event(self, out: &mut Vec<u8>, event: &Event<'_>) {
        let config = self.config;
        let is_v2 = config.compat.is_v2();
        let status = match event.reply {
            Reply::Ok | Reply::Pixel => "200 OK",
            Reply::Found(_) => "302 Found",
            Reply::RedirectRefused => "400 Bad Request",
            Reply::Bare => {
                begin(out, "200 OK");
                return self.end(out, Some(0));
            }
        };
        begin(out, status);
        cookie::print(out, config, event.change, event.origin, self.now);
        if event.method != Method::Post {
            put(out, "Cache-Control: no-cache, no-store, must-revalidate\r\n");
        }
        if is_v2 {
            let p3p = &config.p3p;
            for text in ["P3P: policyref=\"", &p3p.policy_ref, "\", CP=\"", &p3p.cp, "\"\r\n"] {
                put(out, text);
            }
        }
        self.allow_origin(out, event.origin);
        let (kind, length) = match event.reply {
            Reply::Found(location) => {
                for text in ["Location: ", location, "\r\n"] {
                    put(out, text);
                }
                (None, 0)
            }
            Reply::RedirectRefused | Reply::Bare => (None, 0),
            Reply::Ok if is_v2 => (Some(TEXT), 2),
            Reply::Ok => (Some("text/plain"), 2),
            Reply::Pixel => (Some("image/gif"), PIXEL.len()),
        };
        if let Some(kind) = kind {
            content_type(out, kind);
        }
        // 3.x leaves the length of a pixel out where it leaves out the pixel.
        let unsaid = self.head_only && config.compat.is_strict_v3();
        self.end(out, (!unsaid).then_some(length));
        match event.reply {
            _ if self.head_only => {}
            Reply::Ok => put(out, "ok"),
            Reply::Pixel => {
                let begin = out.len();
                out.extend_from_slice(&PIXEL);
                if is_v2 {
                    out[begin + PIXEL_FLAGS_AT] = PIXEL_FLAGS_V2;
                }
            }
            Reply::Found(_) | Reply::RedirectRefused | Reply::Bare => {}
        }
    }

    /// The answer to an event that could not be stored now: no cookie changes, and a page may read the status.
    pub(crate) fn unavailable(self, out: &mut Vec<u8>, origin: Option<&str>) {
        begin(out, "503 Service Unavailable");
        for text in ["Retry-After: ", RETRY_AFTER_SECONDS, "\r\n"] {
            put(out, text);
        }
        self.allow_origin(out, origin);
        self.end(out, Some(0));
    }

    /// The answer to OPTIONS.
    pub(crate) fn preflight(self, out: &mut Vec<u8>, origin: Option<&str>) {
        begin(out, "200 OK");
        self.allow_origin(out, origin);
        put(out, "Access-Control-Allow-Headers: Content-Type, SP-Anonymous");
        for name in &self.config.cors.allowed_headers {
            put(out, ", ");
            put(out, name);
        }
        put(out, "\r\nAccess-Control-Max-Age: ");
        put(out, &self.config.cors.access_control_max_age.as_secs().to_string());
        put(out, "\r\n");
        self.end(out, Some(0));
    }

    /// `/health` and `/sink-health`.
    pub(crate) fn health(self, out: &mut Vec<u8>, is_healthy: bool) {
        match (is_healthy, self.config.compat.is_v2()) {
            (true, false) => self.text(out, "200 OK", "ok"),
            (true, true) => self.text(out, "200 OK", "OK"),
            (false, _) => self.text(out, "503 Service Unavailable", "Service Unavailable"),
        }
    }

    pub(crate) fn robots(self, out: &mut Vec<u8>) {
        let body = if self.config.compat.is_v2() { ROBOTS_V2 } else { ROBOTS };
        self.text(out, "200 OK", body);
    }

    pub(crate) fn redirects_disabled(self, out: &mut Vec<u8>) {
        self.text(out, "404 Not Found", "redirects disabled");
    }

    pub(crate) fn not_found(self, out: &mut Vec<u8>) {
        let body = if self.config.compat.is_v2() { "404 not found" } else { "Not found" };
        self.text(out, "404 Not Found", body);
    }

    /// `/crossdomain.xml`
    pub(crate) fn cross_domain(self, out: &mut Vec<u8>) {
        let is_v2 = self.config.compat.is_v2();
        let config = &self.config.cross_domain;
        let (indent, kind) = match is_v2 {
            true => ("  ", "text/xml; charset=ISO-8859-1"),
            false => ("", "text/xml"),
        };
        let line = |domain: &String| {
            let secure = config.secure;
            format!("{indent}<allow-access-from domain=\"{domain}\" secure=\"{secure}\" />")
        };
        let lines: Vec<String> = config.domains.iter().map(line).collect();
        let lines = lines.join("\n");
        let body = match lines.is_empty() && is_v2 {
            true => {
                "<?xml version=\"1.0\"?>\n<cross-domain-policy>\n</cross-domain-policy>".to_owned()
            }
            // 3.x leaves an empty line where there is no domain.
            false => {
                format!(
                    "<?xml version=\"1.0\"?>\n<cross-domain-policy>\n{lines}\n</cross-domain-policy>"
                )
            }
        };
        begin(out, "200 OK");
        content_type(out, kind);
        self.body(out, &body);
    }

    /// `GET /`
    pub(crate) fn root(self, out: &mut Vec<u8>) {
        let config = &self.config.root_response;
        // The reason is for people; programs read the number.
        begin(out, &format!("{} {}", config.status_code, reason(config.status_code)));
        for (name, value) in &config.headers {
            for text in [name, ": ", value, "\r\n"] {
                put(out, text);
            }
        }
        match config.status_code {
            // Neither has a body.
            204 | 304 => self.end(out, None),
            _ => self.body(out, &config.body),
        }
    }

    /// A fixed text.
    pub(crate) fn text(self, out: &mut Vec<u8>, status: &str, body: &str) {
        begin(out, status);
        content_type(out, TEXT);
        self.body(out, body);
    }

    /// A status without a body and without any header of an event.
    pub(crate) fn status(self, out: &mut Vec<u8>, status: &str) {
        begin(out, status);
        self.end(out, Some(0));
    }

    /// Sends the client to another address for good.
    pub(crate) fn moved(self, out: &mut Vec<u8>, location: &str) {
        begin(out, "301 Moved Permanently");
        put(out, "Location: ");
        put(out, location);
        put(out, "\r\n");
        self.end(out, Some(0));
    }

    fn body(self, out: &mut Vec<u8>, body: &str) {
        self.end(out, Some(body.len()));
        if !self.head_only {
            put(out, body);
        }
    }

    fn allow_origin(self, out: &mut Vec<u8>, origin: Option<&str>) {
        let echoed = cors::echoed(origin);
        put(out, "Access-Control-Allow-Origin: ");
        put(out, echoed.unwrap_or("*"));
        put(out, "\r\nAccess-Control-Allow-Credentials: true\r\n");
        if echoed.is_some() && !self.config.compat.strict {
            put(out, "Vary: Origin\r\n");
        }
    }

    /// The headers that every answer has, and the empty line.
    fn end(self, out: &mut Vec<u8>, length: Option<usize>) {
        let hsts = &self.config.hsts;
        if hsts.enable {
            put(out, "Strict-Transport-Security: max-age=");
            put(out, &hsts.max_age.as_secs().to_string());
            put(out, "; includeSubDomains\r\n");
        }
        put(out, "Date: ");
        http_date::print(out, self.now);
        if let Some(length) = length {
            put(out, "\r\nContent-Length: ");
            put(out, &length.to_string());
        }
        put(
            out,
            match self.after {
                After::Continue => "\r\n\r\n",
                After::ContinueHttp10 => "\r\nConnection: keep-alive\r\n\r\n",
                After::Close => "\r\nConnection: close\r\n\r\n",
            },
        );
    }
}

fn begin(out: &mut Vec<u8>, status: &str) {
    for text in ["HTTP/1.1 ", status, "\r\n"] {
        put(out, text);
    }
}

fn content_type(out: &mut Vec<u8>, kind: &str) {
    for text in ["Content-Type: ", kind, "\r\n"] {
        put(out, text);
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        403 => "Forbidden",
        404 => "Not Found",
        410 => "Gone",
        _ => "",
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}
