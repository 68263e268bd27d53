//! The direction of imports, as ARCHITECTURE.md has it: top may use what is below it, never the reverse. Reads the
//! sources as text; what a test module does inside a source file is its own business.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each part of `src` may use of the others. A part that is not here may not exist.
const MAY_USE: &[(&str, &[&str])] = &[
    ("main", &["cli", "startup", "config", "telemetry"]),
    (
        "cli",
        &[
            "startup",
            "http",
            "service",
            "audit",
            "policy",
            "credentials",
            "event_store",
            "outgoing",
            "config",
            "telemetry",
            "metrics",
        ],
    ),
    (
        "startup",
        &[
            "http",
            "service",
            "forwarding",
            "gateway",
            "audit",
            "policy",
            "credentials",
            "event_store",
            "file_lock",
            "config",
            "telemetry",
            "metrics",
        ],
    ),
    (
        "http",
        &[
            "service",
            "forwarding",
            "gateway",
            "audit",
            "policy",
            "oauth",
            "event_store",
            "telemetry",
            "metrics",
        ],
    ),
    (
        "service",
        &[
            "audit",
            "policy",
            "oauth",
            "credentials",
            "event_store",
            "priority",
            "rebuildable",
            "metrics",
        ],
    ),
    (
        "forwarding",
        &["audit", "event_store", "metrics", "outgoing", "priority"],
    ),
    ("gateway", &["forwarding", "outgoing"]),
    ("audit", &["credentials", "event_store", "priority", "rebuildable"]),
    ("policy", &["oauth"]),
    ("oauth", &[]),
    ("credentials", &[]),
    ("event_store", &["file_lock"]),
    ("file_lock", &[]),
    ("priority", &[]),
    ("outgoing", &[]),
    ("rebuildable", &[]),
    (
        "config",
        &["credentials", "event_store", "forwarding", "gateway", "outgoing"],
    ),
    ("telemetry", &["config"]),
    ("metrics", &[]),
];

/// Words that a part must not hold, and why.
struct Forbidden {
    parts: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const FORBIDDEN: &[Forbidden] = &[
    Forbidden {
        parts: &["oauth", "policy"],
        words: &[
            "tokio",
            "actix_web",
            "async",
            "await",
            "Instant",
            "SystemTime",
            "Utc",
            "Local",
            "rand",
            "fill_random",
            "now_v7",
            "new_v4",
            "SystemRandom",
            "reqwest",
            "rusqlite",
            "fs",
            "env",
            "tracing",
        ],
        why: "a decision is pure: time, ids and randomness arrive inside the command",
    },
    Forbidden {
        parts: &["http"],
        words: &["rusqlite", "SqliteEventStore", "sqlite"],
        why: "http knows no SQL",
    },
    Forbidden {
        parts: &["event_store", "audit", "service", "credentials", "policy", "oauth"],
        words: &["actix_web", "HttpRequest", "HttpResponse", "StatusCode", "reqwest"],
        why: "only http speaks HTTP",
    },
    Forbidden {
        parts: &[
            "service",
            "audit",
            "http",
            "policy",
            "oauth",
            "credentials",
            "config",
            "telemetry",
            "metrics",
            "cli",
            "main",
        ],
        words: &[
            "SqliteEventStore",
            "SqliteOptions",
            "KurrentDbEventStore",
            "KurrentDbOptions",
        ],
        why: "startup alone names a concrete store",
    },
    Forbidden {
        parts: &["projections"],
        words: &[
            "tokio",
            "async",
            "await",
            "Instant",
            "SystemTime",
            "now",
            "now_v7",
            "new_v4",
            "rand",
            "fs",
            "env",
            "thread",
            "io",
            "File",
            "TcpStream",
            "unsafe",
        ],
        why: "a fold sees no clock, no randomness and no I/O",
    },
];

/// Successes that a route may name; every other status is a failure, which `http/problem.rs` knows alone.
const SUCCESSES: [&str; 5] = ["OK", "CREATED", "ACCEPTED", "NO_CONTENT", "NOT_MODIFIED"];
/// The same for actix-web's constructors of answers.
const SUCCESSFUL_ANSWERS: [&str; 4] = ["Ok", "Created", "Accepted", "NoContent"];

/// What `grantlog-projections` may depend on: no async, no I/O, no clock.
const PROJECTIONS_MAY_DEPEND_ON: [&str; 8] = [
    "base64",
    "chrono",
    "imbl",
    "ipnet",
    "serde",
    "serde_json",
    "thiserror",
    "uuid",
];

#[test]
fn every_part_uses_only_what_is_below_it() {
    assert_none(sources().iter().flat_map(wrong_imports).collect());
}

#[test]
fn no_part_holds_what_it_must_not_know() {
    assert_none(sources().iter().flat_map(forbidden_words).collect());
}

#[test]
fn only_problem_rs_knows_status_codes_of_failures() {
    assert_none(sources().iter().flat_map(status_codes_of_failures).collect());
}

#[test]
fn the_projections_crate_depends_on_nothing_that_could_wait_read_or_tell_the_time() {
    let manifest = read(&root().join("projections/Cargo.toml"));
    let workspace = read(&root().join("Cargo.toml"));
    assert_none(unfit_dependencies(&manifest, &workspace));
}

#[test]
fn every_part_of_the_library_has_its_rule() {
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(part, _)| *part).collect();
    let parts: BTreeSet<String> = sources().into_iter().map(|source| source.part).collect();
    for part in parts
        .iter()
        .filter(|part| !matches!(part.as_str(), "lib" | "projections"))
    {
        assert!(
            known.contains(part.as_str()),
            "src/{part} has no rule here: say what it may use"
        );
    }
    for (part, below) in MAY_USE {
        assert!(below.iter().all(|used| known.contains(used) && used != part), "{part}");
    }
}

#[test]
fn the_rules_have_no_circle() {
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    fn reaches(rules: &BTreeMap<&str, &[&str]>, from: &str, to: &str, depth: usize) -> bool {
        depth > 0
            && rules[from]
                .iter()
                .any(|next| *next == to || reaches(rules, next, to, depth - 1))
    }
    for (part, _) in MAY_USE {
        assert!(
            !reaches(&rules, part, part, MAY_USE.len()),
            "{part} may use itself by way of others"
        );
    }
}

/// The test of the test: made-up sources that break each rule are found.
#[test]
fn a_source_that_breaks_a_rule_is_found() {
    let upward = [
        ("src/policy/secrets.rs", "use crate::service::Service;"),
        ("src/policy/secrets.rs", "use super::super::service::Service;"),
        ("src/policy/secrets.rs", "use crate::{oauth::OAuthError, http::Doors};"),
        ("src/policy/mod.rs", "fn f() { super::service::now() }"),
        ("src/oauth/mod.rs", "fn f(x: crate::policy::PolicySettings) {}"),
        ("src/service/mod.rs", "pub use crate :: http :: Doors;"),
        (
            "src/event_store/sqlite/writer.rs",
            "use super::super::super::audit::AuditIndex;",
        ),
        ("src/audit/index/database.rs", "use crate::service::Service;"),
        ("src/main.rs", "use grantlog::service::Service;"),
        (
            "src/metrics/mod.rs",
            "use crate::{\n    config::{Config, LogFormat},\n};",
        ),
    ];
    for (path, text) in upward {
        assert_eq!(wrong_imports(&source(path, text)).len(), 1, "{path}: {text}");
    }
    let words = [
        ("src/policy/secrets.rs", "let now = Utc::now();"),
        ("src/policy/secrets.rs", "let id = uuid::Uuid::now_v7();"),
        ("src/oauth/form.rs", "use tokio::sync::Mutex;"),
        ("src/oauth/form.rs", "pub async fn read() {}"),
        ("src/http/audit.rs", "use rusqlite::Connection;"),
        ("src/event_store/codec.rs", "use actix_web::HttpResponse;"),
        (
            "src/service/mod.rs",
            "use crate::event_store::sqlite::SqliteEventStore;",
        ),
        ("projections/src/key_ring.rs", "let today = chrono::Utc::now();"),
        ("projections/src/key_ring.rs", "std::fs::read(path)"),
    ];
    for (path, text) in words {
        assert!(!forbidden_words(&source(path, text)).is_empty(), "{path}: {text}");
    }
    for failure in [
        "StatusCode::NOT_FOUND",
        "HttpResponse::ServiceUnavailable()",
        "StatusCode :: IM_A_TEAPOT",
    ] {
        assert_eq!(
            status_codes_of_failures(&source("src/http/audit.rs", failure)).len(),
            1,
            "{failure}"
        );
    }
    let workspace = "[workspace.dependencies]\nchrono = { version = \"0.4\", features = [\"now\"] }\n";
    for unfit in [
        "tokio = \"1\"",
        "chrono = { version = \"0.4\", features = [\"clock\"] }",
        "chrono.workspace = true",
    ] {
        let manifest = format!("[dependencies]\n{unfit}\n[dev-dependencies]\nproptest = \"1\"\n");
        assert_eq!(unfit_dependencies(&manifest, workspace).len(), 1, "{unfit}");
    }
    assert_eq!(
        unfit_dependencies("[dependencies]\nchrono = \"0.4\"\n", workspace).len(),
        1,
        "default features"
    );
}

#[test]
fn what_is_allowed_is_not_found() {
    let allowed = [
        (
            "src/policy/secrets.rs",
            "use crate::policy::check_revision;\nuse crate::oauth::Displayable;",
        ),
        ("src/policy/secrets.rs", "use super::check_revision;"),
        (
            "src/policy/secrets.rs",
            "// crate::service would be wrong; tokio and Utc::now() too\n",
        ),
        (
            "src/policy/secrets.rs",
            "/* crate::http */ const TEXT: &str = \"crate::http async \\\" Utc\";",
        ),
        (
            "src/policy/secrets.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::service::Service;\n}\n",
        ),
        ("src/event_store/sqlite/writer.rs", "use super::super::EventStore;"),
        ("src/http/mod.rs", "let ok = StatusCode::CREATED; HttpResponse::Ok();"),
        ("src/http/problem.rs", "StatusCode::NOT_FOUND"),
        ("projections/src/event.rs", "use crate::values::Timestamp; // known"),
    ];
    for (path, text) in allowed {
        let source = source(path, text);
        let found: Vec<String> = wrong_imports(&source)
            .into_iter()
            .chain(forbidden_words(&source))
            .chain(status_codes_of_failures(&source))
            .collect();
        assert_eq!(found, Vec::<String>::new(), "{path}: {text}");
    }
}

/// A source file: where it is, which part it belongs to, and its words, without comments, texts and tests.
struct Source {
    path: String,
    part: String,
    /// How many modules deep it is: 1 for `src/policy/mod.rs`, 2 for `src/policy/secrets.rs`.
    depth: usize,
    words: Vec<String>,
}

fn source(path: &str, text: &str) -> Source {
    let modules: Vec<&str> = path
        .trim_end_matches(".rs")
        .split('/')
        .skip_while(|part| *part != "src")
        .skip(1)
        .filter(|part| *part != "mod")
        .collect();
    let part = if path.starts_with("projections") {
        "projections"
    } else {
        modules[0]
    };
    Source {
        path: path.to_owned(),
        part: part.to_owned(),
        depth: modules.len(),
        words: without_tests(words(text)),
    }
}

fn wrong_imports(source: &Source) -> Vec<String> {
    if matches!(source.part.as_str(), "lib" | "projections") {
        return Vec::new();
    }
    let (_, below) = MAY_USE
        .iter()
        .find(|(part, _)| *part == source.part)
        .expect("every part has a rule");
    used_parts(source)
        .into_iter()
        .filter(|used| *used != source.part && !below.contains(&used.as_str()))
        .filter(|used| MAY_USE.iter().any(|(part, _)| part == used))
        .map(|used| format!("{}: {} may not use {used}", source.path, source.part))
        .collect()
}

/// The parts of the crate that the source names: `crate::x`, `super::…::x` beyond its own part, `grantlog::x`.
fn used_parts(source: &Source) -> BTreeSet<String> {
    let words = &source.words;
    let mut used = BTreeSet::new();
    let mut at = 0;
    while at < words.len() {
        let is_start = at < 2 || !(words[at - 1] == ":" && words[at - 2] == ":");
        let mut after = match words[at].as_str() {
            "crate" | "grantlog" if is_start => at + 1,
            "super" if is_start => {
                let mut end = at;
                let mut ups = 0;
                while words.get(end).is_some_and(|word| word == "super") {
                    ups += 1;
                    end += 1;
                    if words.get(end + 2).is_some_and(|word| word == "super") {
                        end += 2;
                    }
                }
                at = end - 1;
                if ups < source.depth {
                    at += 1;
                    continue;
                }
                end
            }
            _ => {
                at += 1;
                continue;
            }
        };
        at += 1;
        if words.get(after).is_none_or(|word| word != ":") || words.get(after + 1).is_none_or(|word| word != ":") {
            continue;
        }
        after += 2;
        match words.get(after).map(String::as_str) {
            Some("{") => used.extend(first_names_in_group(&words[after + 1..])),
            Some(name) => {
                used.insert(name.to_owned());
            }
            None => {}
        }
    }
    used
}

/// Of `a::b, c::{d, e}, f }` the names `a`, `c` and `f`.
fn first_names_in_group(words: &[String]) -> Vec<String> {
    let (mut depth, mut expects_name, mut names) = (0_usize, true, Vec::new());
    for word in words {
        match word.as_str() {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "," if depth == 0 => expects_name = true,
            name if depth == 0 && expects_name => {
                names.push(name.to_owned());
                expects_name = false;
            }
            _ => {}
        }
    }
    names
}

fn forbidden_words(source: &Source) -> Vec<String> {
    FORBIDDEN
        .iter()
        .filter(|rule| rule.parts.contains(&source.part.as_str()))
        .flat_map(|rule| {
            let found: BTreeSet<&str> = rule
                .words
                .iter()
                .copied()
                .filter(|word| source.words.iter().any(|there| there == word))
                .collect();
            found
                .into_iter()
                .map(move |word| format!("{}: {word}: {}", source.path, rule.why))
        })
        .collect()
}

fn status_codes_of_failures(source: &Source) -> Vec<String> {
    if source.path == "src/http/problem.rs" {
        return Vec::new();
    }
    let named = |kind: &str, successes: &[&str]| -> Vec<String> {
        source
            .words
            .windows(4)
            .filter(|window| window[0] == kind && window[1] == ":" && window[2] == ":")
            .map(|window| window[3].clone())
            .filter(|name| name.starts_with(char::is_uppercase) && !successes.contains(&name.as_str()))
            .collect()
    };
    named("StatusCode", &SUCCESSES)
        .into_iter()
        .chain(named("HttpResponse", &SUCCESSFUL_ANSWERS))
        .map(|name| format!("{}: {name}: failures get their status in http/problem.rs", source.path))
        .collect()
}

fn unfit_dependencies(manifest: &str, workspace: &str) -> Vec<String> {
    let parse = |text: &str| text.parse::<toml::Table>().expect("a manifest");
    let (manifest, workspace) = (parse(manifest), parse(workspace));
    let shared = workspace["workspace"]["dependencies"]
        .as_table()
        .expect("[workspace.dependencies]");
    let mut unfit = Vec::new();
    for (name, own) in manifest["dependencies"].as_table().expect("[dependencies]") {
        if !PROJECTIONS_MAY_DEPEND_ON.contains(&name.as_str()) {
            unfit.push(format!("grantlog-projections may not depend on {name}"));
        }
        if name == "chrono" {
            let of_workspace = shared.get(name).filter(|_| own.get("workspace").is_some());
            let features = [Some(own), of_workspace]
                .into_iter()
                .flatten()
                .filter_map(|dependency| dependency.get("features")?.as_array())
                .flatten()
                .filter_map(toml::Value::as_str);
            let has_default = of_workspace.unwrap_or(own).get("default-features") != Some(&toml::Value::Boolean(false));
            if has_default
                || features
                    .into_iter()
                    .any(|feature| matches!(feature, "now" | "clock" | "default"))
            {
                unfit.push("grantlog-projections may not have chrono with a clock".to_owned());
            }
        }
    }
    unfit
}

fn assert_none(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "projections/src"] {
        collect(&root().join(folder), &mut files);
    }
    let test_only: BTreeSet<PathBuf> = files.iter().flat_map(|file| test_modules_of(file)).collect();
    let sources: Vec<Source> = files
        .iter()
        .filter(|file| !test_only.contains(*file))
        .map(|file| {
            let path = file
                .strip_prefix(root())
                .expect("it is below")
                .to_str()
                .expect("UTF-8")
                .to_owned();
            source(&path, &read(file))
        })
        .collect();
    assert!(sources.len() > 50, "the sources are where they are expected");
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Files that a source declares for its tests only: `#[cfg(test)] mod name;`.
fn test_modules_of(file: &Path) -> Vec<PathBuf> {
    let all = words(&read(file));
    let parent = file.parent().expect("a folder");
    let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("UTF-8");
    let folder = if matches!(stem, "mod" | "lib" | "main") {
        parent.to_owned()
    } else {
        parent.join(stem)
    };
    test_items(&all)
        .filter_map(|item| {
            let name = item.windows(3).find(|window| window[0] == "mod" && window[2] == ";")?[1].clone();
            Some(folder.join(format!("{name}.rs")))
        })
        .collect()
}

/// What follows each `#[cfg(test)]`, up to the end of its first statement or block's head.
fn test_items(words: &[String]) -> impl Iterator<Item = &[String]> {
    (0..words.len()).filter(|at| is_cfg_test(&words[*at..])).map(|at| {
        let rest = &words[at + CFG_TEST.len()..];
        let end = rest
            .iter()
            .position(|word| word == ";" || word == "{")
            .map_or(rest.len(), |end| end + 1);
        &rest[..end]
    })
}

const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

fn is_cfg_test(words: &[String]) -> bool {
    words.len() >= CFG_TEST.len() && words.iter().zip(CFG_TEST).all(|(word, expected)| word == expected)
}

/// Leaves out the items after `#[cfg(test)]`.
fn without_tests(words: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if !is_cfg_test(&words[at..]) {
            kept.push(words[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0_usize;
        while at < words.len() {
            match words[at].as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            let is_end = depth == 0 && matches!(words[at].as_str(), ";" | "}");
            at += 1;
            if is_end {
                break;
            }
        }
    }
    kept
}

/// Identifiers and single punctuation characters; no comments, no texts, no characters, no lifetimes.
fn words(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, with: &str| {
        with.chars()
            .enumerate()
            .all(|(n, char)| chars.get(at + n) == Some(&char))
    };
    let mut words = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let char = chars[at];
        if starts(at, "//") {
            at = end_of(&chars, at, |at| chars[at] == '\n');
        } else if starts(at, "/*") {
            at = end_of(&chars, at + 2, |at| starts(at, "*/")) + 2;
        } else if char == 'r' && (starts(at, "r\"") || starts(at, "r#\"")) || starts(at, "br#\"") || starts(at, "br\"")
        {
            let quote = end_of(&chars, at, |at| chars[at] == '"');
            let close = if chars[quote - 1] == '#' { "\"#" } else { "\"" };
            at = end_of(&chars, quote + 1, |at| starts(at, close)) + close.len();
        } else if char == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if char == '\'' {
            // A character ends with a quote; a lifetime does not.
            let end = if chars.get(at + 1) == Some(&'\\') {
                end_of(&chars, at + 3, |at| chars[at] == '\'')
            } else {
                at + 2
            };
            at = if chars.get(end) == Some(&'\'') { end + 1 } else { at + 1 };
        } else if char.is_alphanumeric() || char == '_' {
            let end = end_of(&chars, at, |at| !(chars[at].is_alphanumeric() || chars[at] == '_'));
            words.push(chars[at..end].iter().collect());
            at = end;
        } else {
            if !char.is_whitespace() {
                words.push(char.to_string());
            }
            at += 1;
        }
    }
    words
}

fn end_of(chars: &[char], from: usize, is_end: impl Fn(usize) -> bool) -> usize {
    (from..chars.len()).find(|at| is_end(*at)).unwrap_or(chars.len())
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
