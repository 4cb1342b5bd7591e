//! What a request of a plugin asks for: the platform's data (`methods`), or what the host keeps for it (`storage`).

use chrono::Utc;
use serde_json::Value;
use serde_json::value::RawValue;
use temps_protocol::data::Method;
use temps_protocol::{ErrorCode, OwnMethod};

use super::methods::{self, Refusal};
use super::open::ChannelSpec;
use super::storage;
use crate::grants::Grants;

/// A request that was read, checked and granted as far as its words tell.
pub(super) enum Call {
    /// Data of the platform.
    Data(methods::Call),
    /// What the host keeps for this plugin.
    Own(storage::Call),
}

impl Call {
    /// The name of the method that was called.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Call::Data(call) => call.method().as_str(),
            Call::Own(call) => call.method().as_str(),
        }
    }
}

/// The name of a method, if there is one of this name.
pub(super) fn known(method: &str) -> Option<&'static str> {
    Method::parse(method).map(Method::as_str).or_else(|| OwnMethod::parse(method).map(OwnMethod::as_str))
}

/// Reads a request and judges it by what it says.
pub(super) fn read(method: &str, params: &Value, grants: &Grants) -> Result<Call, Refusal> {
    if let Some(own) = OwnMethod::parse(method) {
        return storage::read(own, params).map(Call::Own);
    }
    let Some(method) = Method::parse(method) else {
        let known = Method::ALL.map(Method::as_str).into_iter().chain(OwnMethod::ALL.map(OwnMethod::as_str));
        let known = known.collect::<Vec<_>>().join(", ");
        let name: String = method.chars().take(64).collect();
        let message = format!("there is no method {name:?}; there are {known}");
        return Err(methods::plain(ErrorCode::MethodNotFound, message));
    };
    methods::read(method, params, grants).map(Call::Data)
}

/// Does what was asked for.
pub(super) async fn carry_out(call: Call, spec: &ChannelSpec) -> Result<Box<RawValue>, Refusal> {
    match call {
        Call::Data(call) => methods::carry_out(call, &*spec.platform, &spec.grants).await,
        Call::Own(call) => {
            let config = spec.config.borrow().clone();
            storage::carry_out(call, spec.name.as_str(), &*spec.store, &config, Utc::now()).await
        }
    }
}
