//! Answers requests: events, once they are stored, and everything that looks at nothing but the head.

use super::body::Body;
use super::{Connection, End, Refusal, TOO_LARGE};
use crate::cookie;
use crate::counters::Reason;
use crate::event::{self, Decision, What};
use crate::gunzip::{self, BadGzip};
use crate::head::{Head, Known, Method, View};
use crate::identity::Identity;
use crate::intake::{Intake, Records};
use crate::memory::{Exhausted, Held};
use crate::places::Phase;
use crate::record::{self, Request};
use crate::response::{After, Event, Printing};
use crate::route::Route;
use crate::source_ip;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::time::Timestamp;
use std::borrow::Cow;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// Prints an answer that looks at nothing but the head; the last argument is the origin.
pub(super) type Print = fn(Printing<'_>, &mut Vec<u8>, Option<&str>);

/// How a route that is no event is answered.
pub(super) fn printer(route: &Route<'_>, intake: &Intake) -> Print {
    let health = |is_well: bool| -> Print {
        match is_well {
            true => |printing, out, _| printing.health(out, true),
            false => |printing, out, _| printing.health(out, false),
        }
    };
    match route {
        Route::Preflight => |printing, out, origin| printing.preflight(out, origin),
        Route::Health => health(intake.is_healthy()),
        Route::SinkHealth => health(intake.sinks_are_healthy()),
        Route::Robots => |printing, out, _| printing.robots(out),
        Route::Root => |printing, out, _| printing.root(out),
        Route::CrossDomain => |printing, out, _| printing.cross_domain(out),
        Route::RedirectsDisabled => |printing, out, _| printing.redirects_disabled(out),
        Route::NotFound | Route::Event { .. } => |printing, out, _| printing.not_found(out),
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Connection<'_, Io> {
    /// Records an event and answers when it is stored.
    pub(super) async fn event(
        &mut self,
        head: &Head,
        path: &str,
        redirect: bool,
        answer_by: Instant,
    ) -> Result<(), End> {
        let answered = self.record(head, path, redirect, answer_by).await;
        if let Err(End::Refused(Refusal::TooLarge)) = answered {
            self.tell_source(head, path);
        }
        answered
    }

    async fn record(
        &mut self,
        head: &Head,
        path: &str,
        redirect: bool,
        answer_by: Instant,
    ) -> Result<(), End> {
        let intake = self.intake;
        let mut held = intake.budget.hold();
        let is_post = head.method == Method::Post;
        let body = if is_post {
            self.place.enter(Phase::Transfer);
            match self.read_body(head, &mut held, answer_by).await? {
                Ok(body) => body,
                Err(Exhausted) => return self.answer_memory(head, answer_by).await,
            }
        } else {
            Body { request_end: head.length, dechunked: None }
        };
        self.place.enter(Phase::Busy);
        let body_bytes = match &body.dechunked {
            Some(data) => data.as_slice(),
            None => &self.input[head.length..body.request_end],
        };
        let view = View { head, bytes: &self.input };
        let now = intake.now();
        let decision = event::decide(view, redirect, &intake.config, intake.do_not_track.as_ref());
        let request = Request { view, path, body: is_post.then_some(body_bytes), peer: self.peer };
        let records = match records(intake, &request, &decision, now, &mut held) {
            Ok(records) => records,
            Err(Refused::TooLarge) => return Err(End::Refused(Refusal::TooLarge)),
            Err(Refused::Exhausted) => return self.answer_memory(head, answer_by).await,
        };
        let settled = match records {
            None => Ok(()),
            Some((records, ip_address)) => {
                let (tally, stored) = intake.store(records, &ip_address);
                let Some(stored) = self.timer.limit(answer_by, stored).await else {
                    // Stored or not: the tracker asks again, and the record is one more copy at worst.
                    return Err(End::Refused(Refusal::Timeout));
                };
                intake.settle(stored, tally)
            }
        };
        let origin = view.get(Known::Origin);
        let after = match settled {
            Err(Reason::TooLarge) => After::Close,
            _ => self.after(head, is_post),
        };
        let config = &intake.config;
        let head_only = head.method == Method::Head;
        let printing = Printing { config, now, after, head_only };
        match settled {
            Ok(()) => {
                let change = match decision.may_set_cookie {
                    true => cookie::change(config, &decision.identity),
                    false => cookie::Change::None,
                };
                let (reply, method, origin) = (&decision.reply, head.method, origin.as_deref());
                let event = Event { reply, method, change, origin };
                printing.event(&mut self.output, &event);
            }
            Err(Reason::TooLarge) => printing.status(&mut self.output, TOO_LARGE),
            Err(_) => printing.unavailable(&mut self.output, origin.as_deref()),
        }
        drop((origin, held));
        self.finish(head, body.request_end, is_post, after, answer_by).await
    }

    /// Says in the log where bodies come from that are answered 413, now and then.
    fn tell_source(&self, head: &Head, path: &str) {
        let (view, config) = (View { head, bytes: &self.input }, &self.intake.config);
        let source = source_ip::of_request(view, self.peer, &Identity::of(view, config), config);
        let now = std::time::Instant::now();
        if let Some(sources) = self.intake.too_large.note(source, path, now) {
            tracing::warn!(
                %sources,
                "bodies are answered 413: raise `collector.networking.drop-payload-size`, or mend the trackers, which \
                 may send them again for ever"
            );
        }
    }

    /// 503 because the budget is used up. What is left of the body is not read.
    async fn answer_memory(&mut self, head: &Head, answer_by: Instant) -> Result<(), End> {
        self.intake.counters.reject(Reason::Memory);
        let view = View { head, bytes: &self.input };
        let (config, now) = (&self.intake.config, self.intake.now());
        let printing = Printing { config, now, after: After::Close, head_only: false };
        printing.unavailable(&mut self.output, view.get(Known::Origin).as_deref());
        self.write(answer_by).await?;
        Err(End::Closed)
    }

    /// Sends the client elsewhere for good.
    pub(super) async fn answer_moved(
        &mut self,
        head: &Head,
        location: &str,
        answer_by: Instant,
    ) -> Result<(), End> {
        let after = self.after(head, false);
        let (config, now) = (&self.intake.config, self.intake.now());
        let head_only = head.method == Method::Head;
        Printing { config, now, after, head_only }.moved(&mut self.output, location);
        self.finish(head, head.length, false, after, answer_by).await
    }

    /// Answers what is no event.
    pub(super) async fn answer_fixed(
        &mut self,
        head: &Head,
        print: Print,
        answer_by: Instant,
    ) -> Result<(), End> {
        let after = self.after(head, false);
        let (config, now) = (&self.intake.config, self.intake.now());
        let head_only = head.method == Method::Head;
        let origin = View { head, bytes: &self.input }.get(Known::Origin);
        let printing = Printing { config, now, after, head_only };
        print(printing, &mut self.output, origin.as_deref());
        drop(origin);
        self.finish(head, head.length, false, after, answer_by).await
    }
}

/// Why nothing can be made of a request.
enum Refused {
    /// Unfolded, its body reaches the size that is refused.
    TooLarge,
    Exhausted,
}

impl From<Exhausted> for Refused {
    fn from(Exhausted: Exhausted) -> Refused {
        Refused::Exhausted
    }
}

/// What is stored of a request, if anything is, and the address that may choose its partition.
fn records(
    intake: &Intake,
    request: &Request<'_>,
    decision: &Decision,
    now: Timestamp,
    held: &mut Held<'_>,
) -> Result<Option<(Records, String)>, Refused> {
    let of_row = |row: String| Ok(Some((Records::bad_row(row), source_ip::UNKNOWN.to_owned())));
    match decision.store {
        What::Nothing => return Ok(None),
        What::IllegalQuery => {
            let query = request.view.query().unwrap_or_default().into_owned();
            let error = "the query string is not a legal one".to_owned();
            return of_row(intake.bad_rows(now).generic_error(error, query));
        }
        What::Payload => {}
    }
    let body = match request.body {
        Some(body) => match unfolded(intake, request.view, body, held)? {
            Ok(body) => Some(body),
            Err(error) => {
                held.add(body.len() * 4)?;
                let shown = body.len().min(intake.config.networking.max_record_size / 10);
                let shown = STANDARD.encode(&body[..shown]);
                return of_row(intake.bad_rows(now).generic_error(error, shown));
            }
        },
        None => None,
    };
    let body_bytes = body.as_ref().map_or(0, |body| body.len());
    held.add(request.view.head.length * 2 + body_bytes)?;
    let request = Request { body: body.as_deref(), ..*request };
    let config = &intake.config;
    let record = record::write(&request, &decision.identity, config, &intake.collector, now);
    if intake.limits.fits(record.bytes.len()) {
        return Ok(Some((Records::from(record.bytes), record.ip_address)));
    }
    let fitted = intake.limits.split(&record, &intake.bad_rows(now), held)?;
    Ok(Some((Records::of_oversized(fitted, record.bytes), record.ip_address)))
}

/// The body behind its `Content-Encoding`; the inner error is for a bad row.
fn unfolded<'a>(
    intake: &Intake,
    view: View<'_>,
    body: &'a [u8],
    held: &mut Held<'_>,
) -> Result<Result<Cow<'a, [u8]>, String>, Refused> {
    let coding = view.get(Known::ContentEncoding);
    if intake.config.compat.strict || !coding.is_some_and(|coding| gunzip::is_gzip(&coding)) {
        return Ok(Ok(Cow::Borrowed(body)));
    }
    match gunzip::unfold(body, intake.config.networking.drop_payload_size, held) {
        Ok(unfolded) => Ok(Ok(Cow::Owned(unfolded))),
        Err(BadGzip::TooLarge) => Err(Refused::TooLarge),
        Err(BadGzip::Exhausted) => Err(Refused::Exhausted),
        Err(BadGzip::Malformed(error)) => {
            Ok(Err(format!("the body with `Content-Encoding: gzip` is not gzip: {error}")))
        }
    }
}
