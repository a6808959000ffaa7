//! Door 1: the reverse proxy, on Pingora. The phases of one request, in order:
//!
//! ```text
//! accept       the accept loops: TLS handshakes, the end of them
//! connection   the client's socket: connection cap, deadline and size of every request head, floods
//! intake       the head has one reading only, or 400/414/431
//! gate         route, token, facts, decision: a Forward with a permit, or a denial
//! respond      the one table from a denial to an answer
//! load         how much is done at once; above it 503; relief: memory that is given back then
//! exchange     a permitted request as it goes on; streams: those that last, decided again and cut
//! upstream     peers, time limits, TLS, balancing
//! headers      forged headers out, verified ones in; the judged target, byte for byte
//! ```
//!
//! Pingora forwards whatever `request_filter` does not answer, so the lock is in [`Sidecar::upstream_peer`]: no [`Forward`], no peer.

pub mod accept;
mod body;
mod buffered;
pub mod connection;
mod exchange;
pub mod headers;
pub mod intake;
pub mod listen;
pub mod load;
pub mod patience;
mod relief;
pub mod respond;
pub mod streams;
mod terms;
pub mod tls;
mod upgrade;
pub mod upstream;
mod websocket;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderValue;
use ipnet::IpNet;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use crate::domain::{Denial, DenyReason};
use crate::gate::{Forward, Gate, RequestView, Trace, Verdict};
use crate::telemetry::{DecisionLog, Entry, Metrics, Outcome};

use self::exchange::{Exchange, Request};
use self::headers::{HeaderPolicy, Peer};
use self::intake::HeadLimits;
use self::load::{InFlight, Load};
use self::patience::{Patience, Upload};
use self::respond::Answer;
use self::upstream::Upstream;

pub use self::terms::Terms;

/// What the proxy needs to know besides the rules.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Limits on request heads.
    pub head: HeadLimits,
    /// Header policy towards upstreams.
    pub headers: HeaderPolicy,
    /// Peers that are believed what they say of the hop before: `x-forwarded-for`, `x-real-ip` and the like.
    pub trusted_proxies: Vec<IpNet>,
    /// Bounds on slow clients.
    pub patience: Patience,
    /// The largest body that is let through where the rule does not say, bytes; 0 = any.
    pub max_body: u64,
}

/// The proxy: one for all requests, on the [`Terms`] that the gate has in force. Clones share everything.
#[derive(Clone)]
pub struct Sidecar {
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    log: Arc<DecisionLog>,
    load: Arc<Load>,
}

/// One request on its way through.
pub struct Passage {
    started: Instant,
    request_id: HeaderValue,
    trace: Trace,
    state: State,
    forwarded_at: Option<Instant>,
    upstream_status: Option<u16>,
    attempts: usize,
    upload: Option<Upload>,
    in_flight: Option<InFlight>,
}

/// How far it is.
enum State {
    /// Nothing was decided: nothing may be forwarded.
    Arrived,
    /// Refused, and answered by us with this status.
    Refused(Denial, u16),
    /// Permitted.
    Permitted(Forward),
    /// Permitted, with this target where it is not as received; then the upstream, the client or we failed, answered with this status,
    /// 0 = the client was gone.
    Failed(DenyReason, u16, Option<Box<[u8]>>),
}

impl Sidecar {
    /// A proxy that forwards what `gate` permits, as far as `load` lets it.
    pub fn new(gate: Arc<Gate>, metrics: Arc<Metrics>, log: Arc<DecisionLog>, load: Arc<Load>) -> Self {
        Self { gate, metrics, log, load }
    }

    /// Decides one request, if there is room for it.
    async fn admit(&self, session: &mut Session, passage: &mut Passage) -> Result<(Forward, Request), Denial> {
        let in_flight = self.load.begin().map_err(|why| Denial::because(DenyReason::Overloaded, why))?;
        passage.in_flight = Some(in_flight);
        let (forward, request) = self.judge(session, &mut passage.trace).await?;
        let most = Terms::of(&passage.trace)?.most(&forward);
        if most.is_some_and(|most| body::announced(session.req_header()) > most) {
            return Err(Denial::because(DenyReason::BodyTooLarge, "the body is larger than the route lets through"));
        }
        Ok((forward, request))
    }

    /// Decides one request.
    async fn judge(&self, session: &mut Session, trace: &mut Trace) -> Result<(Forward, Request), Denial> {
        let head = Terms::of(trace)?.settings.head;
        let request = intake::read(session, &head)?;
        let limit = match self.gate.check(&request, trace).await {
            Verdict::Forward(forward) => {
                let request = Request::of(&request, &forward, None);
                // Nothing judged a preflight's body, and no browser sends one.
                if forward.is_preflight() && !session.as_downstream_mut().is_body_empty() {
                    return Err(Denial::because(DenyReason::BadRequest, "a preflight with a body"));
                }
                return Ok((forward, request));
            }
            Verdict::Refuse(denial) => return Err(denial),
            Verdict::ReadBody { limit } => limit,
        };
        let body = body::read(session, limit).await?;
        let request = RequestView { body: Some(&body), ..intake::read(session, &head)? };
        match self.gate.check(&request, trace).await {
            Verdict::Forward(forward) => {
                let request = Request::of(&request, &forward, Some(body.clone()));
                Ok((forward, request))
            }
            Verdict::Refuse(denial) => Err(denial),
            Verdict::ReadBody { .. } => Err(Denial::because(DenyReason::Internal, "the body was asked for twice")),
        }
    }

    fn peer_of(terms: &Terms, session: &Session) -> Peer {
        let address =
            session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip().to_canonical());
        let is_trusted = address
            .is_some_and(|address| terms.settings.trusted_proxies.iter().any(|network| network.contains(&address)));
        let is_tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        Peer { address, is_trusted, is_tls }
    }

    /// What is kept of a permitted request while it lasts.
    fn exchange(&self, request: Request, session: &Session, passage: &Passage) -> Exchange {
        let client = session.client_addr().and_then(|address| address.as_inet()).copied();
        Exchange::new(request, passage.trace.clone(), passage.request_id.clone(), client, passage.started)
    }

    fn may_try_again(passage: &Passage) -> bool {
        let State::Permitted(forward) = &passage.state else { return false };
        Terms::upstream_of(forward).is_some_and(|upstream| passage.attempts <= upstream.retries())
    }

    fn outcome(passage: &Passage) -> Outcome {
        match &passage.state {
            State::Arrived => Outcome::Failed(DenyReason::Internal),
            State::Refused(denial, _) => Outcome::Denied(denial.reason),
            State::Failed(reason, ..) => Outcome::Failed(*reason),
            State::Permitted(forward) => forward.outcome(),
        }
    }
}

#[async_trait]
impl ProxyHttp for Sidecar {
    type CTX = Passage;

    fn new_ctx(&self) -> Passage {
        Passage {
            started: Instant::now(),
            request_id: new_request_id(),
            trace: Trace::new(self.log.sample()),
            state: State::Arrived,
            forwarded_at: None,
            upstream_status: None,
            attempts: 0,
            upload: None,
            in_flight: None,
        }
    }

    /// None: answers pass as the upstream gave them.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    /// Decides. `Ok(true)` = answered here.
    async fn request_filter(&self, session: &mut Session, passage: &mut Passage) -> pingora::Result<bool> {
        connection::head_complete(session);
        self.gate.begin(&mut passage.trace);
        if let Ok(terms) = Terms::of(&passage.trace) {
            terms.settings.patience.apply(session);
        }
        if self.load.lets_go() {
            session.set_keepalive(None);
        }
        let judged = AssertUnwindSafe(self.admit(session, passage)).catch_unwind().await;
        let judged = judged.unwrap_or_else(|_| Err(Denial::because(DenyReason::Internal, "a panic while deciding")));
        self.metrics.decision_duration.observe(passage.started.elapsed().as_secs_f64());
        let denial = match judged {
            Ok((forward, request)) => {
                if exchange::permitted(self.exchange(request, session, passage)) {
                    passage.state = State::Permitted(forward);
                    return Ok(false);
                }
                Denial::because(DenyReason::Internal, "nobody would end this exchange")
            }
            Err(denial) => denial,
        };
        if let DenyReason::BadToken(fault) = denial.reason {
            self.metrics.token_rejected(fault);
        }
        let answer = Answer::to(&denial, passage.trace.conceals());
        passage.state = State::Refused(denial, answer.status);
        respond::write(session, answer, &passage.request_id).await?;
        Ok(true)
    }

    /// The lock: without a permit there is no peer. Pingora may ask again when it tries another connection.
    async fn upstream_peer(&self, session: &mut Session, passage: &mut Passage) -> pingora::Result<Box<HttpPeer>> {
        let State::Permitted(forward) = &passage.state else {
            return Err(Error::explain(ErrorType::HTTPStatus(500), "nothing permits this request"));
        };
        passage.forwarded_at.get_or_insert_with(Instant::now);
        passage.attempts += 1;
        let upstream = Terms::upstream_of(forward);
        let peer = if session.is_upgrade_req() { Upstream::peer_for_upgrade } else { Upstream::peer };
        upstream
            .and_then(peer)
            .ok_or_else(|| Error::explain(ErrorType::ConnectNoRoute, "no server of the upstream is well").into_up())
    }

    /// Writes what the upstream is sent, from the permit's [`Forward`] only.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        passage: &mut Passage,
    ) -> pingora::Result<()> {
        let State::Permitted(forward) = &passage.state else {
            return Err(Error::explain(ErrorType::HTTPStatus(500), "nothing permits this request"));
        };
        if let Some(target) = forward.target() {
            request.set_raw_path(target)?;
        }
        let terms = forward.door::<Terms>();
        let terms = terms.ok_or_else(|| Error::explain(ErrorType::InternalError, "nothing says how to forward"))?;
        terms.settings.headers.apply(request, forward, Self::peer_of(terms, session), &passage.request_id)
    }

    /// Looks at each part of a body on its way; the bytes stay as they are.
    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        passage: &mut Passage,
    ) -> pingora::Result<()> {
        let State::Permitted(forward) = &passage.state else {
            return Err(Error::explain(ErrorType::HTTPStatus(500), "nothing permits this body"));
        };
        let terms = Terms::of(&passage.trace);
        let terms = terms.map_err(|_| Error::explain(ErrorType::InternalError, "nothing limits this body"))?;
        let upload = passage.upload.get_or_insert_with(|| Upload::begin(session, terms.most(forward)));
        terms.settings.patience.heed(upload, body.as_ref().map_or(0, Bytes::len))
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        passage: &mut Passage,
    ) -> pingora::Result<()> {
        // Pingora ends what only one side takes for an upgrade; here neither does, and the client would be left to guess.
        if response.status == 101 && !session.is_upgrade_req() {
            let explained = Error::explain(ErrorType::InvalidHTTPHeader, "the upstream switches protocols, unasked");
            return Err(explained.into_up());
        }
        passage.upstream_status = Some(response.status.as_u16());
        exchange::answered(response.status.as_u16());
        let protocol = response.headers.get(http::header::UPGRADE).map(HeaderValue::as_bytes);
        if response.status == 101
            && session.is_upgrade_req()
            && protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
        {
            connection::switching_to_websocket(session);
        }
        if let Some(forwarded_at) = passage.forwarded_at.take() {
            passage.trace.meter(|meter| meter.record_upstream(forwarded_at.elapsed()));
        }
        response.insert_header(headers::REQUEST_ID, passage.request_id.clone())
    }

    /// Nothing was sent yet: another server may be tried, whatever the method.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        passage: &mut Passage,
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(Self::may_try_again(passage));
        error
    }

    /// A pooled connection turned out to be dead: an idempotent request, all of which is still here, may be tried on another.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        passage: &mut Passage,
        client_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("peer {peer}"));
        let is_repeatable = session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
        if is_repeatable && Self::may_try_again(passage) {
            error.retry.decide_reuse(client_reused);
        } else {
            error.set_retry(false);
        }
        error
    }

    /// What Pingora reports after the permit: an upstream that cannot be reached or is too slow, a client that left.
    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, passage: &mut Passage) -> FailToProxy {
        let reason = failure(error);
        let answer = Answer::to(&Denial { reason, detail: None }, false);
        let client_gone = matches!(error.esource(), ErrorSource::Downstream)
            && matches!(error.etype(), ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed);
        let mut status = 0;
        if !client_gone && session.response_written().is_none() {
            status = answer.status;
            session.set_keepalive(None);
            if let Err(error) = respond::write(session, answer, &passage.request_id).await {
                tracing::debug!(%error, "client left before it was answered");
            }
        }
        tracing::debug!(%error, "request failed after its permit");
        let target = match &passage.state {
            State::Permitted(forward) => forward.target().map(Into::into),
            _ => None,
        };
        if !matches!(passage.state, State::Refused(..)) {
            passage.state = State::Failed(reason, status, target);
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    /// Every failure is in the decision log already.
    fn suppress_error_log(&self, _: &Session, _: &Passage, _: &Error) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, passage: &mut Passage) {
        let duration = passage.started.elapsed();
        if exchange::tell() {
            let outcome = Self::outcome(passage);
            passage.trace.meter(|meter| meter.record(outcome, duration));
            self.log.record(outcome, passage.trace.is_detailed(), || entry(session, passage, outcome, duration));
        }
        connection::request_done(session);
    }
}

/// What failed after the permit, by who failed. No `_` arm on the source: a new one has to be thought about.
fn failure(error: &Error) -> DenyReason {
    let timed_out = matches!(
        error.etype(),
        ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
    );
    match error.esource() {
        ErrorSource::Upstream if timed_out && !matches!(error.etype(), ErrorType::ConnectTimedout) => {
            DenyReason::UpstreamTimeout
        }
        ErrorSource::Upstream => DenyReason::UpstreamUnreachable,
        ErrorSource::Downstream if timed_out => DenyReason::Timeout,
        ErrorSource::Downstream if *error.etype() == patience::TOO_LARGE => DenyReason::BodyTooLarge,
        ErrorSource::Downstream => DenyReason::BadRequest,
        ErrorSource::Internal | ErrorSource::Unset => DenyReason::Internal,
    }
}

/// 128 random bits in hexadecimal: unique without asking anybody.
fn new_request_id() -> HeaderValue {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let bits: u128 = rand::random();
    let mut text = [0; 32];
    for (at, digit) in text.iter_mut().enumerate() {
        let nibble = (bits >> (4 * at)) & 0xf;
        *digit = DIGITS.get(usize::try_from(nibble).unwrap_or_default()).copied().unwrap_or(b'0');
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("none"))
}

/// The decision line of one request.
fn entry<'a>(session: &'a Session, passage: &'a Passage, outcome: Outcome, duration: Duration) -> Entry<'a> {
    let request = session.req_header();
    let trace = &passage.trace;
    let principal = trace.principal.as_deref();
    let (forward, detail, refused) = match &passage.state {
        State::Permitted(forward) => {
            (Some(forward), forward.overridden().and_then(|denial| denial.detail.as_deref()), None)
        }
        State::Refused(denial, status) => (None, denial.detail.as_deref(), Some(*status)),
        State::Failed(_, status, _) => (None, None, Some(*status)),
        State::Arrived => (None, None, None),
    };
    let membership =
        forward.and_then(Forward::membership).or(principal.and_then(|principal| principal.membership.as_ref()));
    let target = match &passage.state {
        State::Permitted(forward) => forward.target(),
        State::Failed(.., target) => target.as_deref(),
        State::Arrived | State::Refused(..) => None,
    };
    let written = session.response_written().map(|response| response.status.as_u16());
    Entry {
        unix_millis: unix_millis(),
        request_id: passage.request_id.to_str().unwrap_or_default(),
        client: session.client_addr().and_then(|address| address.as_inet()).copied(),
        route: trace.route_id(),
        outcome,
        detail,
        status: refused.or(written).unwrap_or_default(),
        method: request.method.as_str(),
        host: intake::host_of(request),
        path: path_of(target.unwrap_or(request.raw_path())),
        user: principal.map(|principal| principal.user.as_str()),
        organization: principal.and_then(|principal| principal.organization.as_ref()).map(AsRef::as_ref),
        membership: membership.map(AsRef::as_ref),
        resource: trace.resource.as_deref(),
        revision: trace.revision,
        facts_age: trace.facts_age,
        duration,
        upstream_status: passage.upstream_status,
    }
}

/// The path of a target, without the query string, which may hold secrets.
fn path_of(target: &[u8]) -> &str {
    let path = target.split(|&byte| byte == b'?').next().unwrap_or(target);
    std::str::from_utf8(path).unwrap_or_default()
}

/// Milliseconds since 1970 for a log line; nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "the time of a log line, which no decision sees")]
fn unix_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
