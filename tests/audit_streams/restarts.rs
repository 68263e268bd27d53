//! The command line's tail and export across kills and restarts.

use crate::long_log;
use crate::running_server::{Administrator, RunningServer, Start, request_token};
use reqwest::Client;
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What comes at all comes well within this, on a machine under load too.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often the server goes and comes back.
const RESTARTS: usize = 5;
/// Clients that ask for tokens all the time.
const CLIENTS: usize = 4;

/// A command that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn grantlog(data_dir: &Path, arguments: &[&str], stdout: &Path) -> Running {
    let stderr = stdout.with_extension("stderr");
    let child = Command::new(env!("CARGO_BIN_EXE_grantlog"))
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .env_remove("GRANTLOG_URL")
        .stdin(Stdio::null())
        .stdout(File::create(stdout).expect("a file"))
        .stderr(File::create(stderr).expect("a file"))
        .spawn()
        .expect("the binary starts");
    Running(child)
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).expect("the file");
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).expect("an event"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tail_has_shown_across_restarts_under_load_is_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let mut server = Some(Start::over(&data_dir).start());
    let application = {
        let administrator = Administrator::of(server.as_ref().expect("it runs")).await;
        administrator
            .register(json!({"application_uri": "orders", "system_user": "svc", "scope": "read"}))
            .await
    };
    let secret = application["client_secret"].as_str().expect("a secret").to_owned();
    let url = Arc::new(Mutex::new(server.as_ref().expect("it runs").url.clone()));
    let (stop, granted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (url, stop, granted, secret) = (url.clone(), stop.clone(), granted.clone(), secret.clone());
            tokio::spawn(async move {
                let http = Client::new();
                while !stop.load(Ordering::Relaxed) {
                    let now = url.lock().expect("no panic").clone();
                    // Refused connections are what this is about.
                    let form = [
                        ("grant_type", "client_credentials"),
                        ("client_id", "orders"),
                        ("client_secret", &secret),
                    ];
                    match http.post(format!("{now}/connect/token")).form(&form).send().await {
                        Ok(answer) if answer.status().is_success() => granted.fetch_add(1, Ordering::Relaxed),
                        _ => {
                            tokio::time::sleep(Duration::from_millis(20)).await;
                            0
                        }
                    };
                }
            })
        })
        .collect();

    let shown = folder.path().join("tail.ndjson");
    let tail = grantlog(&data_dir, &["audit", "tail", "--json", "--from-index", "0"], &shown);
    for restart in 0..RESTARTS {
        let before = granted.load(Ordering::Relaxed);
        let begun = Instant::now();
        let came_back = || {
            let said = std::fs::read_to_string(shown.with_extension("stderr")).unwrap_or_default();
            said.matches("connected again").count()
        };
        // The tail has to be there when the server goes: each restart is one for it, too.
        while granted.load(Ordering::Relaxed) < before + 200
            || begun.elapsed() < Duration::from_millis(800)
            || came_back() < restart
        {
            assert!(begun.elapsed() < PATIENCE, "tokens are granted, and the tail is back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let running = server.take().expect("it runs");
        tokio::task::block_in_place(|| match restart % 2 {
            0 => running.kill(),
            _ => assert_eq!(
                running.stop().code(),
                Some(0),
                "an open tail keeps no server from stopping"
            ),
        });
        let again = Start::over(&data_dir).start();
        *url.lock().expect("no panic") = again.url.clone();
        server = Some(again);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no panic");
    }

    let begun = Instant::now();
    let log = loop {
        let log = long_log::read(&data_dir).await;
        let count = lines(&shown).len();
        if count >= log.len() {
            break log;
        }
        let stderr = std::fs::read_to_string(shown.with_extension("stderr")).unwrap_or_default();
        assert!(
            begun.elapsed() < PATIENCE,
            "{count} of {} events were shown\n{stderr}",
            log.len()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    // Control-C is how a tail ends.
    let mut tail = tail;
    let asked = Command::new("kill").args(["-INT", &tail.0.id().to_string()]).status();
    assert!(asked.expect("kill is there").success());
    let ended = tokio::task::block_in_place(|| tail.0.wait().expect("it ends"));
    assert_eq!(ended.code(), Some(0));
    let shown_lines = lines(&shown);
    assert!(log.len() > 200 * RESTARTS, "{}", log.len());
    assert_eq!(shown_lines.len(), log.len());
    for (shown, stored) in shown_lines.iter().zip(&log) {
        let stored_event: Value = serde_json::from_slice(&stored.bytes).expect("JSON");
        assert_eq!(shown["index"], stored.index);
        assert_eq!(shown["revision"], stored.revision);
        for member in ["id", "stream", "type", "time", "actor", "data"] {
            assert_eq!(shown[member], stored_event[member], "event {}", stored.index);
        }
    }
    let stderr = std::fs::read_to_string(shown.with_extension("stderr")).expect("what it said");
    let came_back = stderr.matches("connected again").count();
    assert!(came_back >= RESTARTS, "it came back {came_back} times:\n{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_goes_on_where_a_kill_has_cut_it_off() {
    for format in ["csv", "log"] {
        let folder = tempfile::tempdir().expect("a folder");
        let data_dir = folder.path().join("data");
        long_log::fill(&data_dir, 60_000).await;
        let server = Start::over(&data_dir).start();
        let file = folder.path().join("trail");
        let name = file.to_str().expect("UTF-8");
        let stdout = folder.path().join("stdout");
        let arguments = ["audit", "export", "--json", "--format", format, "--output", name];
        let mut export = grantlog(&data_dir, &arguments, &stdout);
        // Cut off in the middle.
        let part = folder.path().join("trail.part");
        let begun = Instant::now();
        while std::fs::metadata(&part).map_or(0, |part| part.len()) < 2 << 20 {
            assert!(begun.elapsed() < PATIENCE, "the export has begun");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        server.kill();
        assert!(
            !file.exists(),
            "it was whole before it was cut off: make the log longer"
        );
        let server = Start::over(&data_dir).start();
        let ended = tokio::task::block_in_place(|| export.0.wait().expect("it ends"));
        let said = std::fs::read_to_string(stdout.with_extension("stderr")).expect("what it said");
        assert!(ended.success(), "{said}");
        assert!(said.contains("going on at event"), "{said}");

        let manifest = std::fs::read(folder.path().join("trail.manifest.json")).expect("a manifest");
        let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
        let through = manifest["through_index"].as_u64().expect("a number");
        assert_eq!(manifest["count"], through);
        let exported = std::fs::read(&file).expect("the file");
        assert_eq!(manifest["bytes"], exported.len());
        // As one export that nothing disturbs.
        let whole = auditors_export(&server, &format!("format={format}&through_index={through}")).await;
        assert!(exported == whole, "{format}: the file is another than the export");
        // Nobody has written over it, and nobody does.
        let again = grantlog(&data_dir, &arguments, &stdout).0.wait().expect("it ends");
        assert_eq!(again.code(), Some(1));
    }
}

async fn auditors_export(server: &RunningServer, query: &str) -> Vec<u8> {
    let profile = std::fs::read(server.data_dir.join("auditor.json")).expect("the auditor's profile");
    let profile: Value = serde_json::from_slice(&profile).expect("JSON");
    let text = |name: &str| profile[name].as_str().expect(name).to_owned();
    let http = Client::new();
    let (_, token) = request_token(&http, &server.url, &text("client_id"), &text("client_secret"), &[]).await;
    let answer = http
        .get(format!("{}/audit/export?{query}", server.url))
        .bearer_auth(token["access_token"].as_str().expect("a token"))
        .send()
        .await
        .expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.bytes().await.expect("the export").to_vec()
}
