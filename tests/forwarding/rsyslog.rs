//! rsyslog, as Debian has it, as a process of the test's own on a loopback port. `scripts/test` installs it:
//! `apt-get install rsyslog rsyslog-openssl`.

use crate::receiver::{PATIENCE, Received, Receiver};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// rsyslog over TCP.
pub struct Rsyslog {
    process: Child,
    output: PathBuf,
}

/// rsyslog over TLS, for clients with a certificate that it trusts.
pub struct RsyslogTls(Rsyslog);

impl Rsyslog {
    fn run(port: u16, folder: &Path, globals: &str, module: &str) -> Self {
        let (config, output) = (folder.join("rsyslog.conf"), folder.join("rsyslog.out"));
        let text = format!(
            r#"
            global(workDirectory="{folder}" maxMessageSize="128k" {globals})
            module(load="imtcp" {module})
            # PRI, then the structured data, then the message, as they were understood.
            template(name="parsed" type="string" string="%pri% %hostname% %app-name% %msgid% %structured-data%%msg%\n")
            ruleset(name="write") {{ action(type="omfile" file="{output}" template="parsed") }}
            input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="write")
            "#,
            folder = folder.display(),
            output = output.display(),
        );
        std::fs::write(&config, text).expect("a file");
        let program = ["/usr/sbin/rsyslogd", "/sbin/rsyslogd"]
            .into_iter()
            .find(|program| Path::new(program).exists())
            .expect("rsyslogd is not there: apt-get install rsyslog rsyslog-openssl");
        let said = std::fs::File::create(folder.join("rsyslog.stderr")).expect("a file");
        let process = Command::new(program)
            .args(["-n", "-f"])
            .arg(&config)
            .arg("-i")
            .arg(folder.join("rsyslog.pid"))
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a clone"))
            .stderr(said)
            .spawn()
            .expect("rsyslogd starts");
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let said = std::fs::read_to_string(folder.join("rsyslog.stderr")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "rsyslogd does not listen: {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { process, output }
    }

    /// Each message, as rsyslog has understood it: PRI, hostname, app-name, msgid, structured data, message.
    pub fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }
}

/// The event in a message.
pub fn event_of(line: &str) -> serde_json::Value {
    let (_, json) = line
        .split_once('\u{feff}')
        .unwrap_or_else(|| panic!("no BOM in {line}"));
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

impl Receiver for Rsyslog {
    fn config(port: u16, _: &Path) -> String {
        format!(
            "[[forwarding]]\nname = \"syslog\"\nkind = \"syslog\"\nurl = \"tcp://127.0.0.1:{port}\"\n\
             hostname = \"id.example.com\"\nfrom = \"beginning\"\nretry_max_seconds = 1\n"
        )
    }

    async fn start(port: u16, folder: &Path) -> Self {
        Self::run(port, folder, "", "")
    }

    fn received(&self) -> Vec<Received> {
        self.lines().iter().map(|line| Received::of(&event_of(line))).collect()
    }

    async fn stop(self) {}
}

impl Receiver for RsyslogTls {
    fn config(port: u16, folder: &Path) -> String {
        let names = vec!["127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        std::fs::write(folder.join("rsyslog.pem"), made.cert.pem()).expect("a file");
        std::fs::write(folder.join("rsyslog.key"), made.signing_key.serialize_pem()).expect("a file");
        Rsyslog::config(port, folder).replace("tcp://", "tls://")
            + &format!(
                "ca_file = {certificate:?}\nclient_certificate_file = {certificate:?}\nclient_key_file = {key:?}\n",
                certificate = folder.join("rsyslog.pem"),
                key = folder.join("rsyslog.key"),
            )
    }

    async fn start(port: u16, folder: &Path) -> Self {
        let file = |name: &str| folder.join(name).display().to_string();
        let globals = format!(
            r#"DefaultNetstreamDriver="ossl" DefaultNetstreamDriverCAFile="{certificate}"
               DefaultNetstreamDriverCertFile="{certificate}" DefaultNetstreamDriverKeyFile="{key}""#,
            certificate = file("rsyslog.pem"),
            key = file("rsyslog.key"),
        );
        let module = r#"StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid""#;
        Self(Rsyslog::run(port, folder, &globals, module))
    }

    fn received(&self) -> Vec<Received> {
        self.0.received()
    }

    async fn stop(self) {}
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
