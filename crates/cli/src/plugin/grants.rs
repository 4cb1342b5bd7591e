//! `temps plugin grants|grant|revoke`: what a plugin may do.

use clap::Args;
use temps_server::api::plugins::{GrantRef, GrantRequest, Grants};

use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, table, time};

/// Kinds of permissions that can be named.
const KINDS: [&str; 7] = ["method", "event", "project", "egress", "public_path", "limit", "database"];

/// Permissions on the command line.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Permissions as KIND=VALUE: method=get_project, event=deployment.*, project=3, egress=hooks.slack.com:443,
    /// public_path=/hook, limit=memory_max=512M, database=own (a file) or database=postgres (on the operator's server)
    #[arg(value_name = "KIND=VALUE", value_parser = parse)]
    grants: Vec<GrantRef>,
}

fn parse(text: &str) -> Result<GrantRef, String> {
    let (kind, value) = text
        .split_once('=')
        .ok_or_else(|| "write it as KIND=VALUE, for example method=get_project".to_owned())?;
    if !KINDS.contains(&kind) {
        return Err(format!("there is no kind {kind:?}; there are {}", KINDS.join(", ")));
    }
    if value.is_empty() {
        return Err("the value is missing".to_owned());
    }
    Ok(GrantRef { kind: kind.to_owned(), value: value.to_owned() })
}

/// Shows what a plugin may do, and what it asks for beyond that.
pub(crate) async fn show(name: &str, client: &Client, output: Output) -> Result<(), Failure> {
    let grants: Grants = client.get(&["api", "plugins", name, "grants"]).await?;
    output.data(&grants, text)
}

/// Gives permissions.
pub(crate) async fn grant(name: &str, named: &Named, client: &Client, output: Output) -> Result<(), Failure> {
    let request = GrantRequest { grants: named.grants.clone() };
    let grants: Grants = client.post(&["api", "plugins", name, "grants"], &request).await?;
    output.data(&grants, text)
}

/// Takes permissions back, one after the other; it ends at the first that is not there.
pub(crate) async fn revoke(
    name: &str,
    named: &Named,
    client: &Client,
    output: Output,
) -> Result<(), Failure> {
    let mut left: Option<Grants> = None;
    for grant in &named.grants {
        left = Some(client.delete(&["api", "plugins", name, "grants"], grant).await?);
    }
    let Some(left) = left else {
        return Err(Failure::usage("no permission was named").hint(format!(
            "name what to take back as KIND=VALUE; `temps plugin grants {name}` shows what there is"
        )));
    };
    output.data(&left, text)
}

fn text(grants: &Grants) -> String {
    let given = grants.given.iter().map(|grant| {
        let by = format!("{} on {}", grant.granted_by, time(grant.granted_at));
        [format!("{}={}", grant.kind, grant.value), "given".to_owned(), by]
    });
    let missing = grants
        .missing
        .iter()
        .map(|grant| [format!("{}={}", grant.kind, grant.value), "asked for".to_owned(), String::new()]);
    table(["PERMISSION", "STATE", "BY"], given.chain(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_a_kind_and_a_value() {
        let limit = parse("limit=memory_max=512M").unwrap();
        assert_eq!((limit.kind.as_str(), limit.value.as_str()), ("limit", "memory_max=512M"));
        for wrong in ["get_project", "methods=get_project", "method="] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
