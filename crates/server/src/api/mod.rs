//! The words of the REST API: every request and response body, and the routes that take and give them.
//!
//! The types here are what goes over the wire and nothing more; the CLI builds on them, and `spec/openapi.json` is
//! generated from them. What happens behind a route stands in `routes`.
//!
//! | Route | Who | Takes → gives |
//! |---|---|---|
//! | `GET /healthz`, `GET /readyz` | anyone | nothing → [`version::Health`], [`version::Readiness`] |
//! | `GET /metrics` | viewer | nothing → Prometheus text |
//! | `GET /api/version` | viewer | nothing → [`version::Version`] |
//! | `GET /api/openapi.json` | viewer | nothing → the OpenAPI document, plugins' routes included |
//! | `GET /login?code=` | anyone | a one-time code → a session cookie and a redirect to `/` |
//! | `GET /api/session` | viewer | nothing → [`access::Session`] |
//! | `DELETE /api/session` | viewer | nothing → 204, the browser is signed out |
//! | `POST /api/login-links` | admin | nothing → [`access::LoginLink`] |
//! | `GET, POST /api/tokens`, `DELETE /api/tokens/{id}` | admin | [`access::NewToken`] → [`access::CreatedToken`], page of [`access::Token`] |
//! | `GET /api/plugins` | viewer | nothing → [`page::Page`] of [`plugins::Plugin`] (all in one page) |
//! | `GET /api/plugins/{name}` | viewer | nothing → [`plugins::Plugin`] |
//! | `POST /api/plugins/{name}/start`, `stop`, `restart`, `enable`, `disable` | admin | nothing → [`plugins::Plugin`] |
//! | `POST /api/plugins/{name}/debug` | admin | [`plugins::DebugSwitch`] → [`plugins::Plugin`] |
//! | `POST /api/plugins/{name}/adopt` | admin | [`plugins::Adoption`] → [`plugins::Plugin`] |
//! | `GET /api/plugins/{name}/grants` | viewer | nothing → [`plugins::Grants`] |
//! | `POST /api/plugins/{name}/grants` | admin | [`plugins::GrantRequest`] → [`plugins::Grants`] |
//! | `DELETE /api/plugins/{name}/grants?kind=&value=` | admin | [`plugins::GrantRef`] → [`plugins::Grants`] |
//! | `GET, PATCH, PUT /api/plugins/{name}/config?revision=&force=` | viewer, admin | an object of settings → [`config::PluginConfig`], without values of secrets |
//! | `GET /api/plugins/{name}/storage?prefix=&values=&limit=&cursor=` | admin | nothing → [`storage::Storage`] |
//! | `GET /api/plugins/{name}/storage/entry?key=` | admin | nothing → [`storage::StorageEntry`] |
//! | `DELETE /api/plugins/{name}/storage` | admin | nothing → [`storage::Cleared`] |
//! | `GET /api/plugins/{name}/logs?lines=&follow=` | admin | nothing → page of [`plugins::LogLine`]; with `follow=true` server-sent events `log`, each one line |
//! | `GET /api/plugins/{name}/traffic` | admin | nothing → server-sent events `step`, each a step of a transcript |
//! | `GET /api/events?limit=&cursor=&after=&type=` | viewer | newest first, or oldest first after a `seq` → page of [`events::Event`] |
//! | `POST /api/events` | admin | [`events::NewEvent`] → [`events::PublishedEvent`] |
//! | `GET /api/events/{id}` | viewer | nothing → [`events::Event`] |
//! | `GET /api/events/stream?after=&type=` | viewer | server-sent events `event`, each an [`events::Event`]; `Last-Event-ID` goes on where it stopped |
//! | `GET /api/deliveries?plugin=&state=&event=&limit=&cursor=` | viewer | page of [`deliveries::Delivery`], oldest first |
//! | `GET /api/deliveries/{plugin}/{event}` | viewer | nothing → [`deliveries::DeliveryHistory`] |
//! | `POST /api/deliveries/{plugin}/{event}/redeliver`, `discard` | admin | nothing → [`deliveries::DeliveryHistory`] |
//! | `GET /api/attempts?plugin=&event=&result=&since=&until=&limit=&cursor=` | viewer | page of [`deliveries::Attempt`], by the time at which they ended |
//! | `POST /api/plugins/{name}/deliveries/redeliver`, `discard` | admin | all dead letters → [`deliveries::DeliveryChange`] |
//! | `POST /api/plugins/{name}/deliveries/pause` | admin | [`deliveries::PauseRequest`] → [`plugins::Plugin`] |
//! | `POST /api/plugins/{name}/deliveries/resume` | admin | nothing → [`plugins::Plugin`] |
//! | `POST /api/plugins/{name}/deliveries/replay` | admin | [`deliveries::ReplayRequest`] → [`deliveries::DeliveryChange`] |
//! | `GET /api/audit?plugin=&kind=&since=&until=&limit=&cursor=` | admin | page of [`audit::AuditEntry`], newest first |
//! | `GET, POST /api/projects`, `GET, DELETE /api/projects/{id or slug}` | viewer, admin | [`projects::NewProject`] → [`projects::Project`] |
//! | `GET, POST /api/environments`, `GET, DELETE /api/environments/{id}` | viewer, admin | [`projects::NewEnvironment`] → [`projects::Environment`] |
//! | `GET, POST /api/deployments`, `GET, PATCH /api/deployments/{id}` | viewer, admin | [`deployments::DeploymentReport`], [`deployments::DeploymentChange`] → [`deployments::Deployment`] |
//!
//! Every error is a [`problem::Problem`] as `application/problem+json`, whatever failed. Callers send
//! `Authorization: Bearer tmp_…`, or the session cookie of a browser.

pub mod access;
pub mod audit;
pub mod config;
pub mod deliveries;
pub mod deployments;
pub mod events;
pub mod page;
pub mod plugins;
pub mod problem;
pub mod projects;
pub mod sandbox;
pub mod storage;
pub mod version;
