//! `[node]`, and what has to hold where several nodes share one log.

use super::settings::{Accepted, Settings};
use super::{MasterKeySource, Origin, RetentionConfig, StoreLocation};
use crate::forwarding::SinkSettings;
use grantlog_projections::values::NodeName;
use std::fmt;

/// Where Linux says what the machine is called.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";
/// Characters of a node's name.
const MAX_NAME_CHARACTERS: usize = 64;

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// What this node is called in its events; `None` where it is alone on its log and has no name.
    pub name: Option<NodeName>,
    /// What it is there for.
    pub roles: Roles,
}

/// What a node is there for: at least one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Tokens, calls and administration.
    pub token: bool,
    /// Searches, reports, exports, forwarding, retention and the transparent log.
    pub audit: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Token,
    Audit,
}

impl Role {
    const ALL: [Self; 2] = [Self::Token, Self::Audit];

    fn parse(text: &str) -> Result<Self, Accepted> {
        let found = Self::ALL.into_iter().find(|role| role.to_string() == text);
        found.ok_or(r#""token" or "audit""#.into())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token",
            Self::Audit => "audit",
        })
    }
}

impl NodeConfig {
    /// Reads the section. Where the log is shared a node has a name: the machine's, when none is set.
    pub(super) fn read(settings: &mut Settings, is_shared: bool) -> Self {
        let name = settings.optional_text("node.name", |text| {
            NodeName::parse(text).map_err(|invalid| invalid.rule.into())
        });
        let origin = settings.origin("node.roles");
        let roles = settings.list_or("node.roles", Role::ALL.to_vec(), Role::ALL.len(), Role::parse);
        if roles.is_empty() {
            let message = r#"node.roles is empty: a node is there for "token", "audit" or both"#;
            settings.contradiction(origin, message.to_owned());
        }
        let name = match name {
            None if is_shared => {
                let host = std::fs::read_to_string(HOST_NAME_FILE).ok();
                let name = host.as_deref().and_then(name_of_host);
                if name.is_none() {
                    let message = "this machine has no host name that could be the node's: set node.name";
                    settings.contradiction(Origin::Default, message.to_owned());
                }
                name
            }
            name => name,
        };
        Self {
            name,
            roles: Roles {
                token: roles.contains(&Role::Token),
                audit: roles.contains(&Role::Audit),
            },
        }
    }

    /// What is set for a role that the node does not have would silently not hold.
    pub(super) fn check(
        &self,
        settings: &mut Settings,
        store: StoreTraits,
        sinks: &[SinkSettings],
        retention: &RetentionConfig,
    ) {
        let is_alone = !store.is_shared;
        if !self.roles.audit && is_alone && *retention != RetentionConfig::default() {
            let message = "[retention] is the work of the role \"audit\", which node.roles does not name, and no other \
                           node has this log: add the role, or leave retention out";
            settings.contradiction(Origin::Default, message.to_owned());
        }
        if !self.roles.audit && !sinks.is_empty() {
            let message = "[[forwarding]] is the work of the role \"audit\", which node.roles does not name: leave the \
                           sinks to one node that has it";
            settings.contradiction(Origin::Default, message.to_owned());
        }
    }
}

/// The host's name with what no node's name has replaced.
fn name_of_host(host: &str) -> Option<NodeName> {
    let is_kept = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name = host.trim().chars().map(|c| if is_kept(c) { c } else { '-' });
    NodeName::parse(&name.take(MAX_NAME_CHARACTERS).collect::<String>()).ok()
}

/// Where the keys that depend on the kind of store were set: asked before they are read.
pub(super) struct Origins {
    store: Origin,
    log_days: Origin,
    log_bytes: Origin,
}

impl Origins {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            store: settings.origin("store.url"),
            log_days: settings.origin("retention.log_days"),
            log_bytes: settings.origin("retention.log_max_bytes"),
        }
    }
}

/// What a kind of store makes of the rest of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreTraits {
    /// Several nodes write to one log.
    pub is_shared: bool,
    /// What it holds can be removed.
    pub can_remove: bool,
}

impl StoreLocation {
    /// What has to hold with this kind of store.
    pub fn traits(&self) -> StoreTraits {
        match self {
            Self::Sqlite(_) => StoreTraits {
                is_shared: false,
                can_remove: true,
            },
            Self::KurrentDb(_) => StoreTraits {
                is_shared: true,
                can_remove: false,
            },
        }
    }
}

impl StoreTraits {
    /// Refuses what cannot work with such a store, with what to do instead.
    pub(super) fn check(
        self,
        settings: &mut Settings,
        origins: Origins,
        master_key: &MasterKeySource,
        removes: (bool, bool),
    ) {
        if self.is_shared && matches!(master_key, MasterKeySource::DataFolder(_)) {
            let message = "all nodes on this store need the same master key, and one that each made for itself would not \
                           be: make it once (`(umask 077; grantlog key master > master.key)`), and give it to each of them by \
                           keys.master_key_file or GRANTLOG__KEYS__MASTER_KEY";
            settings.contradiction(origins.store.clone(), message.to_owned());
        }
        let (by_age, by_size) = removes;
        for (key, origin, is_set) in [
            ("retention.log_days", origins.log_days, by_age),
            ("retention.log_max_bytes", origins.log_bytes, by_size),
        ] {
            if is_set && !self.can_remove {
                let message = format!(
                    "{key} removes events, and this store cannot change what it holds: set it to 0. What searches find \
                     is bounded by retention.index_days and retention.index_max_bytes"
                );
                settings.contradiction(origin, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CliOverrides, Config, ConfigError};
    use std::path::PathBuf;

    const SHARED: StoreTraits = StoreTraits {
        is_shared: true,
        can_remove: false,
    };

    fn load(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), std::iter::empty(), CliOverrides::default())
    }

    fn problems(settings: Settings) -> String {
        settings
            .finish()
            .map(|_| String::new())
            .unwrap_or_else(|error| error.to_string())
    }

    fn checked(traits: StoreTraits, master_key: &MasterKeySource, removes: (bool, bool)) -> String {
        let mut settings = Settings::default();
        let origins = Origins::of(&settings);
        traits.check(&mut settings, origins, master_key, removes);
        problems(settings)
    }

    #[test]
    fn a_server_alone_has_no_name_and_both_roles() {
        let node = load("").unwrap().node;
        assert_eq!(node.name, None);
        assert!(node.roles.token && node.roles.audit);
    }

    #[test]
    fn a_name_and_roles_are_taken_from_the_file() {
        let node = load("node = { name = \"eu-1.a_b\", roles = [\"audit\"] }")
            .unwrap()
            .node;
        assert_eq!(node.name.unwrap().as_str(), "eu-1.a_b");
        assert!(!node.roles.token && node.roles.audit);
    }

    #[test]
    fn a_name_of_other_characters_an_unknown_role_and_no_role_at_all_are_refused() {
        let refused = |text: &str| load(text).unwrap_err().to_string();
        let long = "n".repeat(65);
        for name in ["a b", "knödel", &long] {
            let error = refused(&format!("node.name = {name:?}"));
            assert!(error.contains("1 to 64 of [A-Za-z0-9._-]"), "{error}");
        }
        let error = refused("node.roles = [\"tokens\"]");
        assert!(error.contains(r#""token" or "audit""#), "{error}");
        let error = refused("node.roles = []");
        assert!(error.contains("node.roles is empty"), "{error}");
    }

    #[test]
    fn where_the_log_is_shared_a_node_is_called_as_its_machine() {
        let mut settings = Settings::default();
        let node = NodeConfig::read(&mut settings, true);
        let host = std::fs::read_to_string(HOST_NAME_FILE).unwrap();
        assert_eq!(node.name, name_of_host(&host));
        assert!(node.name.is_some());
        assert_eq!(name_of_host("erp host\n").unwrap().as_str(), "erp-host");
        assert_eq!(name_of_host("\n"), None);
    }

    #[test]
    fn where_the_log_is_shared_the_master_key_must_be_given() {
        let of_folder = MasterKeySource::DataFolder(PathBuf::from("data/master.key"));
        let error = checked(SHARED, &of_folder, (false, false));
        assert!(
            error.contains("`(umask 077; grantlog key master > master.key)`")
                && error.contains("GRANTLOG__KEYS__MASTER_KEY"),
            "{error}"
        );
        let of_file = MasterKeySource::File(PathBuf::from("/run/secrets/master.key"));
        assert_eq!(checked(SHARED, &of_file, (false, false)), "");
        let alone = StoreLocation::Sqlite(PathBuf::from("events.db")).traits();
        assert_eq!(checked(alone, &of_folder, (true, true)), "");
    }

    #[test]
    fn a_store_that_keeps_everything_is_not_told_to_remove() {
        let of_file = MasterKeySource::File(PathBuf::from("/run/secrets/master.key"));
        let error = checked(SHARED, &of_file, (true, true));
        for key in ["retention.log_days", "retention.log_max_bytes"] {
            assert!(error.contains(&format!("{key} removes events")), "{error}");
        }
        assert!(error.contains("retention.index_days"), "{error}");
    }

    #[test]
    fn a_log_without_other_nodes_is_given_up_by_its_own_or_not_at_all() {
        for rule in [
            "log_days = 400",
            "log_max_bytes = 9_000_000_000",
            "index_days = 90",
            "index_max_bytes = 9_000_000_000",
        ] {
            let config = |roles: &str| load(&format!("node.roles = [{roles}]\nretention.{rule}\n"));
            let error = config("\"token\"").unwrap_err().to_string();
            assert!(error.contains("no other node has this log"), "{error}");
            config("\"token\", \"audit\"").unwrap();
        }
        load("node.roles = [\"token\"]\n").unwrap();
    }

    #[test]
    fn sinks_are_for_nodes_that_have_the_role_audit() {
        let sink = "[[forwarding]]\nname = \"siem\"\nkind = \"syslog\"\nurl = \"tcp://127.0.0.1:5140\"\n";
        let error = load(&format!("node.roles = [\"token\"]\n{sink}"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("leave the sinks to one node that has it"), "{error}");
    }
}
