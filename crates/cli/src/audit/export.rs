//! `temps audit export`: the trail to stdout as it comes, whatever its size.

use temps_server::api::audit::AuditStreamQuery;

use crate::client::Client;
use crate::exit::Failure;
use crate::output::stdout_bytes;

pub(super) async fn run(query: &AuditStreamQuery, client: &Client) -> Result<(), Failure> {
    let mut download = client.download(&["api", "audit", "export"], query).await?;
    while let Some(chunk) = download.chunk().await? {
        stdout_bytes(&chunk)?;
    }
    Ok(())
}
