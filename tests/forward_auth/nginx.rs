//! A real nginx in front of an API, configured with the very text of `docs/forward-auth.md`.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DOCUMENT: &str = include_str!("../../docs/forward-auth.md");
/// Where Debian has it: not on the path of every user.
const PROGRAM: &str = "/usr/sbin/nginx";
/// A start takes much less; a machine under load may need this.
const PATIENCE: Duration = Duration::from_secs(20);
/// Somebody else may take the port between its choice and nginx's start.
const MAX_STARTS: usize = 5;

pub struct Nginx {
    child: Child,
    pub url: String,
    folder: TempDir,
}

impl Nginx {
    /// In front of the API at `upstream`, asking the server at `grantlog`, both `<host>:<port>`.
    pub fn start(grantlog: &str, upstream: &str) -> Self {
        for _ in 0..MAX_STARTS {
            if let Some(started) = Self::try_start(grantlog, upstream) {
                return started;
            }
        }
        panic!("nginx found no free port in {MAX_STARTS} starts");
    }

    fn try_start(grantlog: &str, upstream: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let own = free_address();
        let config = configuration(&own, grantlog, upstream);
        std::fs::write(folder.path().join("nginx.conf"), config).expect("it can be written");
        let mut child = Command::new(PROGRAM)
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is needed: apt-get install nginx-light");
        let begun = Instant::now();
        loop {
            if TcpStream::connect(&own).is_ok() {
                let url = format!("http://{own}");
                return Some(Self { child, url, folder });
            }
            let said = || std::fs::read_to_string(folder.path().join("error.log")).unwrap_or_default();
            if child.try_wait().expect("its state").is_some() {
                assert!(said().contains("Address already in use"), "nginx ended: {}", said());
                return None;
            }
            assert!(begun.elapsed() < PATIENCE, "nginx does not listen: {}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has complained about.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM: its worker ends with it, which a killed master would leave behind.
        let _ = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}

fn configuration(own: &str, grantlog: &str, upstream: &str) -> String {
    let replaced = [
        ("listen 80;", format!("listen {own};")),
        ("server 127.0.0.1:8080;", format!("server {grantlog};")),
        ("server 127.0.0.1:9000;", format!("server {upstream};")),
    ];
    let mut documented = documented().to_owned();
    for (address, with) in &replaced {
        assert_eq!(
            documented.matches(address).count(),
            1,
            "the document has one {address:?}"
        );
        documented = documented.replace(address, with);
    }
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {kind};"));
    format!(
        "daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log error.log info;\n\
         events {{ worker_connections 256; }}\n\
         http {{\naccess_log off;\n{}\n{documented}\n}}\n",
        temporary.join("\n")
    )
}

fn documented() -> &'static str {
    let (_, rest) = DOCUMENT
        .split_once("```nginx\n")
        .expect("the document has a configuration for nginx");
    rest.split_once("```").expect("it ends").0
}

fn free_address() -> String {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("an address").to_string()
}

/// `<host>:<port>` of a URL.
pub fn authority(url: &str) -> &str {
    url.split('/').nth(2).expect("an authority")
}
