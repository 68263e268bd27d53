//! A data folder, the servers that run over it one after the other, and their applications.

use crate::clients::{AUDIENCE, Application};
use crate::running_server::{Administrator, RunningServer, Start};
use crate::shim::{self, Disk, FaultShim};
use crate::upstream;
use grantlog::config::{CliOverrides, Config};
use serde_json::json;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// The issuer stays the same although each start has another port; nobody is slowed down; the projections are
/// saved often, so that a kill finds them at work.
const CONFIG: &str = r#"
[server]
issuer = "http://grantlog.test"
[lockout]
max_failures = 1000000
max_refusals_per_source = 100000000
[projections]
checkpoint_every_events = 50
checkpoint_every_seconds = 1
"#;

/// The API behind the server.
fn config() -> String {
    format!(
        "{CONFIG}\n[[gateway]]\nprefix = \"/api\"\nupstream = \"{}\"\naudience = \"{AUDIENCE}\"\n\
         [[gateway.rule]]\nscope = \"read\"\n",
        upstream::url()
    )
}

/// Applications that clients ask for tokens of; the administrator leaves every second one alone.
const APPLICATIONS: usize = 8;

pub struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.data().join(name)
    }

    pub fn log(&self) -> PathBuf {
        self.file("events.db")
    }

    /// A server that is about to be started.
    pub fn server(&self) -> Start {
        Start::over(&self.data()).with_config(&config())
    }

    /// The same on a disk that fails as the shim is told, by this fault or by [`Self::steer`].
    pub fn server_on(&self, disk: Option<&Disk>, fault: &str) -> Start {
        let mut shim = Command::new("steered");
        FaultShim::build().preload(&mut shim);
        shim.env("GRANTLOG_DISK_PATH", "events.db")
            .env("GRANTLOG_FAULT", fault)
            .env("GRANTLOG_FAULT_CONTROL", self.control());
        if let Some(disk) = disk {
            disk.attach(&mut shim);
        }
        shim.get_envs().fold(self.server(), |server, (name, value)| {
            let text = |text: &OsStr| text.to_str().expect("UTF-8").to_owned();
            server.with_environment(&text(name), text(value.expect("a value")))
        })
    }

    /// Switches the disk of the running server into a fault, or out of all faults.
    pub fn steer(&self, fault: &str) {
        shim::steer(&self.control(), fault);
    }

    fn control(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    pub fn start(&self) -> RunningServer {
        tokio::task::block_in_place(|| self.server().start())
    }

    /// A server that is starting, for those who do not want to wait until it has.
    pub fn starting(&self) -> Child {
        let config = self.data().with_extension("toml");
        std::fs::write(&config, self::config()).expect("the configuration can be written");
        Command::new(env!("CARGO_BIN_EXE_grantlog"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.data())
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts")
    }

    /// The configuration that its servers run with.
    pub fn config(&self) -> Config {
        let overrides = CliOverrides {
            data_dir: Some(self.data()),
            ..CliOverrides::default()
        };
        let file = self.data().with_extension("toml");
        Config::load(Some(&file), std::iter::empty(), overrides).expect("the servers took it")
    }
}

/// Registers an API and applications for [`crate::clients::Clients`].
pub async fn register_applications(administrator: &Administrator) -> Arc<Vec<Application>> {
    let (status, made) = administrator
        .post("/admin/apis", &json!({"audience": AUDIENCE, "name": "Orders"}))
        .await;
    assert!(status.is_success(), "{made}");
    let mut applications = Vec::new();
    for number in 0..APPLICATIONS {
        let client_id = format!("my.trusted.app/service-{number}");
        let made = administrator
            .register(json!({
                "application_uri": client_id, "name": "Service", "scope": "read update", "audiences": [AUDIENCE],
                "system_user": "svc.integration",
            }))
            .await;
        let text = |name: &str| made[name].as_str().expect(name).to_owned();
        let application = Application::new(&text("id"), &client_id, &text("client_secret"), number % 2 == 0);
        applications.push(application.behind_gateway());
    }
    Arc::new(applications)
}
