//! Everything but the log can be built again: projections and audit index that are gone, damaged, of another
//! log, or on a disk that fails, cost time and a line in the server's log, nothing else.

use crate::check::check;
use crate::clients::{self, Application, Clients};
use crate::facts;
use crate::log::Log;
use crate::random::Random;
use crate::running_server::{Administrator, RunningServer};
use crate::scene::{Scene, register_applications};
use crate::served;
use grantlog::audit::index::SEGMENT_EVENTS;
use reqwest::Client;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What happens to a database file while no server runs.
struct Damage {
    name: &'static str,
    inflict: fn(&Path),
    /// Whether the server has to tell.
    is_told: bool,
    /// Whether the audit index has to bear it too.
    is_of_index: bool,
}

const DAMAGES: [Damage; 15] = [
    damage("deleted", delete_all).told().of_index(),
    damage("deleted without its write-ahead log", delete).told().of_index(),
    damage("its write-ahead log deleted", |file| delete(&beside(file, "-wal"))),
    damage("its write-ahead log garbage", |file| noise(&beside(file, "-wal"), 0)).of_index(),
    damage("empty", |file| shorten(file, |_| 0)).told(),
    damage("cut after 100 bytes", |file| shorten(file, |_| 100)).told(),
    damage("cut within a page", |file| shorten(file, |length| length / 2 + 77))
        .told()
        .of_index(),
    damage("cut after the first page", |file| shorten(file, |_| 4_096))
        .told()
        .of_index(),
    damage("garbage", |file| settled(file, |file| noise(file, 0)))
        .told()
        .of_index(),
    damage("garbage but for its first page", |file| {
        settled(file, |file| noise(file, 4_096))
    })
    .told()
    .of_index(),
    damage("a text", |file| replace(file, b"{\"not\": \"a database\"}\n")).told(),
    damage("another database", another_database).told().of_index(),
    damage("its tables dropped", |file| sql(file, DROP)).told(),
    damage("its rows deleted", |file| sql(file, EMPTY)).told(),
    damage("its revocations deleted", |file| {
        execute(file, "DELETE FROM revoked_until")
    })
    .told(),
];

const fn damage(name: &'static str, inflict: fn(&Path)) -> Damage {
    Damage {
        name,
        inflict,
        is_told: false,
        is_of_index: false,
    }
}

impl Damage {
    const fn told(self) -> Self {
        Self { is_told: true, ..self }
    }

    const fn of_index(self) -> Self {
        Self {
            is_of_index: true,
            ..self
        }
    }
}

/// Both files' tables: what a file does not have it cannot lose.
const TABLES: [&str; 11] = [
    "application",
    "api",
    "revoked_token",
    "revoked_until",
    "revoked_secret",
    "reference_token",
    "session",
    "reported_calls",
    "single",
    "posting",
    "segment",
];
const DROP: &str = "DROP TABLE";
const EMPTY: &str = "DELETE FROM";

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn delete(file: &Path) {
    let _ = std::fs::remove_file(file);
}

fn delete_all(file: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        delete(&beside(file, suffix));
    }
}

fn replace(file: &Path, bytes: &[u8]) {
    delete_all(file);
    std::fs::write(file, bytes).expect("it can be written");
}

/// What is in the write-ahead log is moved into the file first: else it would heal what is done to the file.
fn settle(file: &Path) {
    let connection = rusqlite::Connection::open(file).expect("it opens");
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .expect("a checkpoint");
    drop(connection);
    delete(&beside(file, "-shm"));
}

fn settled(file: &Path, inflict: fn(&Path)) {
    settle(file);
    inflict(file);
}

fn shorten(file: &Path, to: fn(u64) -> u64) {
    settle(file);
    let length = std::fs::metadata(file).expect("a file").len();
    let open = std::fs::File::options().write(true).open(file).expect("it opens");
    open.set_len(to(length)).expect("it can be cut");
}

/// Noise from there to the end of the file.
fn noise(file: &Path, from: usize) {
    let mut bytes = std::fs::read(file).unwrap_or_else(|_| vec![0; 8_192]);
    let mut random = Random::of(from as u64);
    bytes
        .iter_mut()
        .skip(from)
        .for_each(|byte| *byte = random.below(256) as u8);
    std::fs::write(file, bytes).expect("it can be written");
}

fn another_database(file: &Path) {
    delete_all(file);
    let connection = rusqlite::Connection::open(file).expect("it opens");
    connection
        .execute_batch("CREATE TABLE invoices (id INTEGER); PRAGMA user_version = 7")
        .expect("a table");
}

fn execute(file: &Path, statement: &str) {
    let connection = rusqlite::Connection::open(file).expect("it opens");
    connection.execute(statement, []).expect("it has that table");
}

fn sql(file: &Path, verb: &str) {
    let connection = rusqlite::Connection::open(file).expect("it opens");
    for table in TABLES {
        let _ = connection.execute(&format!("{verb} {table}"), []);
    }
}

/// A scene whose log has some thousand events, and what belongs to it.
struct Served {
    http: Client,
    scene: Scene,
    applications: Arc<Vec<Application>>,
}

impl Served {
    /// After some load, with at least so many events, and everything saved.
    async fn with_events(random: &mut Random, events: usize) -> Self {
        let (http, scene) = (clients::http(), Scene::new());
        let server = scene.start();
        let administrator = Administrator::with(http.clone(), &server).await;
        let applications = register_applications(&administrator).await;
        let clients = Clients::start(&http, &server.url, &applications, 8, Some(administrator), random);
        clients.answered(150).await;
        clients.stop().await;
        stop(server);
        let this = Self {
            http,
            scene,
            applications,
        };
        facts::fill(&this.scene.log(), &this.client_ids(), events as u64).await;
        if let Some(client_id) = this.client_ids().first() {
            facts::add_token_facts(&this.scene.log(), client_id).await;
        }
        let (server, administrator) = this.start().await;
        served::caught_up(&administrator).await;
        stop(server);
        this
    }

    fn client_ids(&self) -> Vec<&str> {
        self.applications
            .iter()
            .map(|application| application.client_id.as_str())
            .collect()
    }

    async fn start(&self) -> (RunningServer, Administrator) {
        let server = self.scene.start();
        let administrator = Administrator::with(self.http.clone(), &server).await;
        (server, administrator)
    }

    /// Starts, compares everything with the log, and answers with what the server told the operator.
    async fn start_and_compare(&self, what: &str) -> (RunningServer, Administrator, String) {
        self.start_and_compare_but(what, None).await
    }

    /// The same with a server that is not ready, for one reason that says this.
    async fn start_and_compare_but(&self, what: &str, reason: Option<&str>) -> (RunningServer, Administrator, String) {
        let _ = std::fs::remove_file(self.scene.data().with_extension("stderr"));
        let (server, administrator) = self.start().await;
        let log = Log::read(&self.scene.log())
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        served::compare_state(&administrator, &served::folded(&log)).await;
        served::caught_up_but(&administrator, reason).await;
        for client_id in self.client_ids() {
            served::compare_search(&administrator, &log, client_id, 100).await;
        }
        let said = server.stderr();
        (server, administrator, said)
    }
}

fn stop(server: RunningServer) {
    let status = tokio::task::block_in_place(|| server.stop());
    assert_eq!(status.code(), Some(0));
}

fn warns(said: &str, of: &str) -> bool {
    said.lines().any(|line| line.contains(" WARN ") && line.contains(of))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projections_that_are_gone_or_damaged_are_built_again() {
    let served = Served::with_events(&mut Random::seeded("projections"), 0).await;
    for Damage {
        name, inflict, is_told, ..
    } in DAMAGES
    {
        inflict(&served.scene.file("projections.db"));
        let (server, _, said) = served.start_and_compare(name).await;
        assert!(!is_told || warns(&said, "projections"), "{name}: {said}");
        served::saved(&served.scene).await;
        // Killed, so that the next damage finds a write-ahead log.
        tokio::task::block_in_place(|| server.kill());
        let (server, _, said) = served.start_and_compare(name).await;
        assert!(!warns(&said, "projections"), "{name}: {said}");
        served::compare_saved(&served.scene).await;
        tokio::task::block_in_place(|| server.kill());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_index_that_is_gone_or_damaged_is_built_again() {
    let served = Served::with_events(&mut Random::seeded("audit index"), SEGMENT_EVENTS + 500).await;
    // The other damage is met by the same lines as that of the projections.
    for Damage {
        name, inflict, is_told, ..
    } in DAMAGES.into_iter().filter(|damage| damage.is_of_index)
    {
        inflict(&served.scene.file("audit.db"));
        // Some damage shows only when what is damaged is looked for: the file is then removed.
        let (server, administrator) = served.start().await;
        served::caught_up(&administrator).await;
        for client_id in served.client_ids() {
            let _ = administrator
                .get(&format!("/audit/events?client_id={client_id}&order=asc"))
                .await;
        }
        let said = server.stderr();
        tokio::task::block_in_place(|| server.kill());
        let (server, _, said_then) = served.start_and_compare(name).await;
        assert!(!is_told || said.contains("audit index"), "{name}: {said}");
        assert!(!said_then.contains("damaged"), "{name}: {said_then}");
        served::compare_saved(&served.scene).await;
        tokio::task::block_in_place(|| server.kill());
    }
}

/// SQLite does not notice a flipped bit, and one is enough to enable an application.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_saved_state_is_noticed() {
    let served = Served::with_events(&mut Random::seeded("flipped bit"), 0).await;
    let file = served.scene.file("projections.db");
    settle(&file);
    let mut bytes = std::fs::read(&file).expect("a file");
    let system_user = b"svc.integration";
    // Each copy: some are in pages' unused parts.
    let mut flipped = 0;
    for at in 0..bytes.len() - system_user.len() {
        if bytes[at..].starts_with(system_user) {
            bytes[at] ^= 1;
            flipped += 1;
        }
    }
    assert!(flipped > 0);
    std::fs::write(&file, bytes).expect("it can be written");
    let (server, _, said) = served.start_and_compare("a flipped bit").await;
    assert!(warns(&said, "checksum"), "{said}");
    stop(server);
}

/// A log that was restored from a backup is shorter than what was built from it, or went on differently. All that
/// can be built again is; what was published cannot be, so the server says that it is not the log of then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_rolled_back_is_noticed_and_everything_is_built_from_it() {
    let mut random = Random::seeded("rolled back");
    let served = Served::with_events(&mut random, SEGMENT_EVENTS - 400).await;
    let backup = served.scene.folder().join("backup");
    std::fs::copy(served.scene.log(), &backup).expect("a clean stop leaves one file");
    facts::fill(&served.scene.log(), &served.client_ids(), SEGMENT_EVENTS as u64 + 10).await;
    let (server, administrator) = served.start().await;
    let clients = Clients::start(
        &served.http,
        &server.url,
        &served.applications,
        8,
        Some(administrator),
        &mut random,
    );
    clients.answered(100).await;
    clients.stop().await;
    served::caught_up(&Administrator::with(served.http.clone(), &server).await).await;
    stop(server);

    std::fs::copy(&backup, served.scene.log()).expect("a restored backup");
    let reason = "the log was rolled back: it has ";
    let (server, _, said) = served.start_and_compare_but("rolled back", Some(reason)).await;
    assert!(
        warns(&said, "rolled back") && warns(&said, "was the log rolled back?"),
        "{said}"
    );
    stop(server);

    // Restored again, and longer than what was built from the other one.
    std::fs::copy(&backup, served.scene.log()).expect("a restored backup");
    facts::fill(&served.scene.log(), &served.client_ids(), SEGMENT_EVENTS as u64 + 2_000).await;
    let reason = "the log was altered: event ";
    let (server, _, said) = served.start_and_compare_but("went on differently", Some(reason)).await;
    assert!(warns(&said, "is not the one that the projections have read"), "{said}");
    stop(server);
    served::compare_saved(&served.scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projections_that_cannot_be_saved_keep_nobody_waiting() {
    let mut random = Random::seeded("unsaved projections");
    let served = Served::with_events(&mut random, 0).await;
    for fault in ["write+fsync+truncate:EIO", "write:ENOSPC", "fsync:EIO"] {
        let server = tokio::task::block_in_place(|| served.scene.server_on(None, "").start());
        let administrator = Administrator::with(served.http.clone(), &server).await;
        served.scene.steer(&format!("{fault}:path=projections.db"));
        let clients = Clients::start(
            &served.http,
            &server.url,
            &served.applications,
            8,
            Some(administrator),
            &mut random,
        );
        clients.answered(400).await;
        let administrator = Administrator::with(served.http.clone(), &server).await;
        let (status, readiness) = administrator.get("/health/ready").await;
        assert_eq!(status, 200, "{fault}: {readiness}");
        let told = clients.stop().await;
        assert!(
            told.unavailable == 0 && told.broken_off == 0 && told.wrong.is_empty(),
            "{fault}: {told:?}"
        );
        let log = Log::read(&served.scene.log()).await.unwrap();
        check(&log, &told).unwrap();
        served::compare_state(&administrator, &served::folded(&log)).await;
        if !fault.starts_with("fsync") {
            let begun = Instant::now();
            while !warns(&server.stderr(), "checkpoint could not be saved") {
                assert!(begun.elapsed() < PATIENCE, "{fault}: {}", server.stderr());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        tokio::task::block_in_place(|| server.kill());
        served.scene.steer("");
        stop(served.start_and_compare(fault).await.0);
        served::compare_saved(&served.scene).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_index_that_cannot_be_written_says_so_and_tokens_are_issued() {
    let mut random = Random::seeded("unwritable index");
    let served = Served::with_events(&mut random, SEGMENT_EVENTS - 150).await;
    let server = tokio::task::block_in_place(|| served.scene.server_on(None, "").start());
    let administrator = Administrator::with(served.http.clone(), &server).await;
    served::caught_up(&administrator).await;
    served.scene.steer("write+fsync+truncate:EIO:path=audit.db");
    let clients = Clients::start(
        &served.http,
        &server.url,
        &served.applications,
        8,
        Some(administrator),
        &mut random,
    );
    clients.answered(300).await;
    let administrator = Administrator::with(served.http.clone(), &server).await;
    let begun = Instant::now();
    let reasons = loop {
        let (status, readiness) = administrator.get("/health/ready").await;
        if status == 503 {
            break readiness["reasons"].to_string();
        }
        assert!(begun.elapsed() < PATIENCE, "{readiness}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(
        reasons.contains("the audit index stopped") && reasons.contains("disk I/O error"),
        "{reasons}"
    );
    clients.answered(400).await;
    let told = clients.stop().await;
    assert!(
        told.unavailable == 0 && told.broken_off == 0 && told.wrong.is_empty(),
        "{told:?}"
    );
    let log = Log::read(&served.scene.log()).await.unwrap();
    check(&log, &told).unwrap();
    assert!(log.events.len() > SEGMENT_EVENTS);
    // It still answers what it has, and says how far that is.
    let (status, page) = administrator.get("/audit/events?limit=1").await;
    assert_eq!(status, 200, "{page}");
    assert!(number(&page, "indexed_through") < number(&page, "log_size"), "{page}");
    tokio::task::block_in_place(|| server.kill());
    served.scene.steer("");
    let (server, ..) = served.start_and_compare("the disk is healthy").await;
    stop(server);
    served::compare_saved(&served.scene).await;
}

const PATIENCE: Duration = Duration::from_secs(30);

fn number(page: &Value, name: &str) -> u64 {
    page[name].as_u64().expect(name)
}

/// A file that cannot be reached at all is no reason not to serve.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projections_and_index_that_cannot_be_opened_leave_the_token_endpoint_at_work() {
    let served = Served::with_events(&mut Random::seeded("unreachable"), 0).await;
    for name in ["projections.db", "audit.db"] {
        let file = served.scene.file(name);
        delete_all(&file);
        std::fs::create_dir(&file).expect("a folder in its place");
        let (server, administrator) = served.start().await;
        let log = Log::read(&served.scene.log()).await.unwrap();
        served::compare_state(&administrator, &served::folded(&log)).await;
        let (status, readiness) = administrator.get("/health/ready").await;
        assert_eq!(status == 200, name == "projections.db", "{readiness}");
        assert!(
            status == 200 || readiness["reasons"].to_string().contains("audit.db"),
            "{readiness}"
        );
        assert!(
            server
                .stderr()
                .lines()
                .any(|line| line.contains(" ERROR ") && line.contains(name))
        );
        let (status, page) = administrator.get("/audit/events?limit=1").await;
        assert_eq!(status.as_u16(), if name == "audit.db" { 500 } else { 200 }, "{page}");
        stop(server);
        std::fs::remove_dir(&file).expect("it is still empty");
        stop(served.start_and_compare(name).await.0);
        served::compare_saved(&served.scene).await;
    }
}
