//! The real binary, started on a port of its own over a data folder, stopped by the test that started it.
#![allow(dead_code)] // each test target uses its own part of this

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A start, a stop and an answer take much less; a machine under load may need this.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to start a server.
pub struct Start {
    data_dir: PathBuf,
    config: String,
    environment: Vec<(String, String)>,
}

impl Start {
    /// Over this data folder, on a free port of the loopback interface, one worker per core.
    pub fn over(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            config: String::new(),
            environment: Vec::new(),
        }
    }

    /// With this configuration file.
    pub fn with_config(mut self, toml: &str) -> Self {
        self.config = toml.to_owned();
        self
    }

    /// With this environment variable.
    pub fn with_environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> RunningServer {
        match self.try_start() {
            Ok(server) => server,
            Err((status, stderr)) => panic!("the server ended with {status} before it listened:\n{stderr}"),
        }
    }

    /// Starts it; `Err` with its exit status and stderr when it ends before it listens.
    pub fn try_start(self) -> Result<RunningServer, (ExitStatus, String)> {
        let config = self.data_dir.with_extension("toml");
        std::fs::write(&config, &self.config).expect("the configuration can be written");
        let stderr_file = self.data_dir.with_extension("stderr");
        let stderr = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&stderr_file)
            .expect("stderr file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_grantlog"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .arg("--config")
            .arg(&config)
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the binary starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (lines, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let mut output = Vec::new();
        loop {
            match said.recv_timeout(PATIENCE) {
                Ok(line) => {
                    output.push(line.clone());
                    if let Some(url) = line.strip_prefix("listening on ") {
                        let url = url.to_owned();
                        return Ok(RunningServer {
                            child,
                            url,
                            data_dir: self.data_dir,
                            stderr_file,
                            output,
                        });
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = child.wait().expect("it has ended");
                    return Err((status, std::fs::read_to_string(&stderr_file).unwrap_or_default()));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let _ = child.kill();
                    panic!("the server does not listen after {PATIENCE:?}; it said {output:?}");
                }
            }
        }
    }
}

/// A server that runs until it is dropped.
pub struct RunningServer {
    child: Child,
    /// Where it listens, `http://127.0.0.1:<port>`.
    pub url: String,
    /// Its data folder.
    pub data_dir: PathBuf,
    stderr_file: PathBuf,
    /// What it printed before it listened, and that line.
    pub output: Vec<String>,
}

impl RunningServer {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far, all starts over the same folder together.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr_file).unwrap_or_default()
    }

    /// The administrator's client_id and client_secret, from the profile in the data folder.
    pub fn administrator(&self) -> (String, String) {
        let profile = std::fs::read(self.data_dir.join("admin.json")).expect("the first start wrote a profile");
        let profile: Value = serde_json::from_slice(&profile).expect("the profile is JSON");
        let text = |name: &str| profile[name].as_str().expect(name).to_owned();
        (text("client_id"), text("client_secret"))
    }

    /// `kill -9`, and the end of it.
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it has ended");
    }

    /// Asks it to stop with SIGTERM and waits for its end.
    pub fn stop(mut self) -> ExitStatus {
        let asked = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(asked.expect("kill is there").success());
        self.wait_for_end()
    }

    /// Waits until it ends by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its state can be asked for") {
                return status;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "the server still runs after {PATIENCE:?}\n{}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An administrator at a running server.
pub struct Administrator {
    http: Client,
    url: String,
    token: String,
}

impl Administrator {
    /// Signs in with the profile.
    pub async fn of(server: &RunningServer) -> Self {
        Self::with(Client::new(), server).await
    }

    /// The same through this client, for tests that start many servers: making a client takes longer.
    pub async fn with(http: Client, server: &RunningServer) -> Self {
        let (client_id, client_secret) = server.administrator();
        Self::signed_in(http, &server.url, &client_id, &client_secret).await
    }

    /// Signs in with a secret that came another way.
    pub async fn signed_in(http: Client, url: &str, client_id: &str, client_secret: &str) -> Self {
        let answer = request_token(&http, url, client_id, client_secret, &[]).await;
        let token = answer.1["access_token"].as_str();
        let token = token.unwrap_or_else(|| panic!("the administrator gets no token: {answer:?}"));
        Self {
            http,
            url: url.to_owned(),
            token: token.to_owned(),
        }
    }

    /// A request with the administrator's token.
    pub fn request(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token)
    }

    /// GET, status and JSON.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        json(
            self.request(reqwest::Method::GET, path)
                .send()
                .await
                .expect("an answer"),
        )
        .await
    }

    /// POST of a JSON body, status and JSON.
    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        json(
            self.request(reqwest::Method::POST, path)
                .json(body)
                .send()
                .await
                .expect("an answer"),
        )
        .await
    }

    /// Registers an application and answers what it was told, `id` and `client_secret` among it.
    pub async fn register(&self, body: Value) -> Value {
        let (status, made) = self.post("/admin/applications", &body).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        made
    }
}

/// A token request in the standard dialect with the secret in the body, and what came of it.
pub async fn request_token(
    http: &Client,
    url: &str,
    client_id: &str,
    client_secret: &str,
    more: &[(&str, &str)],
) -> (StatusCode, Value) {
    let mut form = vec![
        ("grant_type", "client_credentials"),
        ("client_id", client_id),
        ("client_secret", client_secret),
    ];
    form.extend_from_slice(more);
    json(
        http.post(format!("{url}/connect/token"))
            .form(&form)
            .send()
            .await
            .expect("an answer"),
    )
    .await
}

/// Status and JSON body; an empty body is null.
pub async fn json(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let body = response.bytes().await.expect("a body");
    (
        status,
        if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).expect("a JSON body")
        },
    )
}
