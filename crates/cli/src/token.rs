//! `temps token`: API tokens, and `temps login-link`.

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};
use temps_server::api::access::{CreatedToken, LoginLink, NewToken, Token, TokenRole};
use temps_server::api::page::PageQuery;

use crate::arguments::Limit;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{Output, plain, table, time, time_or_dash};

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token; its secret is shown once
    Create {
        /// Name for people, unique
        name: String,
        /// What its bearer may do
        #[arg(long, value_enum, default_value_t = Role::Viewer)]
        role: Role,
        /// Days after which it ends; never when left out
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: Option<u32>,
    },
    /// List tokens, without their secrets
    List(Limit),
    /// End a token at once
    Revoke {
        /// Id of the token
        id: i32,
    },
}

/// What a token's bearer may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// Look
    Viewer,
    /// Do everything
    Admin,
}

/// Does what was asked.
pub(crate) async fn run(command: Command, client: &Client, output: Output) -> Result<(), Failure> {
    match command {
        Command::Create { name, role, days } => {
            let role = match role {
                Role::Viewer => TokenRole::Viewer,
                Role::Admin => TokenRole::Admin,
            };
            let new = NewToken { name, role, expires_at: days.map(in_days) };
            let created: CreatedToken = client.post(&["api", "tokens"], &new).await?;
            output.data(&created, |created| plain(&created.secret))?;
            if !output.json {
                output.say("this is shown once; keep it where only its user can read it");
            }
            Ok(())
        }
        Command::List(Limit { limit }) => {
            let page = client.list::<Token>(&["api", "tokens"], &PageQuery::default(), limit).await?;
            output.data(&page, |page| tokens(&page.items))
        }
        Command::Revoke { id } => {
            let _: Value = client.delete(&["api", "tokens", &id.to_string()], &()).await?;
            output.data(&json!({ "revoked": id }), |_| format!("revoked {id}"))
        }
    }
}

/// Makes a link that signs one browser in.
pub(crate) async fn login_link(client: &Client, output: Output) -> Result<(), Failure> {
    let link: LoginLink = client.post(&["api", "login-links"], &json!({})).await?;
    output.data(&link, |link| plain(&link.url))?;
    if !output.json {
        output.say(&format!("it works once, until {}", time(link.expires_at)));
    }
    Ok(())
}

fn in_days(days: u32) -> DateTime<Utc> {
    Utc::now() + TimeDelta::days(i64::from(days))
}

fn tokens(tokens: &[Token]) -> String {
    let rows = tokens.iter().map(|token| {
        let role = match token.role {
            TokenRole::Viewer => "viewer",
            TokenRole::Admin => "admin",
        };
        [
            token.id.to_string(),
            token.name.clone(),
            role.to_owned(),
            time(token.created_at),
            time_or_dash(token.last_used_at),
            time_or_dash(token.expires_at),
        ]
    });
    table(["ID", "NAME", "ROLE", "CREATED", "LAST USED", "EXPIRES"], rows)
}
