//! What applications and APIs have in common: they are found by name or id, listed by pages, deleted after
//! a question, and have a history.

use crate::cli::client::{APPLICATIONS_READ, AUDIT_READ, Call, Client};
use crate::cli::event_rows::AuditEvent;
use crate::cli::exchange::Answer;
use crate::cli::table::{Column, Table, time};
use crate::cli::{CliError, Console, GlobalOptions};
use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// What is registered.
pub struct Kind {
    /// Its collection below `/admin`.
    pub collection: &'static str,
    /// The attribute that is its name.
    pub name: &'static str,
    /// What people call it.
    pub what: &'static str,
    /// The command that lists them.
    list: &'static str,
    /// The event that begins its history, and its id in there.
    registered: (&'static str, &'static str, &'static str),
}

/// Trusted Applications.
pub const APPLICATION: Kind = Kind {
    collection: "applications",
    name: "client_id",
    what: "application",
    list: "app list",
    registered: ("ApplicationRegistered", "application_uri", "application_id"),
};

/// APIs.
pub const API: Kind = Kind {
    collection: "apis",
    name: "audience",
    what: "API",
    list: "api list",
    registered: ("ApiRegistered", "audience", "api_id"),
};

/// Pages of a list.
#[derive(Debug, Args)]
pub struct PageArguments {
    /// The most to list, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Go on where a list ended
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

impl PageArguments {
    /// As parameters of a query.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let limit = ("limit", self.limit.to_string());
        [limit]
            .into_iter()
            .chain(self.after.clone().map(|after| ("after", after)))
            .collect()
    }
}

/// Says of which moment the answer speaks, when it is not of now.
pub fn tell_as_of(as_of: Option<&str>, console: &mut Console<'_>) -> Result<(), CliError> {
    let Some(as_of) = as_of else { return Ok(()) };
    match as_of.bytes().all(|byte| byte.is_ascii_digit()) {
        true => console.line(&format!("as of event {as_of}")),
        false => console.line(&format!("as of {}", time(as_of))),
    }
}

/// Tells that there is more than was listed.
pub fn tell_of_more(console: &mut Console<'_>, next: Option<&str>) {
    if let Some(next) = next {
        console.note(&format!("there are more: repeat with --after {next}"));
    }
}

impl Kind {
    /// The id of the one with this name, or of this id. A name may look like an id: many a client_id that
    /// came from elsewhere is a UUID.
    pub async fn find(&self, client: &Client, name_or_id: &str) -> Result<String, CliError> {
        match (self.named(client, name_or_id).await?, canonical_id(name_or_id)) {
            (Some(id), _) | (None, Some(id)) => Ok(id),
            (None, None) => Err(self.not_found(name_or_id)),
        }
    }

    async fn named(&self, client: &Client, name: &str) -> Result<Option<String>, CliError> {
        let query = [(self.name, name.to_owned())];
        let call = Call {
            query: &query,
            ..Call::default()
        };
        let answer = client.call(Method::GET, &["admin", self.collection], call).await?;
        let page: Map<String, Value> = answer.parse()?;
        let found = page
            .get(self.collection)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        // Looked at again: what is about to be changed or deleted is what was named.
        let found = found
            .iter()
            .find(|item| item.get(self.name).and_then(Value::as_str) == Some(name));
        match found {
            None => Ok(None),
            Some(item) => {
                let id = item.get("id").and_then(Value::as_str).and_then(canonical_id);
                id.map(Some)
                    .ok_or_else(|| answer.unexpected(format!("an {} without an id", self.what)))
            }
        }
    }

    fn not_found(&self, name: &str) -> CliError {
        let list = self.list;
        let hint = format!("`grantlog {list}` shows what there is; `history` also finds what was deleted");
        CliError::NotFound {
            what: self.what,
            name: name.to_owned(),
            hint,
        }
    }

    /// Shows one, as it is or as it was.
    pub async fn show(&self, client: &Client, name_or_id: &str, as_of: Option<String>) -> Result<Answer, CliError> {
        let id = self.find(client, name_or_id).await?;
        let query: Vec<_> = as_of.into_iter().map(|as_of| ("as_of", as_of)).collect();
        client
            .call(
                Method::GET,
                &["admin", self.collection, &id],
                Call {
                    query: &query,
                    ..Call::default()
                },
            )
            .await
    }

    /// Deletes one, when the person at the terminal agrees or has said so beforehand.
    pub async fn delete(
        &self,
        console: &mut Console<'_>,
        client: &Client,
        name_or_id: &str,
        is_agreed: bool,
        reason: Option<String>,
    ) -> Result<(), CliError> {
        let id = self.find(client, name_or_id).await?;
        let path = ["admin", self.collection, &id];
        if !is_agreed {
            let answer = client.call(Method::GET, &path, Call::default()).await?;
            let item: Map<String, Value> = answer.parse()?;
            let name = item.get(self.name).and_then(Value::as_str).unwrap_or(name_or_id);
            let question = format!(
                "Delete the {} {name} for ever? Its name is never given out again.",
                self.what
            );
            if !console.confirm(&question)? {
                return Err(CliError::Declined);
            }
        }
        client
            .call(
                Method::DELETE,
                &path,
                Call {
                    body: Some(with_reason(Map::new(), reason)),
                    ..Call::default()
                },
            )
            .await?;
        Ok(())
    }

    /// Shows all that happened to one, oldest first.
    pub async fn history(
        &self,
        console: &mut Console<'_>,
        options: &GlobalOptions,
        name_or_id: &str,
    ) -> Result<(), CliError> {
        // Who has the id needs no other right than to read the trail.
        let (client, id) = match canonical_id(name_or_id) {
            Some(id) => (Client::sign_in(console, options, &[AUDIT_READ]).await?, id),
            None => {
                let client = Client::sign_in(console, options, &[APPLICATIONS_READ, AUDIT_READ]).await?;
                let id = match self.named(&client, name_or_id).await? {
                    Some(id) => id,
                    None => self.deleted(&client, name_or_id).await?,
                };
                (client, id)
            }
        };
        let answer = client
            .call(
                Method::GET,
                &["admin", self.collection, &id, "history"],
                Call::default(),
            )
            .await?;
        if options.remote.json {
            return console.json(&answer.body);
        }
        #[derive(Deserialize)]
        struct History {
            #[serde(default)]
            events: Vec<AuditEvent>,
        }
        let History { events } = answer.parse()?;
        console.line(&format!("{} {name_or_id}, id {id}", self.what))?;
        console.line("")?;
        print_history(events, console)
    }

    /// The id of one that may be deleted: the trail knows it still.
    pub async fn find_even_deleted(&self, client: &Client, name_or_id: &str) -> Result<String, CliError> {
        match canonical_id(name_or_id) {
            Some(id) => Ok(id),
            None => match self.named(client, name_or_id).await? {
                Some(id) => Ok(id),
                None => self.deleted(client, name_or_id).await,
            },
        }
    }

    /// The id of one that was deleted, from the event that registered it.
    async fn deleted(&self, client: &Client, name: &str) -> Result<String, CliError> {
        let (event_type, name_member, id_member) = self.registered;
        let mut query = vec![("type", event_type.to_owned()), ("limit", "1000".to_owned())];
        if self.name == "client_id" {
            query.push(("client_id", name.to_owned()));
        }
        let call = Call {
            query: &query,
            ..Call::default()
        };
        let answer = client.call(Method::GET, &["audit", "events"], call).await?;
        #[derive(Deserialize)]
        struct Found {
            #[serde(default)]
            events: Vec<AuditEvent>,
        }
        let Found { events } = answer.parse()?;
        let registered = events
            .iter()
            .find(|event| event.data.get(name_member).and_then(Value::as_str) == Some(name));
        let id = registered
            .and_then(|event| event.data.get(id_member))
            .and_then(Value::as_str)
            .and_then(canonical_id);
        id.ok_or_else(|| self.not_found(name))
    }
}

/// What happened, oldest first.
pub fn print_history(events: Vec<AuditEvent>, console: &mut Console<'_>) -> Result<(), CliError> {
    let mut table = Table::new([
        Column::number("INDEX"),
        Column::whole("TIME"),
        Column::whole("TYPE"),
        Column::wrapped("ACTOR", 40),
        Column::wrapped("WHAT", 24).or_below(""),
    ]);
    for event in events {
        table.row([
            event.index.to_string(),
            event.time(),
            event.event_type.clone(),
            event.actor.clone(),
            event.what(),
        ]);
    }
    table.print(console)
}

/// Refuses a deletion that nobody can be asked about: before anything is sent.
pub fn check_agreement(console: &Console<'_>, is_agreed: bool) -> Result<(), CliError> {
    if is_agreed || console.input_is_terminal {
        return Ok(());
    }
    Err(CliError::Usage(
        "there is no terminal to ask on: add --yes to delete without a question".into(),
    ))
}

/// A body with the reason that the event will carry.
pub fn with_reason(mut body: Map<String, Value>, reason: Option<String>) -> Map<String, Value> {
    if let Some(reason) = reason {
        body.insert("reason".into(), reason.into());
    }
    body
}

fn canonical_id(text: &str) -> Option<String> {
    // Only as it is written everywhere; 32 digits without hyphens are more likely a name.
    Uuid::try_parse(text)
        .ok()
        .filter(|_| text.len() == 36)
        .map(|id| id.hyphenated().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_hyphenated_uuid() {
        let id = "018f2d3c-0000-7000-8000-00000000000a";
        assert_eq!(canonical_id(id).as_deref(), Some(id));
        assert_eq!(canonical_id(&id.to_uppercase()).as_deref(), Some(id));
        for other in [
            "018f2d3c000070008000000000000000",
            "{018f2d3c-0000-7000-8000-00000000000a}",
            "my.app",
            "",
        ] {
            assert_eq!(canonical_id(other), None, "{other}");
        }
    }
}
