use super::*;
use crate::credentials::sealing::MasterKey;
use base64::Engine as _;
use grantlog_projections::values::{KeyId, SigningAlgorithm};
use std::io::Write as _;
use std::time::Duration;

const EXAMPLE: &str = include_str!("../../grantlog.example.toml");

#[test]
fn without_file_environment_and_flags_every_default_holds() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.data_dir, Path::new("./data"));
    assert_eq!(config.server.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.server.issuer, None);
    assert_eq!(config.server.workers, std::thread::available_parallelism().unwrap());
    assert_eq!(config.store.location, StoreLocation::Sqlite("./data/events.db".into()));
    assert_eq!(config.tokens.default_lifetime.seconds(), 3_600);
    assert_eq!(config.keys.rotate_after, Duration::from_secs(90 * 86_400));
    assert!(
        matches!(&config.keys.master_key, MasterKeySource::DataFolder(path) if path == Path::new("./data/master.key"))
    );
    assert!(config.tls.is_none());
    assert!(config.telemetry.otlp_endpoint.is_none());
    let no_file = Config::load(None, std::iter::empty(), CliOverrides::default()).unwrap();
    assert_eq!(no_file.digest(), config.digest());
}

#[test]
fn the_example_names_every_key_with_its_default_and_explains_it() {
    let mut uncommented = String::new();
    let mut explained = false;
    for line in EXAMPLE.lines() {
        match line.strip_prefix('#') {
            Some(text) if !text.is_empty() && !text.starts_with(' ') => {
                assert!(explained, "nothing explains {line}");
                uncommented += text;
            }
            Some(_) => explained = true,
            None => {
                explained &= !line.is_empty();
                assert!(
                    line.is_empty() || line.starts_with('['),
                    "not a comment, a section or empty: {line}"
                );
                uncommented += line;
            }
        }
        uncommented.push('\n');
    }
    let defaults = load("", &[]).unwrap();
    assert_eq!(
        load(EXAMPLE, &[]).unwrap().digest(),
        defaults.digest(),
        "as it is shipped"
    );
    assert_eq!(
        load(&uncommented, &[]).unwrap().effective,
        defaults.effective,
        "with every line uncommented"
    );
    let table: toml::Table = uncommented.parse().unwrap();
    let mut named = Vec::new();
    for (section, value) in &table {
        match value.as_table() {
            Some(keys) => named.extend(keys.keys().map(|key| format!("{section}.{key}"))),
            None => named.push(section.clone()),
        }
    }
    named.sort();
    assert_eq!(named, defaults.effective.keys().copied().collect::<Vec<_>>());
}

#[test]
fn a_kurrentdb_is_named_by_its_connection_string_and_its_password_is_shown_nowhere() {
    let load = |url: &str| {
        let variables = [
            ("GRANTLOG__STORE__URL", url),
            ("GRANTLOG__KEYS__MASTER_KEY_FILE", "master.key"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Config::load(None, variables.into_iter(), CliOverrides::default())
    };
    let config = load("esdb://svc:hush@a:1,b:2?tls=true").unwrap();
    assert_eq!(config.store.location.kind(), "kurrentdb");
    assert_eq!(config.store.location.to_string(), "esdb://***:***@a:1,b:2");
    assert!(!format!("{config:?}").contains("hush"));
    let message = load("kurrentdb://svc:hush@a?tls=perhaps").unwrap_err().to_string();
    assert!(
        message.contains("tls is true or false") && !message.contains("hush"),
        "{message}"
    );
}

#[test]
fn every_key_takes_a_value_from_the_file() {
    let config = load(
        r#"
            data_dir = "/var/lib/grantlog"
            server.listen = "[::]:443"
            server.issuer = "https://id.example.com/id"
            server.workers = 3
            server.trusted_proxies = ["10.0.0.0/8", "::1"]
            server.shutdown_timeout_seconds = 1
            server.max_connections = 2
            server.client_request_timeout_seconds = 4
            server.keep_alive_seconds = 0
            tls = { certificate_file = "c.pem", key_file = "k.pem" }
            node = { name = "eu-1", roles = ["audit"] }
            [store]
            url = "sqlite:/fast/log.db"
            queue_capacity = 5
            max_batch_events = 0x100
            stream_prefix = "log-2."
            max_staleness_seconds = 7
            append_timeout_seconds = 8
            connect_timeout_seconds = 9
            [tokens]
            default_lifetime_seconds = 60
            default_audience = "https://api.example.com"
            default_signing_algorithm = "EdDSA"
            [lockout]
            max_failures = 6
            max_refusals_per_source = 8
            window_seconds = 7
            max_tracked = 1_000
            [secrets]
            default_overlap_seconds = 0
            [keys]
            rotate_after_days = 9
            announce_days_ahead = 8
            rsa_bits = 4096
            master_key_file = "/run/secrets/master"
            [projections]
            checkpoint_every_events = 10
            checkpoint_every_seconds = 11
            [transparency]
            origin = "log.example.com/audit"
            key_file = "/run/secrets/log.key"
            public = true
            public_entries = true
            publish_interval_milliseconds = 5
            [sessions]
            idle_seconds = 60
            absolute_seconds = 600
            max_per_application = 3
            [retention]
            index_days = 90
            index_max_bytes = 1_000_000
            log_days = 400
            log_max_bytes = 2_000_000
            [telemetry]
            log_format = "json"
            log_filter = "warn,grantlog=debug"
            otlp_endpoint = "https://otel.example.com:4317"
            service_name = "id"
            trace_sample_ratio = 0.25
        "#,
        &[],
    )
    .unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/grantlog"));
    assert_eq!(config.server.listen, "[::]:443".parse().unwrap());
    assert_eq!(config.server.issuer.as_ref().unwrap().path(), "/id");
    assert_eq!(config.server.workers.get(), 3);
    assert_eq!(
        config.server.trusted_proxies,
        ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]
    );
    assert_eq!(config.server.shutdown_timeout, Duration::from_secs(1));
    assert_eq!(config.server.max_connections, 2);
    assert_eq!(config.server.client_request_timeout, Duration::from_secs(4));
    assert_eq!(config.server.keep_alive, Duration::ZERO);
    let tls = config.tls.as_ref().unwrap();
    assert_eq!(
        (tls.certificate_file.as_path(), tls.key_file.as_path()),
        (Path::new("c.pem"), Path::new("k.pem"))
    );
    assert_eq!(config.store.location, StoreLocation::Sqlite("/fast/log.db".into()));
    assert_eq!((config.store.queue_capacity, config.store.max_batch_events), (5, 256));
    assert_eq!(config.store.stream_prefix, "log-2.");
    assert_eq!(config.store.max_staleness, Duration::from_secs(7));
    assert_eq!(config.store.append_timeout, Duration::from_secs(8));
    assert_eq!(config.store.connect_timeout, Duration::from_secs(9));
    assert_eq!(config.tokens.default_lifetime.seconds(), 60);
    assert_eq!(
        config.tokens.default_audience.as_ref().unwrap().as_str(),
        "https://api.example.com"
    );
    assert_eq!(config.tokens.default_signing_algorithm.as_str(), "EdDSA");
    assert_eq!((config.lockout.max_failures, config.lockout.max_tracked), (6, 1_000));
    assert_eq!(config.lockout.max_refusals_per_source, 8);
    assert_eq!(config.lockout.window, Duration::from_secs(7));
    assert_eq!(config.retention.index_after, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(config.retention.log_after, Some(Duration::from_secs(400 * 86_400)));
    assert_eq!(config.retention.index_max_bytes, Some(1_000_000));
    assert_eq!(config.retention.log_max_bytes, Some(2_000_000));
    assert_eq!(config.sessions.idle, Duration::from_secs(60));
    assert_eq!(config.sessions.absolute, Duration::from_secs(600));
    assert_eq!(config.sessions.max_per_application, Some(3));
    assert_eq!(config.secrets.default_overlap, Duration::ZERO);
    assert_eq!(config.keys.rotate_after, Duration::from_secs(9 * 86_400));
    assert_eq!(config.keys.announce_ahead, Duration::from_secs(8 * 86_400));
    assert_eq!(config.keys.rsa_bits, 4_096);
    assert!(matches!(&config.keys.master_key, MasterKeySource::File(path) if path == Path::new("/run/secrets/master")));
    assert_eq!(config.projections.checkpoint_every_events, 10);
    assert_eq!(config.projections.checkpoint_every, Duration::from_secs(11));
    let transparency = &config.transparency;
    assert_eq!(transparency.origin.as_deref(), Some("log.example.com/audit"));
    assert_eq!(transparency.key_file, Path::new("/run/secrets/log.key"));
    assert!(transparency.is_public && transparency.entries_are_public);
    assert_eq!(transparency.publish_interval, Duration::from_millis(5));
    assert_eq!(config.telemetry.log_format, LogFormat::Json);
    assert_eq!(config.telemetry.log_filter, "warn,grantlog=debug");
    assert_eq!(
        config.telemetry.otlp_endpoint.as_ref().unwrap().as_str(),
        "https://otel.example.com:4317/"
    );
    assert_eq!(config.telemetry.service_name, "id");
    assert_eq!(config.node.name.as_ref().map(|name| name.as_str()), Some("eu-1"));
    assert!(config.node.roles.audit && !config.node.roles.token);
    assert_eq!(config.telemetry.trace_sample_ratio, 0.25);
    let defaults = load("", &[]).unwrap();
    for (key, value) in &config.effective {
        // Public is the default, and entries are public only when that is.
        let is_default = *key == "transparency.public";
        assert!(
            is_default || value != &defaults.effective[key],
            "{key} is not in this test"
        );
    }
    assert!(!load("transparency.public = false", &[]).unwrap().transparency.is_public);
}

#[test]
fn a_variable_wins_over_the_file_and_a_flag_over_both() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nworkers = 1\nmax_connections = 1";
    let environment = [
        ("GRANTLOG__SERVER__LISTEN", "127.0.0.1:2"),
        ("GRANTLOG__SERVER__WORKERS", "2"),
    ];
    let flags = CliOverrides {
        data_dir: Some("/flag".into()),
        listen: Some("127.0.0.1:3".into()),
        issuer: Some("https://flag.example.com".into()),
    };
    let config = load_with(file, &environment, flags).unwrap();
    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.server.workers.get(), 2);
    assert_eq!(config.server.max_connections, 1);
    assert_eq!(
        config.server.issuer.as_ref().unwrap().as_str(),
        "https://flag.example.com"
    );
    assert_eq!(config.data_dir, Path::new("/flag"));
}

#[test]
fn a_variable_is_a_toml_value_when_it_looks_like_one_and_text_where_text_is_wanted() {
    let config = load(
        "",
        &[
            ("GRANTLOG__SERVER__TRUSTED_PROXIES", r#"["10.0.0.0/8"]"#),
            ("GRANTLOG__TELEMETRY__TRACE_SAMPLE_RATIO", "0.5"),
            ("GRANTLOG__TELEMETRY__SERVICE_NAME", "2024"),
            ("GRANTLOG__TELEMETRY__LOG_FILTER", "off"),
            ("GRANTLOG__TOKENS__DEFAULT_AUDIENCE", "true"),
            ("GRANTLOG__KEYS__RSA_BITS", "3072"),
            ("GRANTLOG__DATA_DIR", "'/quoted'"),
            ("GRANTLOG__SERVER__ISSUER", ""),
            ("GRANTLOG_URL", "not ours"),
            ("PATH", "not ours either"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.trusted_proxies, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(config.telemetry.trace_sample_ratio, 0.5);
    assert_eq!(config.telemetry.service_name, "2024");
    assert_eq!(config.tokens.default_audience.as_ref().unwrap().as_str(), "true");
    assert_eq!(config.keys.rsa_bits, 3_072);
    assert_eq!(config.data_dir, Path::new("/quoted"));
    assert_eq!(config.server.issuer, None);
}

#[test]
fn an_unknown_key_is_named_with_its_path_its_line_and_the_nearest_known_key() {
    for (file, message) in [
        (
            "[server]\nlisten = \"127.0.0.1:1\"\nlisen = 5",
            "line 3: unknown key server.lisen; did you mean server.listen?",
        ),
        (
            "[server.max_conections]\na = 1",
            "line 1: unknown key server.max_conections; did you mean server.max_connections?",
        ),
        (
            "[sever]\nlisten = 5\nworkers = 1",
            "line 1: unknown key sever; did you mean server?",
        ),
        (
            "data-dir = \"x\"",
            "line 1: unknown key data-dir; did you mean data_dir?",
        ),
        (
            "listen = \"127.0.0.1:1\"",
            "line 1: unknown key listen; did you mean server.listen?",
        ),
        (
            "[server]\ncertificate_file = \"c\"",
            "line 2: unknown key server.certificate_file; did you mean tls.certificate_file?",
        ),
        (
            "\"server.listen\" = \"127.0.0.1:1\"",
            "line 1: unknown key \"server.listen\"; did you mean server.listen?",
        ),
        (
            "[secrets]\nencryption = true",
            "line 2: unknown key secrets.encryption; the keys of [secrets] are secrets.default_overlap_seconds",
        ),
        (
            "[[portal]]\nprefix = \"/api\"",
            "line 1: unknown key portal; the sections are keys, lockout, node, projections, retention, secrets, server, sessions, store, telemetry, tls, tokens, transparency",
        ),
    ] {
        assert_eq!(file_error(file), message);
    }
}

#[test]
fn an_unknown_variable_is_named_with_the_nearest_known_one() {
    for (variable, message) in [
        (
            "GRANTLOG__SERVER__LISEN",
            "GRANTLOG__SERVER__LISEN: unknown key server.lisen; did you mean GRANTLOG__SERVER__LISTEN?",
        ),
        (
            "GRANTLOG__SERVER__listen",
            "GRANTLOG__SERVER__listen: unknown key server.listen; did you mean GRANTLOG__SERVER__LISTEN?",
        ),
        (
            "GRANTLOG__SERVER_LISTEN",
            "GRANTLOG__SERVER_LISTEN: unknown key server_listen; did you mean GRANTLOG__SERVER__LISTEN?",
        ),
    ] {
        assert_eq!(error("", &[(variable, "127.0.0.1:1")]), message);
    }
}

#[test]
fn a_value_that_is_not_accepted_is_shown_with_what_is() {
    for (file, message) in [
        (
            "[server]\nlisten = 8080",
            r#"server.listen: found the integer 8080; accepted is a string"#,
        ),
        (
            "[server]\nlisten = \"localhost:8080\"",
            r#"server.listen: found the string "localhost:8080"; accepted is an IP address and port such as "127.0.0.1:8080" or "[::]:8080""#,
        ),
        (
            "[server]\nworkers = -1",
            "server.workers: found the integer -1; accepted is a whole number from 0 to 256",
        ),
        (
            "[server]\nworkers = 2.0",
            "server.workers: found the number 2.0; accepted is a whole number from 0 to 256",
        ),
        (
            "[server]\nworkers = 99999999999999999999",
            "server.workers: found the integer 99999999999999999999; accepted is a whole number from 0 to 256",
        ),
        (
            "[server]\nissuer = \"https://id.example.com/\"",
            r#"server.issuer: found the string "https://id.example.com/"; accepted is the URL in its normal form, without a trailing slash: "https://id.example.com""#,
        ),
        (
            "[server]\ntrusted_proxies = \"10.0.0.0/8\"",
            r#"server.trusted_proxies: found the string "10.0.0.0/8"; accepted is a list of strings in brackets"#,
        ),
        (
            "[server]\ntrusted_proxies = [\"::1\", \"proxy\"]",
            r#"server.trusted_proxies: found a list of 2; accepted is for its item "proxy": an IP address or network such as "127.0.0.1" or "10.0.0.0/8""#,
        ),
        (
            "[server]\ntrusted_proxies = [\"10.1.2.3/8\"]",
            r#"server.trusted_proxies: found a list of 1; accepted is for its item "10.1.2.3/8": the network "10.0.0.0/8" or the address "10.1.2.3""#,
        ),
        (
            "[server]\ntrusted_proxies = [1]",
            "server.trusted_proxies: found a list of 1; accepted is a list of strings",
        ),
        (
            "[store]\nurl = \"postgres://db\"",
            r#"store.url: found the string "postgres://db"; accepted is "sqlite", "sqlite:<path>" or "kurrentdb://<user>:<password>@<host>:2113?tls=true""#,
        ),
        (
            "[tokens]\ndefault_lifetime_seconds = 59",
            "tokens.default_lifetime_seconds: found the integer 59; accepted is a whole number from 60 to 86400",
        ),
        (
            "[tokens]\ndefault_signing_algorithm = \"none\"",
            r#"tokens.default_signing_algorithm: found the string "none"; accepted is one of ES256, RS256, PS256, EdDSA"#,
        ),
        (
            "[tokens]\ndefault_audience = \"two words\"",
            r#"tokens.default_audience: found the string "two words"; accepted is 1 to 256 printable ASCII characters without spaces, quotes and backslashes"#,
        ),
        (
            "[keys]\nrsa_bits = 1024",
            "keys.rsa_bits: found the integer 1024; accepted is one of 2048, 3072, 4096",
        ),
        (
            "[keys]\nmaster_key_file = true",
            "keys.master_key_file: found the boolean true; accepted is a path",
        ),
        (
            "[telemetry]\nlog_filter = \"inof\"",
            r#"telemetry.log_filter: found the string "inof"; accepted is a level or a list of target=level such as "info" or "info,grantlog=debug" (off, error, warn, info, debug, trace)"#,
        ),
        (
            "[telemetry]\nlog_filter = \"grantlog=loud\"",
            r#"telemetry.log_filter: found the string "grantlog=loud"; accepted is a level or a list of target=level such as "info" or "info,grantlog=debug" (off, error, warn, info, debug, trace)"#,
        ),
        (
            "[telemetry]\notlp_endpoint = \"http://127.0.0.1:4318/v1/traces\"",
            r#"telemetry.otlp_endpoint: found the string "http://127.0.0.1:4318/v1/traces"; accepted is the http or https URL of an OTLP/gRPC receiver, without a path, such as "http://127.0.0.1:4317""#,
        ),
        (
            "[telemetry]\ntrace_sample_ratio = 1.5",
            "telemetry.trace_sample_ratio: found the number 1.5; accepted is a number from 0.0 to 1.0",
        ),
        (
            "[telemetry]\ntrace_sample_ratio = nan",
            "telemetry.trace_sample_ratio: found the number nan; accepted is a number from 0.0 to 1.0",
        ),
        (
            "[telemetry]\nservice_name = 1979-05-27",
            "telemetry.service_name: found the date 1979-05-27; accepted is a string",
        ),
        (
            "[server.listen]\nport = 1",
            "server.listen: found a table; accepted is a string",
        ),
        (
            "server = 5",
            "server: found the integer 5; accepted is a table: [server]",
        ),
        (
            "data_dir = \"\"",
            r#"data_dir: found the string ""; accepted is a path"#,
        ),
    ] {
        let error = file_error(file);
        let (line, rest) = error.split_once(": ").unwrap();
        assert_eq!(rest, message);
        assert_eq!(
            line,
            if file.starts_with("[server.listen]") || !file.contains('\n') {
                "line 1"
            } else {
                "line 2"
            }
        );
    }
    assert_eq!(
        error("", &[("GRANTLOG__SERVER__WORKERS", "many")]),
        r#"GRANTLOG__SERVER__WORKERS: server.workers: found the string "many"; accepted is a whole number from 0 to 256"#,
    );
    assert_eq!(
        error("", &[("GRANTLOG__DATA_DIR", "/\u{fffd}")]),
        "GRANTLOG__DATA_DIR: data_dir: found the string \"/\u{fffd}\"; accepted is UTF-8",
    );
    let flags = CliOverrides {
        listen: Some("8080".into()),
        ..CliOverrides::default()
    };
    assert_eq!(
        load_with("", &[], flags).unwrap_err().to_string(),
        r#"--listen: server.listen: found the string "8080"; accepted is an IP address and port such as "127.0.0.1:8080" or "[::]:8080""#,
    );
}

#[test]
fn a_long_or_odd_value_is_cut_and_escaped_in_the_message() {
    let file = format!("[store]\nurl = \"a\\u001b[31m\\n{}\"", "x".repeat(500));
    let error = file_error(&file);
    assert!(
        error.contains(r"a\u{1b}[31m\nxxx") && error.contains("...; accepted is") && error.len() < 220,
        "{error}"
    );
}

#[test]
fn values_that_exclude_each_other_are_refused_with_what_to_do() {
    for (file, message) in [
        (
            "[tls]\ncertificate_file = \"c\"",
            "line 2: tls.certificate_file is set, so tls.key_file must be too",
        ),
        (
            "[tls]\nkey_file = \"k\"",
            "line 2: tls.key_file is set, so tls.certificate_file must be too",
        ),
        (
            "[keys]\nannounce_days_ahead = 90",
            "line 2: keys.announce_days_ahead is 90, but must be less than keys.rotate_after_days, which is 90",
        ),
        (
            "[keys]\n\nrotate_after_days = 14",
            "line 3: keys.announce_days_ahead is 14, but must be less than keys.rotate_after_days, which is 14",
        ),
    ] {
        assert_eq!(file_error(file), message);
    }
    let key = base64::engine::general_purpose::STANDARD.encode([7; 32]);
    let path = [
        ("GRANTLOG__KEYS__MASTER_KEY", key.as_str()),
        ("GRANTLOG__KEYS__MASTER_KEY_FILE", "/k"),
    ];
    assert_eq!(
        error("", &path),
        "GRANTLOG__KEYS__MASTER_KEY_FILE: keys.master_key_file and the environment's master key are both set; keep one",
    );
}

#[test]
fn the_master_key_comes_from_the_environment_and_is_never_shown() {
    let key = base64::engine::general_purpose::STANDARD.encode([0xa7; 32]);
    let config = load("", &[("GRANTLOG__KEYS__MASTER_KEY", &key)]).unwrap();
    let MasterKeySource::Environment(taken) = &config.keys.master_key else {
        panic!("{config:?}")
    };
    let kid = KeyId::parse("2026-03-16").unwrap();
    let sealed = taken.seal(&kid, SigningAlgorithm::Es256, b"private").unwrap();
    let same = MasterKey::from_base64(&key).unwrap();
    assert_eq!(
        same.open(&kid, SigningAlgorithm::Es256, &sealed).unwrap().as_slice(),
        b"private"
    );
    let shown = format!("{config:?} {config:#?}");
    assert!(
        !shown.contains(&key) && !shown.contains("167") && !shown.contains("a7, "),
        "{shown}"
    );
    assert_eq!(
        config.digest(),
        load("", &[]).unwrap().digest(),
        "a secret is no part of the digest"
    );
}

#[test]
fn a_master_key_that_is_none_is_refused_without_showing_it() {
    for text in ["hunter2hunter2", "aHVudGVyMmh1bnRlcjI=", "12345"] {
        assert_eq!(
            error("", &[("GRANTLOG__KEYS__MASTER_KEY", text)]),
            "GRANTLOG__KEYS__MASTER_KEY: keys.master_key: found something else (not shown); accepted is base64 of exactly 32 bytes",
        );
    }
}

#[test]
fn a_master_key_in_the_file_is_refused_with_where_it_belongs() {
    let message = "line 2: keys.master_key is a secret and has no place in this file; set GRANTLOG__KEYS__MASTER_KEY or keys.master_key_file";
    assert_eq!(file_error("[keys]\nmaster_key = \"hunter2\""), message);
    assert_eq!(file_error("[keys]\n[keys.master_key]\na = \"hunter2\""), message);
    let key = base64::engine::general_purpose::STANDARD.encode([7; 32]);
    let both = error(
        "[keys]\nmaster_key = \"hunter2\"",
        &[("GRANTLOG__KEYS__MASTER_KEY", &key)],
    );
    assert!(both.ends_with(message), "{both}");
}

#[test]
fn what_is_not_toml_is_refused_with_line_and_column() {
    for (file, place) in [
        ("[server]\nlisten = ", "line 2, column 10: "),
        ("[server\n", "line 1, column 8: "),
        ("[server]\nworkers = 1\nworkers = 2", "line 3, column 1: "),
        ("[server]\n[server]", "line 2, column 2: "),
        ("a = 1 b = 2", "line 1, column 9: "),
    ] {
        let error = file_error(file);
        assert!(
            error.starts_with(place) && error.len() > place.len() + 5 && !error.contains('\n'),
            "{file:?}: {error}"
        );
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(b"[server]\n# caf\xe9").unwrap();
    let error = Config::load(Some(file.path()), std::iter::empty(), CliOverrides::default()).unwrap_err();
    assert!(error.to_string().ends_with("line 2, column 6: not UTF-8"), "{error}");
}

#[test]
fn every_problem_is_reported_at_once() {
    let message = error(
        "[server]\nworkers = 300\nlisen = 1",
        &[("GRANTLOG__STORE__URL", "mysql")],
    );
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines.len(), 4, "{message}");
    assert_eq!(lines[0], "3 problems in the configuration:");
    assert!(lines[1..].iter().all(|line| line.starts_with("  ")));
    assert!(message.contains("server.workers") && message.contains("server.lisen") && message.contains("store.url"));
}

#[test]
fn a_file_that_is_missing_or_too_large_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent.toml");
    let error = Config::load(Some(&path), std::iter::empty(), CliOverrides::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot read the configuration file ") && error.contains("absent.toml"),
        "{error}"
    );
    let error = load(&"#".repeat(MAX_FILE_BYTES as usize + 1), &[]).unwrap_err();
    assert!(matches!(error, ConfigError::TooLarge { .. }), "{error}");
}

#[test]
fn the_digest_depends_on_what_holds_and_not_on_where_it_was_set() {
    let digest = |file: &str, environment: &[(&str, &str)]| load(file, environment).unwrap().digest();
    let default = digest("", &[]);
    assert_eq!(default.len(), 64);
    assert!(
        default
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    );
    assert_eq!(digest("[server]\nmax_connections = 10_000", &[]), default);
    let file = digest("[server]\nmax_connections = 9", &[]);
    assert_ne!(file, default);
    assert_eq!(digest("", &[("GRANTLOG__SERVER__MAX_CONNECTIONS", "9")]), file);
}

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load_with(file, environment, CliOverrides::default())
}

fn load_with(text: &str, environment: &[(&str, &str)], flags: CliOverrides) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(text.as_bytes()).unwrap();
    let environment = environment
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    Config::load(Some(file.path()), environment, flags)
}

fn error(file: &str, environment: &[(&str, &str)]) -> String {
    load(file, environment).unwrap_err().to_string()
}

/// The error of a file, from its line on.
fn file_error(file: &str) -> String {
    let error = error(file, &[]);
    error.split_once(", ").unwrap().1.to_owned()
}

const WEBHOOK: &str = "[[forwarding]]\nname = \"siem\"\nkind = \"webhook\"\nurl = \"https://siem.example.com/h\"\nsecret_env = \"SIEM\"\n";

#[test]
fn the_examples_sinks_are_accepted_as_they_stand_there() {
    let sinks: String = EXAMPLE
        .lines()
        .skip_while(|line| *line != "#   [[forwarding]]")
        .take_while(|line| !line.is_empty())
        .map(|line| line.strip_prefix("#   ").unwrap_or("").to_owned() + "\n")
        .collect();
    let config = load(&sinks, &[]).unwrap();
    let kinds: Vec<_> = config
        .forwarding
        .iter()
        .map(|sink| (sink.name.as_str(), sink.target.kind(), sink.batch_events))
        .collect();
    assert_eq!(
        kinds,
        [
            ("siem", "webhook", 1),
            ("syslog", "syslog", 256),
            ("collector", "otlp", 256)
        ]
    );
    assert_ne!(config.digest(), load("", &[]).unwrap().digest());
    assert!(load("", &[]).unwrap().forwarding.is_empty());
}

#[test]
fn a_sink_is_read_with_its_defaults() {
    let config = load(WEBHOOK, &[]).unwrap();
    let [sink] = &config.forwarding[..] else { panic!() };
    assert_eq!(sink.target.place(), "https://siem.example.com:443");
    assert_eq!((sink.filter.to_string(), sink.batch_events), (String::new(), 1));
    assert_eq!(
        (sink.timeout, sink.retry_max),
        (Duration::from_secs(10), Duration::from_secs(60))
    );
    assert_eq!(sink.from, crate::forwarding::settings::StartAt::Now);
}

#[test]
fn what_is_wrong_with_a_sink_is_told_with_its_line() {
    for (text, expected) in [
        (
            format!("{WEBHOOK}urll = 1\n"),
            "line 6: unknown key forwarding.urll; did you mean forwarding.url?",
        ),
        (
            format!("{WEBHOOK}secret = \"whsec_TOPSECRET\"\n"),
            "line 6: forwarding.secret is a secret and has no place in this file; set forwarding.secret_env or",
        ),
        (
            WEBHOOK.replace("SIEM", "whsec_TOPSECRET"),
            "line 5: forwarding.secret_env is not the name of a variable",
        ),
        (
            WEBHOOK.replace("https://", "https://user:TOPSECRET@"),
            "line 4: forwarding.url names a user or a password",
        ),
        (
            WEBHOOK.replace("https://", "http://"),
            "line 4: forwarding.url: found the string",
        ),
        (
            WEBHOOK.replace("secret_env", "secret_file") + "secret_env = \"X\"\n",
            "forwarding.secret_env and forwarding.secret_file are both set",
        ),
        (
            WEBHOOK.replace("secret_env = \"SIEM\"", ""),
            "line 1: [[forwarding]] has no secret_env or secret_file",
        ),
        (
            WEBHOOK.replace("name = \"siem\"", ""),
            "line 1: [[forwarding]] has no name",
        ),
        (WEBHOOK.replace("\"siem\"", "\"a/b\""), "line 2: forwarding.name: found"),
        (format!("{WEBHOOK}{WEBHOOK}"), "line 7: two sinks are named siem"),
        (
            format!("{WEBHOOK}filter = 'outcome eq'\n"),
            "line 6: forwarding.filter: found the string",
        ),
        (
            format!("{WEBHOOK}facility = \"local0\"\n"),
            "line 6: forwarding.facility is for the kind syslog alone",
        ),
        (
            format!("{WEBHOOK}client_key_file = \"k.pem\"\n"),
            "line 6: forwarding.client_certificate_file and forwarding.client_key_file go together",
        ),
        (
            "[[forwarding]]\nname=\"o\"\nkind=\"otlp\"\nurl=\"http://h:1\"\nbearer_token_env=\"T\"\n".to_owned(),
            "line 5: a bearer token is set, but forwarding.url is http",
        ),
        (
            "[[forwarding]]\nname=\"o\"\nkind=\"otlp\"\nurl=\"http://h:1\"\nbearer_token_file=\"t\"\n".to_owned(),
            "line 5: a bearer token is set, but forwarding.url is http",
        ),
        (
            "[[forwarding]]\nname=\"s\"\nkind=\"syslog\"\nurl=\"tcp://h:1\"\nca_file=\"ca.pem\"\n".to_owned(),
            "line 5: files for TLS are set, but forwarding.url is tcp",
        ),
        (
            "[[forwarding]]\nname=\"s\"\nkind=\"syslog\"\nurl=\"tcp://h\"\n".to_owned(),
            "line 4: forwarding.url: found",
        ),
        (
            "[forwarding]\nname = \"siem\"\n".to_owned(),
            "line 1: forwarding: found a table; accepted is tables: [[forwarding]]",
        ),
        ("forwarding = 3\n".to_owned(), "line 1: forwarding: found the integer 3"),
        (
            "[[server]]\nlisten = \"x\"\n".to_owned(),
            "line 1: server: found several tables",
        ),
        (
            "[[forwardin]]\nname = \"x\"\n".to_owned(),
            "line 1: unknown key forwardin; did you mean forwarding?",
        ),
        (
            WEBHOOK.replace("siem\"", "siem\"\nx.y = 1"),
            "line 3: unknown key forwarding.x",
        ),
    ] {
        let message = load(&text, &[]).unwrap_err().to_string();
        assert!(message.contains(expected), "{text}\n{message}");
        assert!(!message.contains("TOPSECRET"), "{message}");
    }
    let many: String = (0..17).map(|n| WEBHOOK.replace("siem", &format!("siem-{n}"))).collect();
    let message = load(&many, &[]).unwrap_err().to_string();
    assert!(message.contains("there are 17 [[forwarding]]; at most 16"), "{message}");
}

#[test]
fn a_bearer_token_goes_over_https_or_stays_on_this_machine() {
    for url in [
        "https://h:1",
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "http://localhost:1",
    ] {
        let sink = format!("[[forwarding]]\nname=\"o\"\nkind=\"otlp\"\nurl=\"{url}\"\nbearer_token_env=\"T\"\n");
        assert!(load(&sink, &[]).is_ok(), "{url}");
    }
}

#[test]
fn a_sink_is_not_set_by_the_environment() {
    let variable = [("GRANTLOG__FORWARDING__URL", "https://attacker.example.com")];
    let message = load(WEBHOOK, &variable).unwrap_err().to_string();
    assert!(message.contains("[[forwarding]] is set in the file alone"), "{message}");
}

const GATEWAY: &str = "[[gateway]]\nprefix = \"/api\"\nupstream = \"http://127.0.0.1:9000\"\naudience = \"erp\"\n";

#[test]
fn the_examples_route_is_accepted_as_it_stands_there() {
    let routes: String = EXAMPLE
        .lines()
        .skip_while(|line| *line != "#   [[gateway]]")
        .map(|line| line.strip_prefix("#   ").unwrap_or("").to_owned() + "\n")
        .collect();
    let config = load(&routes, &[]).unwrap();
    let [route] = &config.gateway[..] else { panic!() };
    assert_eq!(route.prefix, "/api/domain");
    assert_eq!(route.authority.as_str(), "erp.example.com:8443");
    assert_eq!(route.audience.as_str(), "https://erp.example.com");
    let rules: Vec<_> = route
        .rules
        .iter()
        .map(|rule| (rule.methods.len(), rule.path.to_string(), rule.scope.to_string()))
        .collect();
    assert_eq!(
        rules,
        [
            (2, "/tenants/{org_code}/**".to_owned(), "read".to_owned()),
            (0, "/**".to_owned(), "update".to_owned())
        ]
    );
    let written = load(&routes, &[]).unwrap().digest();
    assert_ne!(written, load("", &[]).unwrap().digest());
    let other_rule = routes.replace("scope = \"update\"", "scope = \"write\"");
    assert_ne!(written, load(&other_rule, &[]).unwrap().digest());
}

#[test]
fn a_route_is_read_with_the_examples_values_as_its_defaults() {
    let least = load(&format!("{GATEWAY}[[gateway.rule]]\nscope = \"\"\n"), &[]).unwrap();
    let [route] = &least.gateway[..] else { panic!() };
    assert!(!route.strip_prefix && !route.forward_token && !route.record_query);
    assert_eq!(route.connect_timeout, Duration::from_secs(5));
    assert_eq!(route.response_timeout, Duration::from_secs(30));
    assert_eq!(route.idle_timeout, Duration::from_secs(30));
    assert_eq!(
        (route.max_body_bytes, route.max_response_header_bytes),
        (104_857_600, 65_536)
    );
    assert_eq!((route.max_in_flight, route.max_idle_connections), (1_024, 256));
    assert_eq!(route.keep_alive, Duration::from_secs(4));
    assert!(route.rules[0].scope.is_empty() && route.rules[0].path.is_everything());
    assert!(load("", &[]).unwrap().gateway.is_empty());
}

#[test]
fn every_problem_of_a_route_names_its_key() {
    for (text, message) in [
        (
            "prefx = \"/x\"",
            "unknown key gateway.prefx; did you mean gateway.prefix?",
        ),
        ("max_body_bytes = -1", "gateway.max_body_bytes: found the integer -1"),
        ("[[gateway.rule]]\nscpe = \"x\"", "unknown key gateway.rule.scpe"),
        ("[[gateway.rule]]\nmethods = [\"GET\"]", "[[gateway.rule]] has no scope"),
        (
            "[[gateway.rule]]\nscope = \"a\"\nmethods = [\"get\"]",
            "gateway.rule.methods",
        ),
        (
            "[[gateway.rule]]\nscope = \"a\"\npath = \"/{tenant}\"",
            "gateway.rule.path",
        ),
        ("[[gateway.rule]]\nscope = \"a\\\"b\"", "gateway.rule.scope"),
        ("[gateway.rule]\nscope = \"a\"", "gateway.rule"),
        (
            "ca_file = \"ca.pem\"",
            "gateway.ca_file is set, but gateway.upstream is http",
        ),
    ] {
        let error = error(&format!("{GATEWAY}{text}\n"), &[]);
        assert!(error.contains(message), "{text}: {error}");
    }
    for (key, wrong, message) in [
        ("prefix", "api", "gateway.prefix: found the string \"api\""),
        ("prefix", "/api/", "gateway.prefix"),
        ("prefix", "/", "gateway.prefix"),
        ("prefix", "/a/../b", "gateway.prefix"),
        ("upstream", "ftp://h", "gateway.upstream"),
        ("upstream", "http://h/?q", "gateway.upstream"),
        ("upstream", "http://user:secret@h/", "gateway.upstream"),
        ("audience", "a b", "gateway.audience"),
    ] {
        let file: String = GATEWAY
            .lines()
            .map(|line| match line.starts_with(key) {
                true => format!("{key} = {wrong:?}\n"),
                false => format!("{line}\n"),
            })
            .collect();
        let error = error(&file, &[]);
        assert!(error.contains(message), "{wrong}: {error}");
    }
    let twice = error(&format!("{GATEWAY}{GATEWAY}"), &[]);
    assert!(twice.contains("two routes have the prefix /api"), "{twice}");
    let in_capitals = error(&format!("{GATEWAY}{}", GATEWAY.replace("/api", "/API")), &[]);
    let message = "the prefixes /api and /API differ in upper and lower case alone";
    assert!(in_capitals.contains(message), "{in_capitals}");
    assert!(in_capitals.contains("keep the one"), "{in_capitals}");
    let bare = error("[[gateway]]\n", &[]);
    for key in ["prefix", "upstream", "audience"] {
        assert!(bare.contains(&format!("[[gateway]] has no {key}")), "{bare}");
    }
}

#[test]
fn rules_of_a_route_that_differ_in_letter_case_alone_are_refused() {
    let rules = |first: &str, second: &str| {
        let rule = |keys: &str| format!("[[gateway.rule]]\nscope = \"a\"\n{keys}\n");
        load(&format!("{GATEWAY}{}{}", rule(first), rule(second)), &[])
    };
    for (first, second) in [
        (r#"path = "/Orders/**""#, r#"path = "/orders/**""#),
        (
            "path = \"/Orders/**\"\nmethods = [\"GET\"]",
            "path = \"/orders/**\"\nmethods = [\"PUT\", \"GET\"]",
        ),
        (r#"path = "/Orders/**""#, "path = \"/orders/**\"\nmethods = [\"GET\"]"),
    ] {
        let error = rules(first, second).unwrap_err().to_string();
        let message = "the rules' paths /Orders/** and /orders/** differ in upper and lower case alone";
        assert!(error.contains(message), "{error}");
        assert!(error.contains("keep the one"), "{error}");
    }
    // These are for other calls.
    let (reading, writing) = (
        "path = \"/Orders/**\"\nmethods = [\"GET\"]",
        "path = \"/orders/**\"\nmethods = [\"PUT\"]",
    );
    assert!(rules(reading, writing).is_ok());
    assert!(rules(reading, reading).is_ok());
    let (one, list) = (r#"path = "/orders/*""#, r#"path = "/Orders""#);
    assert!(rules(one, list).is_ok());
}
