//! The proxy: `/api/x/{plugin}/*` to the plugin, with every bound, and pages that cannot act as the console.
//!
//! One request goes through small steps, in this order: its path is taken apart and checked (`path`), the host's own
//! places are served (`page`), the caller is found and admitted (`caller`), a place among the plugin's requests is
//! taken (`lane`), the headers are cleaned (`headers`), the request is sent (`forward`), and the answer is
//! cleaned, perhaps gets the bridge script put in (`inject`), and streams back (`body`). Everything that
//! decides is pure; what waits has a bound in [`bounds`].
//!
//! It knows the [`Registry`] and the [`Platform`], and nothing of processes, stores or the console.

mod body;
pub mod bounds;
mod caller;
mod connection;
mod forward;
mod headers;
mod inject;
mod lane;
pub mod openapi;
mod page;
mod path;
mod redirect;
mod refusal;
mod token;
mod traffic;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use chrono::Utc;
use http::request::Parts;
use http::{Method, Response, StatusCode, Uri, header};
use http_body::Body as HttpBody;
use hyper::upgrade::OnUpgrade;

use self::body::{Download, Upload};
use self::bounds::{AUTHENTICATE_TIMEOUT, Bounds};
use self::caller::{Admission, Credential};
use self::forward::Outgoing;
use self::headers::Facts;
use self::inject::WithTag;
use self::lane::Lanes;
use self::path::{HostPlace, Place, Target};
use self::refusal::Refusal;
use self::token::PageTokens;
use crate::metrics::Metrics;
use crate::platform::{Caller, Platform};
use crate::plugin::{Link, PluginSnapshot, PluginState};
use crate::registry::{PluginHandle, Registry};

/// The proxy of one host. Cheap to clone; all clones share connections, tokens and counters.
#[derive(Clone)]
pub struct Proxy {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    platform: Arc<dyn Platform>,
    bounds: Bounds,
    lanes: Lanes,
    tokens: PageTokens,
    metrics: Metrics,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("bounds", &self.inner.bounds).finish_non_exhaustive()
    }
}

impl Proxy {
    /// A proxy to the plugins of `registry`, for callers that `platform` knows, counting in `metrics`.
    #[must_use]
    pub fn new(registry: Registry, platform: Arc<dyn Platform>, metrics: Metrics) -> Self {
        Self::with_bounds(registry, platform, metrics, Bounds::default())
    }

    /// The same with other bounds; for tests, which would wait for minutes otherwise.
    #[must_use]
    pub fn with_bounds(
        registry: Registry,
        platform: Arc<dyn Platform>,
        metrics: Metrics,
        bounds: Bounds,
    ) -> Self {
        let inner = Inner {
            registry,
            platform,
            bounds,
            lanes: Lanes::default(),
            tokens: PageTokens::default(),
            metrics,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The routes `/api/x/{plugin}/*`, to be merged into a router at its root.
    ///
    /// Serve it with connection information (`into_make_service_with_connect_info::<SocketAddr>()`), so that plugins
    /// learn the caller's address.
    pub fn router(&self) -> axum::Router {
        axum::Router::new().route("/api/x/{*rest}", axum::routing::any(answer)).with_state(self.clone())
    }
}

/// Answers one request below the prefix, whatever comes of it.
async fn answer(State(proxy): State<Proxy>, request: Request) -> Response<Body> {
    let method = request.method().clone();
    let null_origin = caller::has_null_origin(request.headers());
    let path_and_query = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let mut response = match Target::parse(&path_and_query) {
        Err(error) => Refusal::from(error).response(&method, None),
        Ok(target) => match proxy.inner.serve(&target, request).await {
            Ok(response) => response,
            Err(refusal) => {
                if proxy.inner.registry.get(target.plugin).is_some() {
                    proxy.inner.lanes.of(target.plugin, &proxy.inner.metrics).traffic().refused();
                }
                tracing::debug!(plugin = target.plugin, code = refusal.code().1, "request refused");
                refusal.response(&method, Some(target.plugin))
            }
        },
    };
    if null_origin {
        headers::allow_null_origin(response.headers_mut());
    }
    response
}

impl Inner {
    async fn serve(&self, target: &Target<'_>, request: Request) -> Result<Response<Body>, Refusal> {
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let handle = self.registry.get(target.plugin);
        if page::fills_tab(&parts, target.place) {
            return self.frame_page(target, &parts, handle.as_ref()).await;
        }
        match target.place {
            Place::Host(HostPlace::Token) => return self.page_token(target, &parts, handle.is_some()).await,
            Place::Host(place) if handle.is_some() => return page::asset(place, &parts),
            Place::Host(_) => return Err(Refusal::UnknownPlugin),
            Place::Route | Place::Ui => {}
        }
        if let Some(response) = page::preflight(&parts) {
            return Ok(response);
        }
        let public = handle.as_ref().is_some_and(|h| h.grants.borrow().allows_public_path(target.path));
        let admission = self.admit(&parts, target, public).await?;
        let handle = handle.ok_or(Refusal::UnknownPlugin)?;
        let link = running(&handle)?;
        self.forward(target, &parts, body, upgrade, &admission, &link).await
    }

    /// The frame page for a tab. A link from elsewhere may open it: it is the host's own page and does nothing by itself.
    async fn frame_page(
        &self,
        target: &Target<'_>,
        parts: &Parts,
        handle: Option<&PluginHandle>,
    ) -> Result<Response<Body>, Refusal> {
        let signed_in = self.known_to_platform(parts).await?.is_some();
        // A stranger learns nothing of the plugin but the name that the address holds.
        let title = match handle {
            Some(handle) if signed_in => {
                let manifest = handle.view.borrow().manifest.clone();
                manifest.and_then(|manifest| manifest.display_name.clone())
            }
            None if signed_in => return Err(Refusal::UnknownPlugin),
            _ => None,
        };
        page::frame(&parts.method, target.plugin, title.as_deref().unwrap_or(target.plugin), signed_in)
    }

    /// A token for the plugin's page, for the frame page of a caller that is signed in, and for nobody else.
    async fn page_token(
        &self,
        target: &Target<'_>,
        parts: &Parts,
        known: bool,
    ) -> Result<Response<Body>, Refusal> {
        if parts.method != Method::POST {
            return Err(Refusal::MethodNotAllowed("POST"));
        }
        if !caller::made_here(parts) || parts.headers.contains_key(header::AUTHORIZATION) {
            return Err(Refusal::ForeignOrigin);
        }
        let caller = self.known_to_platform(parts).await?.ok_or(Refusal::SignInNeeded)?;
        if !known {
            return Err(Refusal::UnknownPlugin);
        }
        let lifetime = self.bounds.page_token;
        let token = self.tokens.issue(target.plugin, caller.clone(), lifetime, Instant::now());
        let token = token.map_err(|_| Refusal::NoRandomness)?;
        Ok(page::token(&token, lifetime, &caller))
    }

    async fn known_to_platform(&self, parts: &Parts) -> Result<Option<Caller>, Refusal> {
        let asking = self.platform.authenticate(parts);
        tokio::time::timeout(AUTHENTICATE_TIMEOUT, asking).await.map_err(|_| Refusal::AuthenticationSlow)
    }

    /// Finds out who is calling, and whether that is enough.
    async fn admit(&self, parts: &Parts, target: &Target<'_>, public: bool) -> Result<Admission, Refusal> {
        let credential = Credential::of(parts, target);
        let found: Option<Caller> = match credential {
            Credential::Page(token) => {
                let caller = self.tokens.caller(token, target.plugin, Instant::now());
                Some(caller.ok_or(Refusal::PageTokenInvalid)?)
            }
            Credential::Platform => self.known_to_platform(parts).await?,
            Credential::Foreign => None,
        };
        caller::admit(&parts.method, target.place, public, credential == Credential::Foreign, found)
    }

    /// Sends the request on and brings the answer back.
    async fn forward(
        &self,
        target: &Target<'_>,
        parts: &Parts,
        body: Body,
        on_upgrade: Option<OnUpgrade>,
        admission: &Admission,
        link: &Arc<Link>,
    ) -> Result<Response<Body>, Refusal> {
        let bound = self.bounds.request_body;
        if body.size_hint().lower() > bound {
            return Err(Refusal::BodyTooLarge(bound));
        }
        let asked = upgrade::wanted(&parts.method, parts.version, &parts.headers);
        if asked.is_some() && !body.is_end_stream() {
            return Err(Refusal::UpgradeWithBody);
        }
        let lane = self.lanes.of(target.plugin, &self.metrics);
        let flight = lane.enter(link)?;
        let pool = lane.pool(link, self.bounds);
        let request_id = uuid::Uuid::now_v7().to_string();
        let authority = caller::authority(parts);
        let shown = page::is_shown(parts, target.place);
        let last_event = target.parameter(path::LAST_EVENT_PARAMETER).and_then(path::decoded);
        let facts = Facts {
            plugin: target.plugin,
            secret: link.secret.expose(),
            request_id: &request_id,
            caller: admission.caller.as_ref(),
            forward_authorization: admission.forward_authorization,
            plain_body: shown,
            last_event: last_event.as_deref(),
            authority,
            peer: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip()),
            upgrade: asked.as_ref(),
        };
        let outgoing = Outgoing {
            method: parts.method.clone(),
            uri: target.onward().parse::<Uri>().map_err(|_| Refusal::Path(path::PathError::Encoding))?,
            headers: headers::for_plugin(&parts.headers, &facts),
        };
        let told = link.tap.exchange(parts.method.as_str(), &target.onward(), &outgoing.headers);
        let upload = Upload::new(body, bound, lane.traffic().clone()).told_to(told.clone());
        let begun = Instant::now();
        let answer = forward::exchange(&pool, &outgoing, upload, flight).await?;
        let status = answer.response.status();
        let answering = told.answers(status.as_u16(), answer.response.headers());
        lane.traffic().answered(status, begun.elapsed());

        let mut agreed = None;
        let mut response = if status == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(asked), Some(caller)) = (&asked, on_upgrade) else { return Err(Refusal::BadAnswer) };
            agreed = answer.response.headers().get(header::UPGRADE).cloned();
            upgrade::join(answer, caller, asked, self.bounds.stream_idle, lane.traffic().clone())?
        } else {
            with_bridge(answer.into_response(pool, answering), shown, target.plugin)
        };
        let ui = target.place == Place::Ui;
        headers::clean_response(response.headers_mut(), target.plugin, authority, ui);
        if let Some(agreed) = agreed {
            upgrade::mark(response.headers_mut(), agreed);
        }
        Ok(response)
    }
}

/// Puts the bridge into a page that is shown; everything else stays as it is.
fn with_bridge(response: Response<Download>, shown: bool, plugin: &str) -> Response<Body> {
    if !shown || !inject::applies(&response) {
        return response.map(Body::new);
    }
    let tag = inject::tag(plugin);
    let (mut parts, body) = response.into_parts();
    inject::adjust(&mut parts.headers, &tag);
    Response::from_parts(parts, Body::new(WithTag::new(body, tag)))
}

/// The link to a plugin that takes work, or why it does not.
fn running(handle: &PluginHandle) -> Result<Arc<Link>, Refusal> {
    let link = handle.link.borrow().clone();
    match link {
        Some(link) if !link.closed.is_cancelled() => Ok(link),
        _ => Err(not_running(&handle.view.borrow())),
    }
}

/// When to try again a plugin that is about to run.
const RETRY_SOON: Duration = Duration::from_secs(2);
/// When to try again a plugin that waits for an operator.
const RETRY_LATER: Duration = Duration::from_secs(60);
/// Longest wait that a caller is told, whatever the plugin's next start is.
const RETRY_AT_MOST: Duration = Duration::from_secs(600);

fn not_running(view: &PluginSnapshot) -> Refusal {
    let next = view.next_start_at.and_then(|at| (at - Utc::now()).to_std().ok());
    let retry_after = match view.state {
        PluginState::Held
        | PluginState::Stopped
        | PluginState::Disabled
        | PluginState::Refused
        | PluginState::Gone => RETRY_LATER,
        _ => next.unwrap_or(RETRY_SOON).min(RETRY_AT_MOST),
    };
    // Its link is gone a moment before the state says so.
    let state = if view.state == PluginState::Running { PluginState::Draining } else { view.state };
    Refusal::NotRunning { state, retry_after }
}
