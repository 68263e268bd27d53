//! `[[forwarding]]`: one table per sink.

use super::Origin;
use super::settings::{Accepted, Settings};
use crate::forwarding::settings::{
    EventFilter, Facility, OtlpTarget, SecretSource, SinkName, SinkSettings, StartAt, SyslogTarget, Target, TlsFiles,
    WebhookTarget,
};
use crate::forwarding::syslog::message::{hostname_of_machine, is_hostname};
use crate::forwarding::{MAX_SINKS, settings};
use crate::outgoing::loopback::is_loopback;
use std::collections::BTreeMap;
use std::time::Duration;
use url::Url;

/// The longest name of a variable.
const MAX_VARIABLE_CHARACTERS: usize = 256;
/// Events in one delivery at the most, whatever is set.
const MAX_BATCH_EVENTS: u64 = 1_000;
const OTLP_BATCH_EVENTS: u64 = 256;
const SYSLOG_BATCH_EVENTS: u64 = 256;
/// One event is what every receiver of webhooks understands.
const WEBHOOK_BATCH_EVENTS: u64 = 1;

/// What a sink speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unset,
    Otlp,
    Syslog,
    Webhook,
}

/// Reads every sink. `service_name` is what telemetry calls this service.
pub(super) fn read(settings: &mut Settings, service_name: &str) -> Vec<SinkSettings> {
    let mut names: BTreeMap<SinkName, Origin> = BTreeMap::new();
    settings.each_table("forwarding", MAX_SINKS, |table| {
        let name_origin = table.origin("forwarding.name");
        let sink = sink(table, service_name);
        if let Some(sink) = &sink
            && names.insert(sink.name.clone(), name_origin.clone()).is_some()
        {
            let message = format!("two sinks are named {}: each has a checkpoint of its name", sink.name);
            table.contradiction(name_origin, message);
        }
        sink
    })
}

fn sink(table: &mut Settings, service_name: &str) -> Option<SinkSettings> {
    let begin = table.beginning();
    let required = |table: &mut Settings, key: &str| {
        let message = format!("[[forwarding]] has no {key}");
        table.contradiction(begin.clone(), message);
    };
    // Each key is read whatever the others are, so that every problem is told at once.
    let has_name = table.origin("forwarding.name") != Origin::Default;
    let name = table.optional_text("forwarding.name", |text| {
        SinkName::parse(text).ok_or_else(|| format!("1 to {} of a-z, 0-9 and '-'", settings::MAX_NAME_BYTES).into())
    });
    let kind_origin = table.origin("forwarding.kind");
    let kind = table.choice(
        "forwarding.kind",
        Kind::Unset,
        &[
            ("otlp", Kind::Otlp),
            ("syslog", Kind::Syslog),
            ("webhook", Kind::Webhook),
        ],
    );
    let url_origin = table.origin("forwarding.url");
    let url = table.optional_text("forwarding.url", |text| url(text, kind));
    if let Some(url) = &url
        && (!url.username().is_empty() || url.password().is_some())
    {
        let message =
            "forwarding.url names a user or a password, which has no place in this file; use bearer_token_env";
        table.contradiction(url_origin.clone(), message.to_owned());
    }
    if !has_name {
        required(table, "name");
    }
    if kind_origin == Origin::Default {
        required(table, "kind");
    }
    if url_origin == Origin::Default {
        required(table, "url");
    }
    let filter = table.text("forwarding.filter", EventFilter::default(), |text| {
        EventFilter::parse(text).map_err(|error| format!("a filter of audit events; {error}").into())
    });
    let from = table.choice(
        "forwarding.from",
        StartAt::Now,
        &[("now", StartAt::Now), ("beginning", StartAt::Beginning)],
    );
    let default_batch = match kind {
        Kind::Webhook | Kind::Unset => WEBHOOK_BATCH_EVENTS,
        Kind::Otlp => OTLP_BATCH_EVENTS,
        Kind::Syslog => SYSLOG_BATCH_EVENTS,
    };
    let batch_events = table.integer("forwarding.batch_events", default_batch, 1..=MAX_BATCH_EVENTS) as usize;
    let timeout = Duration::from_secs(table.integer("forwarding.timeout_seconds", 10, 1..=300));
    let retry_max = Duration::from_secs(table.integer("forwarding.retry_max_seconds", 60, 1..=3_600));
    let has_tls_files = ["ca_file", "client_certificate_file", "client_key_file"]
        .map(|key| table.origin(&format!("forwarding.{key}")))
        .into_iter()
        .find(|origin| *origin != Origin::Default);
    let tls = tls_files(table);
    if let (Some(origin), Some(url)) = (has_tls_files, &url)
        && matches!(url.scheme(), "http" | "tcp")
    {
        let message = format!(
            "files for TLS are set, but forwarding.url is {}: nothing would be encrypted",
            url.scheme()
        );
        table.contradiction(origin, message);
    }
    table.misplaced_secret("forwarding.secret");
    table.misplaced_secret("forwarding.bearer_token");
    let signing_secret = secret(
        table,
        ["forwarding.secret_env", "forwarding.secret_file"],
        kind == Kind::Webhook,
    );
    let token_keys = ["forwarding.bearer_token_env", "forwarding.bearer_token_file"];
    let token_origin = token_keys.map(|key| table.origin(key));
    let bearer_token = secret(table, token_keys, kind != Kind::Syslog);
    if let (Some(origin), Some(url)) = (token_origin.into_iter().find(|origin| *origin != Origin::Default), &url)
        && url.scheme() == "http"
        && !is_loopback(url)
    {
        // RFC 6750 §5.3: whoever is on the way could use it.
        let message = "a bearer token is set, but forwarding.url is http: the token would go to another machine \
                       unencrypted; use https";
        table.contradiction(origin, message.to_owned());
    }
    let facility_origin = table.origin("forwarding.facility");
    let facility = table.choice("forwarding.facility", Facility::AUTHPRIV, &Facility::CHOICES);
    let hostname_origin = table.origin("forwarding.hostname");
    let hostname = table.optional_text("forwarding.hostname", |text| match is_hostname(text) {
        true => Ok(text.to_owned()),
        false => Err("1 to 255 visible ASCII characters".into()),
    });
    if !matches!(kind, Kind::Syslog | Kind::Unset) {
        for (origin, key) in [(facility_origin, "facility"), (hostname_origin, "hostname")] {
            if origin != Origin::Default {
                table.contradiction(origin, format!("forwarding.{key} is for the kind syslog alone"));
            }
        }
    }
    let (name, url) = (name?, url?);
    let target = match kind {
        Kind::Unset => return None,
        Kind::Otlp => Target::Otlp(OtlpTarget {
            url,
            tls,
            bearer_token,
            service_name: service_name.to_owned(),
        }),
        Kind::Syslog => Target::Syslog(SyslogTarget {
            url,
            tls,
            facility,
            hostname: hostname.unwrap_or_else(hostname_of_machine),
        }),
        Kind::Webhook => Target::Webhook(WebhookTarget {
            url,
            tls,
            secret: match signing_secret {
                Some(secret) => secret,
                None => {
                    required(table, "secret_env or secret_file, which a webhook needs");
                    return None;
                }
            },
            bearer_token,
        }),
    };
    Some(SinkSettings {
        name,
        target,
        filter,
        from,
        batch_events,
        timeout,
        retry_max,
    })
}

fn tls_files(table: &mut Settings) -> TlsFiles {
    let ca_file = table.optional_path("forwarding.ca_file");
    let origins = [
        table.origin("forwarding.client_certificate_file"),
        table.origin("forwarding.client_key_file"),
    ];
    let files = [
        table.optional_path("forwarding.client_certificate_file"),
        table.optional_path("forwarding.client_key_file"),
    ];
    let client = match files {
        [Some(certificate), Some(key)] => Some((certificate, key)),
        [None, None] => None,
        _ => {
            let origin = origins.into_iter().find(|origin| *origin != Origin::Default);
            table.contradiction(
                origin.unwrap_or(Origin::Default),
                "forwarding.client_certificate_file and forwarding.client_key_file go together".to_owned(),
            );
            None
        }
    };
    TlsFiles { ca_file, client }
}

fn secret(table: &mut Settings, keys: [&'static str; 2], has_use: bool) -> Option<SecretSource> {
    let origins = keys.map(|key| table.origin(key));
    let [variable, file] = keys;
    let found = (
        table.optional_text(variable, |text| Ok(text.to_owned())),
        table.optional_path(file),
    );
    let origin = origins.into_iter().find(|origin| *origin != Origin::Default);
    if let Some(origin) = &origin
        && !has_use
    {
        let message = format!("{variable} and {file} have no use for this kind of sink");
        table.contradiction(origin.clone(), message);
    }
    match found {
        (Some(name), _) if !is_variable_name(&name) => {
            let message = format!(
                "{variable} is not the name of a variable of the environment (A-Z, 0-9 and _), such as SIEM_SECRET; \
                 the secret itself has no place in this file"
            );
            table.contradiction(origin.unwrap_or(Origin::Default), message);
            None
        }
        (Some(_), Some(_)) => {
            let message = format!("{variable} and {file} are both set; keep one");
            table.contradiction(origin.unwrap_or(Origin::Default), message);
            None
        }
        (Some(variable), None) => Some(SecretSource::Environment(variable)),
        (None, Some(file)) => Some(SecretSource::File(file)),
        (None, None) => None,
    }
}

/// A name, and not the secret itself: that would be shown as the name of a variable that is not set.
fn is_variable_name(text: &str) -> bool {
    text.len() <= MAX_VARIABLE_CHARACTERS
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

fn url(text: &str, kind: Kind) -> Result<Url, Accepted> {
    let accepted = match kind {
        Kind::Otlp => {
            r#"the http or https URL of an OTLP/gRPC receiver, without a path, such as "https://otel.example.com:4317""#
        }
        Kind::Syslog => r#"tcp or tls, a host and a port, such as "tls://logs.example.com:6514""#,
        Kind::Webhook => {
            r#"an https URL (http on this machine alone) such as "https://siem.example.com/hooks/grantlog""#
        }
        Kind::Unset => "a URL",
    };
    let url = Url::parse(text).map_err(|_| accepted)?;
    if !url.username().is_empty() || url.password().is_some() {
        // Refused by the caller, who does not show it.
        return Ok(url);
    }
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    let bare = matches!(url.path(), "" | "/") && url.query().is_none();
    let is_fit = match (kind, url.scheme()) {
        (Kind::Otlp, "http" | "https") => bare,
        (Kind::Syslog, "tcp" | "tls") => bare && url.port().is_some(),
        (Kind::Webhook, "https") => true,
        (Kind::Webhook, "http") => is_loopback(&url),
        (Kind::Unset, _) => true,
        _ => false,
    };
    match is_fit && has_host && url.fragment().is_none() {
        true => Ok(url),
        false => Err(accepted.into()),
    }
}
