//! The layers laid over each other, key by key, with where each value came from. Reading a key takes it
//! out and makes it known; what is left at the end is what nobody knows.

use super::{CliOverrides, ConfigError, ENVIRONMENT_PREFIX, MAX_FILE_BYTES, Origin, Problem};
use serde_json::json;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

/// A value in a message is cut after this many characters.
const MAX_SHOWN_CHARACTERS: usize = 60;

/// What a text should be instead, for a message.
pub type Accepted = Cow<'static, str>;

/// Every layer, and what has been read of it.
#[derive(Default)]
pub struct Settings {
    given: BTreeMap<String, Setting>,
    tables: BTreeMap<String, Origin>,
    /// Tables of which there may be several, `[[name]]`, each with its own layer: a key is the same in all of them.
    lists_of_tables: BTreeMap<String, Vec<Settings>>,
    /// Where such a table begins.
    begins: Option<Origin>,
    /// Where a value stood that a variable has replaced.
    replaced: BTreeMap<String, Origin>,
    misnamed_variables: Vec<String>,
    known: Vec<&'static str>,
    effective: BTreeMap<&'static str, serde_json::Value>,
    problems: Vec<Problem>,
}

struct Setting {
    value: Value,
    origin: Origin,
}

enum Value {
    String(String),
    /// From the environment: also the text as it stood there, for keys that want text, whatever it looks like.
    Plain(Box<Value>, String),
    Path(PathBuf),
    Integer(Option<i64>, String),
    Float(Option<f64>, String),
    Boolean(bool),
    Datetime(String),
    Array(Vec<Value>),
    Table,
}

impl Settings {
    /// The lowest layer.
    pub fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        let (text, not_utf8) = match std::str::from_utf8(&bytes) {
            Ok(text) => (text, None),
            Err(error) => ("", Some(error.valid_up_to())),
        };
        let syntax = |offset: usize, message: String| {
            let before = String::from_utf8_lossy(bytes.get(..offset).unwrap_or(&bytes));
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            ConfigError::Syntax {
                path: path.to_owned(),
                line: line_of(&bytes, offset),
                column: before.chars().count() - before.get(..line_start).map_or(0, |text| text.chars().count()) + 1,
                message,
            }
        };
        if let Some(offset) = not_utf8 {
            return Err(syntax(offset, "not UTF-8".to_owned()));
        }
        let table = DeTable::parse(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            syntax(offset, error.message().replace('\n', ", "))
        })?;
        self.add_table("", table.get_ref(), &|offset| Origin::File {
            path: path.to_owned(),
            line: line_of(&bytes, offset),
        });
        Ok(())
    }

    /// The variables over the file.
    pub fn add_environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
                continue;
            };
            let key = rest.replace("__", ".").to_ascii_lowercase();
            if variable_of(&key) != name {
                self.misnamed_variables.push(name);
                continue;
            }
            let value = match DeValue::parse(&text) {
                Ok(value) if !matches!(value.get_ref(), DeValue::Table(_)) => Value::of(value.get_ref()),
                _ => Value::String(text.clone()),
            };
            let value = Value::Plain(Box::new(value), text);
            if let Some(below) = self.given.insert(
                key.clone(),
                Setting {
                    value,
                    origin: Origin::Environment(name),
                },
            ) {
                self.replaced.insert(key, below.origin);
            }
        }
    }

    /// The flags over everything.
    pub fn add_flags(&mut self, flags: CliOverrides) {
        let mut add = |key: &str, flag, value: Option<Value>| {
            if let Some(value) = value {
                self.given.insert(
                    key.to_owned(),
                    Setting {
                        value,
                        origin: Origin::Flag(flag),
                    },
                );
            }
        };
        add("data_dir", "--data-dir", flags.data_dir.map(Value::Path));
        add("server.listen", "--listen", flags.listen.map(Value::String));
        add("server.issuer", "--issuer", flags.issuer.map(Value::String));
    }

    /// A whole number.
    pub fn integer(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let value = self.read(key, |value| {
            match value.plain() {
                Value::Integer(Some(number), _) => u64::try_from(*number).ok().filter(|number| range.contains(number)),
                _ => None,
            }
            .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()).into())
        });
        self.hold(key, value.unwrap_or(default), |value| json!(value))
    }

    /// Yes or no.
    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let value = self.read(key, |value| match value.plain() {
            Value::Boolean(value) => Ok(*value),
            _ => Err("true or false".into()),
        });
        self.hold(key, value.unwrap_or(default), |value| json!(value))
    }

    /// A number.
    pub fn number(&mut self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let value = self.read(key, |value| {
            match value.plain() {
                Value::Integer(Some(number), _) => Some(*number as f64),
                Value::Float(number, _) => *number,
                _ => None,
            }
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("a number from {:?} to {:?}", range.start(), range.end()).into())
        });
        self.hold(key, value.unwrap_or(default), |value| json!(value))
    }

    /// A text that means something.
    pub fn text<T: Display>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, Accepted>,
    ) -> T {
        let value = self.read(key, |value| match value.as_text() {
            Some(text) => parse(text),
            None => Err("a string".into()),
        });
        self.hold(key, value.unwrap_or(default), |value| json!(value.to_string()))
    }

    /// A text that may be absent, which it also is when it is empty.
    pub fn optional_text<T: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Accepted>,
    ) -> Option<T> {
        let value = self.read(key, |value| match value.as_text() {
            Some("") => Ok(None),
            Some(text) => parse(text).map(Some),
            None => Err("a string".into()),
        });
        self.hold(key, value.flatten(), |value| {
            json!(value.as_ref().map(T::to_string).unwrap_or_default())
        })
    }

    /// A path.
    pub fn path(&mut self, key: &'static str, default: &'static str) -> PathBuf {
        let value = self.read(key, |value| {
            match value {
                Value::Path(path) => Some(path.clone()),
                value => value.as_text().map(PathBuf::from),
            }
            .filter(|path| is_path(path))
            .ok_or(Cow::Borrowed("a path"))
        });
        self.hold(key, value.unwrap_or_else(|| default.into()), |path| {
            json!(path.to_string_lossy())
        })
    }

    /// A path that may be absent, which it also is when it is empty.
    pub fn optional_path(&mut self, key: &'static str) -> Option<PathBuf> {
        let value = self.read(key, |value| match value.as_text() {
            Some("") => Ok(None),
            Some(text) if is_path(Path::new(text)) => Ok(Some(PathBuf::from(text))),
            _ => Err("a path".into()),
        });
        self.hold(key, value.flatten(), |path| {
            json!(
                path.as_ref()
                    .map(|path| path.to_string_lossy().into_owned())
                    .unwrap_or_default()
            )
        })
    }

    /// One of a few texts or numbers.
    pub fn choice<T: Copy + PartialEq>(&mut self, key: &'static str, default: T, choices: &[(&'static str, T)]) -> T {
        let value = self.read(key, |value| {
            let text = match value.plain() {
                Value::Integer(_, text) => Some(text.as_str()),
                _ => value.as_text(),
            };
            choices
                .iter()
                .find(|(name, _)| text == Some(name))
                .map(|(_, choice)| *choice)
                .ok_or_else(|| {
                    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                    format!("one of {}", names.join(", ")).into()
                })
        });
        self.hold(key, value.unwrap_or(default), |value| {
            json!(choices.iter().find(|(_, choice)| choice == value).map(|(name, _)| name))
        })
    }

    /// A list, empty when nothing is given.
    pub fn list<T: Display>(
        &mut self,
        key: &'static str,
        max_items: usize,
        parse: impl Fn(&str) -> Result<T, Accepted>,
    ) -> Vec<T> {
        self.list_or(key, Vec::new(), max_items, parse)
    }

    /// A list.
    pub fn list_or<T: Display>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        max_items: usize,
        parse: impl Fn(&str) -> Result<T, Accepted>,
    ) -> Vec<T> {
        let value = self.read(key, |value| {
            let Value::Array(items) = value.plain() else {
                return Err("a list of strings in brackets".into());
            };
            if items.len() > max_items {
                return Err(format!("a list of at most {max_items} strings").into());
            }
            items
                .iter()
                .map(|item| match item.as_text() {
                    Some(text) => {
                        parse(text).map_err(|accepted| format!("for its item {}: {accepted}", shown(text)).into())
                    }
                    None => Err("a list of strings".into()),
                })
                .collect()
        });
        self.hold(key, value.unwrap_or(default), |items| {
            json!(items.iter().map(T::to_string).collect::<Vec<_>>())
        })
    }

    /// The tables `[[name]]`, each read by `read` with keys such as `name.key`. They are set in the file alone.
    pub fn each_table<T>(
        &mut self,
        name: &'static str,
        max_tables: usize,
        mut read: impl FnMut(&mut Settings) -> Option<T>,
    ) -> Vec<T> {
        self.known.push(name);
        let wanted = format!("tables: [[{name}]]");
        if let Some(origin) = self.tables.get(name).cloned() {
            self.invalid(name, origin, "a table".to_owned(), wanted.clone().into());
        }
        if let Some(setting) = self.given.remove(name) {
            self.invalid(name, setting.origin, setting.value.to_string(), wanted.into());
        }
        let prefix = format!("{name}.");
        let of_environment: Vec<Origin> = self
            .given
            .extract_if(.., |key, setting| {
                key.starts_with(&prefix) && matches!(setting.origin, Origin::Environment(_))
            })
            .map(|(_, setting)| setting.origin)
            .collect();
        for origin in of_environment {
            let message = format!("[[{name}]] is set in the file alone; its secrets by secret_env or secret_file");
            self.contradiction(origin, message);
        }
        let tables = self.lists_of_tables.remove(name).unwrap_or_default();
        if let Some(beyond) = tables.get(max_tables) {
            let message = format!(
                "there are {} [[{name}]]; at most {max_tables} are accepted",
                tables.len()
            );
            self.problems.push(Problem::Contradiction {
                origin: beyond.beginning(),
                message,
            });
        }
        let (mut all, mut effective) = (Vec::new(), Vec::new());
        for mut table in tables.into_iter().take(max_tables) {
            let one = read(&mut table);
            match table.finish() {
                Ok(keys) => effective.push(json!(keys)),
                Err(ConfigError::Invalid(problems)) => self.problems.extend(problems),
                // Only reading a file fails in another way.
                Err(_) => {}
            }
            all.extend(one);
        }
        // Without any, the configuration is the same as before there could be some.
        if !effective.is_empty() {
            self.effective.insert(name, effective.into());
        }
        all
    }

    /// Where this table begins.
    pub fn beginning(&self) -> Origin {
        self.begins.clone().unwrap_or(Origin::Default)
    }

    /// A secret: from the environment alone, shown nowhere, no part of the digest.
    pub fn secret<T>(
        &mut self,
        key: &'static str,
        accepted: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let setting = self.given.remove(key);
        let in_the_file = match &setting {
            Some(Setting {
                origin: origin @ Origin::File { .. },
                ..
            }) => Some(origin),
            _ => self.replaced.get(key).or(self.tables.get(key)),
        };
        if let Some(origin) = in_the_file.cloned() {
            let variable = variable_of(key);
            let message = format!("{key} is a secret and has no place in this file; set {variable} or {key}_file");
            self.contradiction(origin, message);
            return None;
        }
        let setting = setting?;
        let Value::Plain(_, text) = &setting.value else {
            return None;
        };
        // A copy that is wiped: the one in the environment is not ours to wipe.
        let text = Zeroizing::new(text.clone());
        if text.is_empty() {
            return None;
        }
        let value = parse(&text);
        if value.is_none() {
            self.problems.push(Problem::InvalidValue {
                key: key.to_owned(),
                origin: setting.origin,
                found: "something else (not shown)".to_owned(),
                accepted: accepted.to_owned(),
            });
        }
        value
    }

    /// A key that somebody may try, and that is none: a secret, which must not be here.
    pub fn misplaced_secret(&mut self, key: &str) {
        if let Some(setting) = self.given.remove(key) {
            let message = format!("{key} is a secret and has no place in this file; set {key}_env or {key}_file");
            self.contradiction(setting.origin, message);
        }
    }

    /// Where the key's value comes from; ask before reading it.
    pub fn origin(&self, key: &str) -> Origin {
        self.given
            .get(key)
            .map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// Reports values that are not accepted together.
    pub fn contradiction(&mut self, origin: Origin, message: String) {
        self.problems.push(Problem::Contradiction { origin, message });
    }

    /// Every key with the value that holds, or everything that is wrong.
    pub fn finish(mut self) -> Result<BTreeMap<&'static str, serde_json::Value>, ConfigError> {
        let given = std::mem::take(&mut self.given);
        let tables = std::mem::take(&mut self.tables);
        let sections: BTreeSet<_> = self
            .known
            .iter()
            .filter_map(|key| Some(key.split_once('.')?.0))
            .collect();
        for (key, setting) in given {
            if sections.contains(key.as_str()) {
                self.invalid(
                    &key,
                    setting.origin,
                    setting.value.to_string(),
                    format!("a table: [{key}]").into(),
                );
            } else if !has_ancestor_in(&key, |table| tables.contains_key(table) && !sections.contains(table)) {
                self.unknown(key, setting.origin, &sections);
            }
        }
        for (table, origin) in &tables {
            let outermost = !has_ancestor_in(table, |outer| tables.contains_key(outer) && !sections.contains(outer));
            if outermost && !sections.contains(table.as_str()) && !self.known.contains(&table.as_str()) {
                self.unknown(table.clone(), origin.clone(), &sections);
            }
        }
        for (name, list) in std::mem::take(&mut self.lists_of_tables) {
            let origin = list.first().map_or(Origin::Default, Settings::beginning);
            match sections.contains(name.as_str()) || self.known.contains(&name.as_str()) {
                true => self.invalid(
                    &name,
                    origin,
                    "several tables".to_owned(),
                    format!("one: [{name}]").into(),
                ),
                false => self.unknown(name, origin, &sections),
            }
        }
        for name in std::mem::take(&mut self.misnamed_variables) {
            let rest = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or_default();
            self.unknown(
                rest.replace("__", ".").to_ascii_lowercase(),
                Origin::Environment(name),
                &sections,
            );
        }
        if self.problems.is_empty() {
            Ok(self.effective)
        } else {
            Err(ConfigError::Invalid(self.problems))
        }
    }

    fn add_table(&mut self, prefix: &str, table: &DeTable<'_>, origin: &dyn Fn(usize) -> Origin) {
        for (name, value) in table {
            let key = join(prefix, name.get_ref());
            let origin_of_key = origin(Spanned::span(name).start);
            let may_be_several = prefix.is_empty() || self.begins.is_some();
            if let (Some(tables), true) = (tables_of(value.get_ref()), may_be_several) {
                let tables = tables.into_iter().map(|(begin, inner)| {
                    let mut one = Settings {
                        begins: Some(origin(begin)),
                        ..Settings::default()
                    };
                    one.add_table(&key, inner, origin);
                    one
                });
                let tables = tables.collect();
                self.lists_of_tables.insert(key, tables);
            } else if let DeValue::Table(inner) = value.get_ref() {
                self.tables.insert(key.clone(), origin_of_key);
                self.add_table(&key, inner, origin);
            } else {
                self.given.insert(
                    key,
                    Setting {
                        value: Value::of(value.get_ref()),
                        origin: origin_of_key,
                    },
                );
            }
        }
    }

    fn read<T>(&mut self, key: &'static str, parse: impl FnOnce(&Value) -> Result<T, Accepted>) -> Option<T> {
        self.known.push(key);
        let setting = match (self.given.remove(key), self.tables.get(key)) {
            (Some(setting), _) => setting,
            (None, Some(origin)) => Setting {
                value: Value::Table,
                origin: origin.clone(),
            },
            (None, None) => return None,
        };
        match parse(&setting.value) {
            // An environment variable that was not UTF-8.
            Ok(_) if matches!(&setting.value, Value::Plain(_, text) if text.contains('\u{fffd}')) => {
                self.invalid(key, setting.origin, setting.value.to_string(), "UTF-8".into());
                None
            }
            Ok(value) => Some(value),
            Err(accepted) => {
                self.invalid(key, setting.origin, without_user(&setting.value.to_string()), accepted);
                None
            }
        }
    }

    fn hold<T>(&mut self, key: &'static str, value: T, canonical: impl FnOnce(&T) -> serde_json::Value) -> T {
        self.effective.insert(key, canonical(&value));
        value
    }

    fn invalid(&mut self, key: &str, origin: Origin, found: String, accepted: Accepted) {
        self.problems.push(Problem::InvalidValue {
            key: key.to_owned(),
            origin,
            found,
            accepted: accepted.into_owned(),
        });
    }

    fn unknown(&mut self, key: String, origin: Origin, sections: &BTreeSet<&str>) {
        let as_written_there = |key: &str| match origin {
            Origin::Environment(_) => variable_of(key),
            _ => key.to_owned(),
        };
        let hint = match self.nearest(&key, sections) {
            Some(nearest) => format!("did you mean {}?", as_written_there(nearest)),
            None => {
                let section = key
                    .split_once('.')
                    .map(|(section, _)| section)
                    .filter(|name| sections.contains(name));
                let (place, names): (_, Vec<_>) = match section {
                    Some(section) => (
                        format!("the keys of [{section}] are"),
                        self.known
                            .iter()
                            .filter(|key| key.starts_with(&format!("{section}.")))
                            .copied()
                            .collect(),
                    ),
                    None => ("the sections are".to_owned(), sections.iter().copied().collect()),
                };
                format!("{place} {}", names.join(", "))
            }
        };
        self.problems.push(Problem::UnknownKey { key, origin, hint });
    }

    /// The known key (or section) that was meant: the same name in another section, else the one that takes the
    /// fewest edits, at most a third of its length.
    fn nearest<'a>(&'a self, key: &str, sections: &'a BTreeSet<&str>) -> Option<&'a str> {
        let name = last_segment(key);
        let moved = self
            .known
            .iter()
            .copied()
            .find(|known| known.contains('.') && last_segment(known) == name);
        if moved.is_some_and(|known| known != key) {
            return moved;
        }
        let candidates = self.known.iter().chain(sections.iter()).copied();
        candidates
            .map(|known| {
                // Without its section a name is closer to the key that was meant than with a wrong one.
                let whole = strsim::damerau_levenshtein(key, known);
                (
                    whole.min(strsim::damerau_levenshtein(name, last_segment(known)) + 1),
                    known,
                )
            })
            .filter(|(distance, known)| *distance <= (last_segment(known).len() / 3).max(2))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, known)| known)
    }
}

impl Value {
    fn of(value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::String(text.as_ref().to_owned()),
            DeValue::Integer(number) => Value::Integer(
                i64::from_str_radix(number.as_str(), number.radix()).ok(),
                number.to_string(),
            ),
            DeValue::Float(number) => Value::Float(number.as_str().parse().ok(), number.to_string()),
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Datetime(value) => Value::Datetime(value.to_string()),
            DeValue::Array(items) => Value::Array(items.iter().map(|item| Value::of(item.get_ref())).collect()),
            DeValue::Table(_) => Value::Table,
        }
    }

    fn plain(&self) -> &Value {
        match self {
            Value::Plain(value, _) => value,
            value => value,
        }
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            Value::Plain(value, text) => match value.as_ref() {
                Value::String(text) => Some(text),
                _ => Some(text),
            },
            Value::Path(path) => path.to_str(),
            _ => None,
        }
    }
}

/// As a message shows it.
impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::String(text) => write!(f, "the string {}", shown(text)),
            Value::Plain(value, _) => value.fmt(f),
            Value::Path(path) => write!(f, "the path {}", shown(&path.to_string_lossy())),
            Value::Integer(_, text) => write!(f, "the integer {text}"),
            Value::Float(_, text) => write!(f, "the number {text}"),
            Value::Boolean(value) => write!(f, "the boolean {value}"),
            Value::Datetime(text) => write!(f, "the date {text}"),
            Value::Array(items) => write!(f, "a list of {}", items.len()),
            Value::Table => f.write_str("a table"),
        }
    }
}

/// The tables of a list that holds nothing else, and where each begins.
fn tables_of<'a, 'b>(value: &'a DeValue<'b>) -> Option<Vec<(usize, &'a DeTable<'b>)>> {
    let DeValue::Array(items) = value else { return None };
    let table = |item: &'a Spanned<DeValue<'b>>| match item.get_ref() {
        DeValue::Table(table) => Some((item.span().start, table)),
        _ => None,
    };
    items
        .iter()
        .map(table)
        .collect::<Option<Vec<_>>>()
        .filter(|tables| !tables.is_empty())
}

/// The environment's name for a key.
fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

fn line_of(bytes: &[u8], offset: usize) -> usize {
    bytes.iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// A quoted key that holds a dot is not the path that it looks like.
fn join(prefix: &str, name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let name = if bare { name.to_owned() } else { format!("{name:?}") };
    if prefix.is_empty() {
        name
    } else {
        format!("{prefix}.{name}")
    }
}

fn last_segment(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, name)| name)
}

fn has_ancestor_in(key: &str, contains: impl Fn(&str) -> bool) -> bool {
    key.char_indices()
        .filter(|(_, character)| *character == '.')
        .any(|(at, _)| key.get(..at).is_some_and(&contains))
}

fn is_path(path: &Path) -> bool {
    !path.as_os_str().is_empty() && !path.as_os_str().as_encoded_bytes().contains(&0)
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARACTERS) {
        Some((cut, _)) => format!("{:?}...", text.get(..cut).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// A URL without the user and the password that it may have.
fn without_user(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}***{}", &text[..scheme + 3], &text[at..]),
        _ => text.to_owned(),
    }
}
