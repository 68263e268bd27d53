//! What somebody verifies who has no access to the folder: a server, a kept checkpoint, an export.

use crate::folder::{Folder, checkpoint, remains, size_of, verify};
use crate::running_server::Administrator;
use reqwest::Method;
use sha2::{Digest, Sha256};

/// A witness's line below the log's: another name, another key, the type of a cosignature.
const COSIGNATURE: &str =
    "— witness.example/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZ\n";

#[test]
fn a_server_is_verified_with_its_verifier_key_and_nothing_else() {
    let folder = Folder::large();
    let server = folder.start();
    let key = folder.verifier_key();
    let kept = folder.write("kept.txt", &format!("{}{COSIGNATURE}", folder.kept));
    let online = ["--url", &server.url, "--verifier-key", &key];
    let said = verify(&[&online[..], &["--checkpoint", &kept]].concat());
    said.passed();
    assert_eq!(said.report["events"], size_of(&checkpoint(&server)), "{said:?}");

    let profile = folder.data().join("admin.json");
    let profile = ["--entries", "--profile", profile.to_str().unwrap()];
    let said = verify(&[&online[..], &profile].concat());
    said.passed();
    let checked = said.report["checked"].as_array().unwrap();
    for check in ["events", "streams", "proofs"] {
        assert!(checked.iter().any(|checked| checked["check"] == check), "{said:?}");
    }

    let other = Folder::small();
    let said = verify(&["--url", &server.url, "--verifier-key", &other.verifier_key()]);
    assert!(
        said.code == Some(1) && said.stderr.contains("not signed by this key"),
        "{said:?}"
    );
    let foreign = other.write("foreign.txt", &other.kept);
    let said = verify(&[&online[..], &["--checkpoint", &foreign]].concat()).failed();
    assert!(
        said.failure("remembered")
            .contains("foreign.txt: the log's key has not signed it"),
        "{said:?}"
    );
}

#[test]
fn a_server_that_shows_another_log_than_it_did_is_found_from_outside() {
    let folder = Folder::small();
    let older = folder.path("older");
    crate::folder::copy(&folder.data(), &older);
    let server = folder.start();
    let seen = folder.write("seen.txt", &checkpoint(&server));
    server.stop();
    std::fs::remove_dir_all(folder.data()).unwrap();
    std::fs::rename(&older, folder.data()).unwrap();
    // The same key, the same name, another history.
    folder.start().stop();
    let server = folder.start();
    let key = folder.verifier_key();
    let said = verify(&["--url", &server.url, "--verifier-key", &key, "--checkpoint", &seen]).failed();
    assert!(said.failure("remembered").contains("seen.txt: the first "), "{said:?}");
}

#[test]
fn an_export_from_the_first_event_proves_itself() {
    let folder = Folder::small();
    let key = folder.verifier_key();
    let size = size_of(&folder.kept);
    let export = write_export(&folder, 0, size, |_| {});
    let alone = ["--export", export.as_str(), "--verifier-key", key.as_str()];
    verify(&alone).passed();
    folder.verify_log(&["--export", &export]).passed();

    let altered = write_export(&folder, 0, size, |lines| lines[7][40] ^= 1);
    let said = verify(&["--export", &altered, "--verifier-key", &key]).failed();
    assert!(said.failure("export").contains("the first "), "{said:?}");
    let said = folder.verify_log(&["--export", &altered]).failed();
    assert!(
        said.failure("export").contains("event 7 is not the one in the log"),
        "{said:?}"
    );

    let shorter = write_export(&folder, 0, size, |lines| drop(lines.pop()));
    let said = verify(&["--export", &shorter, "--verifier-key", &key]).failed();
    assert!(
        said.failure("export")
            .contains(&format!("event {} is missing", size - 1)),
        "{said:?}"
    );
    let longer = write_export(&folder, 0, size, |lines| lines.push(b"{}".to_vec()));
    verify(&["--export", &longer, "--verifier-key", &key]).failed();
}

#[test]
fn an_export_of_later_events_is_held_against_the_tree_of_a_folder_or_a_server() {
    let folder = Folder::small();
    let key = folder.verifier_key();
    let size = size_of(&folder.kept);
    let export = write_export(&folder, 300, size, |_| {});
    folder.verify_log(&["--export", &export]).passed();
    let said = verify(&["--export", &export, "--verifier-key", &key]);
    assert_eq!(said.code, Some(1), "alone it proves nothing: {said:?}");
    assert!(
        said.failure("export")
            .ends_with("it does not begin with event 0, so the tree is needed: give --data-dir or --url"),
        "{said:?}"
    );
    let altered = write_export(&folder, 300, size, |lines| lines[7][40] ^= 1);
    let server = folder.start();
    let online = ["--url", server.url.as_str(), "--verifier-key", key.as_str(), "--export"];
    verify(&[&online[..], &[&export]].concat()).passed();
    let said = verify(&[&online[..], &[&altered]].concat()).failed();
    assert!(
        said.failure("export").contains("event 307 is not the one in the log"),
        "{said:?}"
    );
}

#[test]
fn an_export_with_forged_remains_of_an_event_is_found_wherever_it_is_held_against() {
    let folder = Folder::small();
    let key = folder.verifier_key();
    let size = size_of(&folder.kept);
    let forged = write_export(&folder, 0, size, |lines| lines[7] = remains(&lines[7], None));
    let said = verify(&["--export", &forged, "--verifier-key", &key]).failed();
    let unsaid = "event 7 was removed, and the export does not say so";
    assert!(said.failure("removals").ends_with(unsaid), "{said:?}");
    let said = folder.verify_log(&["--export", &forged]).failed();
    let kept = "event 7 was removed from it, and the log has it";
    assert!(said.failure("export").ends_with(kept), "{said:?}");
    let server = folder.start();
    let online = ["--url", &server.url, "--verifier-key", &key, "--export", &forged];
    let said = verify(&online).failed();
    assert!(said.failure("removals").ends_with(unsaid), "{said:?}");
}

#[test]
fn an_export_of_what_retention_left_proves_itself_and_has_room_for_no_forgery() {
    let mut folder = Folder::small();
    let key = folder.verifier_key();
    let older = size_of(&folder.kept);
    folder.retain(300, 300, |_| true);
    // The fact that says so ends the range.
    let early = write_export(&folder, 0, older, |_| {});
    let said = verify(&["--export", &early, "--verifier-key", &key]).failed();
    assert!(
        said.failure("removals")
            .ends_with("event 0 was removed, and the export does not say so"),
        "{said:?}"
    );
    folder.verify_log(&["--export", &early]).passed();

    let server = folder.start();
    folder.kept = checkpoint(&server);
    server.stop();
    let size = size_of(&folder.kept);
    let whole = write_export(&folder, 0, size, |_| {});
    verify(&["--export", &whole, "--verifier-key", &key]).passed();
    for (index, stream) in [(300, None), (701, Some("audit-access"))] {
        let forged = write_export(&folder, 0, size, |lines| lines[index] = remains(&lines[index], stream));
        let said = verify(&["--export", &forged, "--verifier-key", &key]).failed();
        assert!(
            said.failure("removals")
                .contains(&format!("event {index} was removed, and")),
            "{said:?}"
        );
    }
}

#[test]
fn an_export_as_the_command_line_takes_it_proves_itself() {
    let folder = Folder::small();
    let server = folder.start();
    let (data, path) = (folder.data(), folder.path("evidence.log"));
    let path = path.to_str().unwrap();
    let exported = std::process::Command::new(env!("CARGO_BIN_EXE_grantlog"))
        .args(["audit", "export", "--format", "log", "--output", path, "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(exported.status.success(), "{exported:?}");
    drop(server);
    let said = verify(&["--export", path, "--verifier-key", &folder.verifier_key()]);
    said.passed();
    assert!(
        said.report["events"].as_u64().unwrap() >= size_of(&folder.kept),
        "{said:?}"
    );
    folder.verify_log(&["--export", path]).passed();
}

#[test]
fn an_export_that_is_made_for_reading_is_held_against_the_events_byte_for_byte() {
    let folder = Folder::small();
    let server = folder.start();
    let key = folder.verifier_key();
    let profile = folder.data().join("admin.json");
    let online = ["--url", &server.url, "--verifier-key", &key, "--export"];
    let entries = ["--entries", "--profile", profile.to_str().unwrap()];
    for (format, more) in [
        ("ndjson", &[][..]),
        ("csv", &["--from-index", "300"]),
        ("ocsf", &["--type", "TokenIssued"]),
        (
            "csv",
            &["--filter", "client_id eq \"orders\"", "--through-index", "500"],
        ),
    ] {
        let export = take_export(&folder, format, more);
        folder.verify_log(&["--export", &export]).passed();
        verify(&[&online[..], &[&export], &entries].concat()).passed();

        let without_events = verify(&[&online[..], &[&export]].concat()).failed();
        let alone = verify(&["--verifier-key", &key, "--export", &export]).failed();
        for said in [without_events, alone] {
            assert!(
                said.failure("export")
                    .contains("it is what its manifest says, and was not held against the events"),
                "{said:?}"
            );
            assert_eq!(said.report["failures"].as_array().unwrap().len(), 1, "{said:?}");
            assert_eq!(said.stderr, "error: the export does not verify\n");
        }

        // Whoever changes an export changes its manifest.
        change_export(&export, |text| text.replacen("orders", "ordera", 1));
        let changed = folder.verify_log(&["--export", &export]).failed();
        assert!(
            changed.failure("export").contains(" is not what the log gives (event "),
            "{changed:?}"
        );
        let changed = verify(&[&online[..], &[&export], &entries].concat()).failed();
        assert!(
            changed.failure("export").contains(" is not what the log gives (event "),
            "{changed:?}"
        );
        change_export(&export, |text| {
            let end = text.trim_end().rfind('\n').unwrap() + 1;
            text.replacen("ordera", "orders", 1)[..end].to_owned()
        });
        let shorter = folder.verify_log(&["--export", &export]).failed();
        assert!(
            shorter.failure("export").contains(" is missing behind line "),
            "{shorter:?}"
        );
    }
}

#[test]
fn an_export_of_before_retention_is_not_taken_for_a_forgery_nor_for_verified() {
    let folder = Folder::small();
    let server = folder.start();
    let export = take_export(&folder, "ndjson", &[]);
    server.stop();
    folder.verify_log(&["--export", &export]).passed();
    folder.retain(300, 300, |_| true);
    let said = folder.verify_log(&["--export", &export]).failed();
    assert!(
        said.failure("export")
            .contains("retention has removed events of its range since"),
        "{said:?}"
    );
    assert_eq!(said.stderr, "error: the export does not verify\n");
}

#[test]
fn a_proof_is_verified_by_the_key_and_the_event_alone() {
    let folder = Folder::small();
    let server = folder.start();
    let proof = |accept: &'static str| {
        crate::folder::wait(async {
            let administrator = Administrator::of(&server).await;
            let request = administrator
                .request(Method::GET, "/audit/events/7/proof")
                .header("Accept", accept);
            request.send().await.unwrap().text().await.unwrap()
        })
    };
    let text = folder.write("7.tlog-proof", &proof("text/plain"));
    let json = folder.write("7.json", &proof("application/json"));
    server.stop();
    let event = |index| String::from_utf8(folder.event(index)).unwrap();
    let right = folder.write("right", &event(7));
    let line = folder.write("line", &format!("{}\n", event(7)));
    let other = folder.write("other", &event(8));
    let left = folder.write("left", &String::from_utf8(remains(&folder.event(7), None)).unwrap());
    let key = folder.verifier_key();
    let of = |arguments: &[&str]| verify(&[&["--verifier-key", &key], arguments].concat());
    for proof in [&text, &json] {
        for event in [&right, &line] {
            let said = of(&["--proof", proof, "--event", event]);
            said.passed();
            assert!(
                said.report["checked"][0]["what"]
                    .as_str()
                    .unwrap()
                    .starts_with("the event's bytes are event 7 of the "),
                "{said:?}"
            );
        }
        for event in [&other, &left] {
            let said = of(&["--proof", proof, "--event", event]).failed();
            assert!(said.failure("proofs").contains("the event is "), "{said:?}");
            assert_eq!(said.stderr, "error: the proof does not verify\n");
        }
        let other_key = Folder::large().verifier_key();
        let said = verify(&["--verifier-key", &other_key, "--proof", proof, "--event", &right]).failed();
        assert!(said.failure("proofs").contains("has not signed it"), "{said:?}");
    }
    // JSON says the leaf hash, a text nothing of the event.
    of(&["--proof", &json]).passed();
    assert_eq!(of(&["--proof", &text]).code, Some(2));
    assert_eq!(
        verify(&["--proof", &text, "--event", &right]).code,
        Some(2),
        "without a key"
    );
}

#[test]
fn an_export_that_is_not_as_its_manifest_says_is_found() {
    let folder = Folder::small();
    let export = write_export(&folder, 0, size_of(&folder.kept), |_| {});
    let text = std::fs::read_to_string(&export).unwrap();
    std::fs::write(&export, format!("{text}\n")).unwrap();
    let said = folder.verify_log(&["--export", &export]).failed();
    assert!(said.failure("export").contains("1 lines more than events"), "{said:?}");
}

#[test]
fn what_does_not_go_together_is_refused_as_wrong_usage() {
    for arguments in [
        &["--url", "http://127.0.0.1:1"][..],
        &["--verifier-key", "not+a+key"],
        &["--entries"],
    ] {
        assert_eq!(verify(arguments).code, Some(2), "{arguments:?}");
    }
}

/// An export as the command line takes it from the server of the folder.
fn take_export(folder: &Folder, format: &str, more: &[&str]) -> String {
    let path = folder.path(&format!("taken-{format}-{}", more.len()));
    let path = path.to_str().unwrap().to_owned();
    let exported = std::process::Command::new(env!("CARGO_BIN_EXE_grantlog"))
        .args([
            "audit",
            "export",
            "--force",
            "--format",
            format,
            "--output",
            &path,
            "--data-dir",
        ])
        .arg(folder.data())
        .args(more)
        .output()
        .unwrap();
    assert!(exported.status.success(), "{exported:?}");
    path
}

/// Changes an export and makes its manifest fit.
fn change_export(export: &str, change: impl FnOnce(&str) -> String) {
    let before = std::fs::read_to_string(export).unwrap();
    let after = change(&before);
    assert_ne!(before, after);
    std::fs::write(export, &after).unwrap();
    let manifest_path = format!("{export}.manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&manifest_path).unwrap()).unwrap();
    manifest["bytes"] = after.len().into();
    manifest["sha256"] = sha256(after.as_bytes()).into();
    let lines = |text: &str| text.lines().count() as u64;
    manifest["count"] = (manifest["count"].as_u64().unwrap() + lines(&after) - lines(&before)).into();
    std::fs::write(&manifest_path, manifest.to_string()).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An export of the format `log` with its manifest, whatever is done to its lines before.
fn write_export(folder: &Folder, from: u64, through: u64, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> String {
    let mut lines: Vec<Vec<u8>> = (from..through).map(|index| folder.event(index)).collect();
    change(&mut lines);
    let mut bytes = lines.join(&b'\n');
    bytes.push(b'\n');
    let name = format!("export-{:x}.log", Sha256::digest(&bytes)[0]);
    let path = folder.path(&name);
    std::fs::write(&path, &bytes).unwrap();
    let sha256 = sha256(&bytes);
    let manifest = serde_json::json!({
        "manifest": 1, "format": "log", "from_index": from, "through_index": through, "filter": {},
        "count": lines.len(), "bytes": bytes.len(), "sha256": sha256, "checkpoint": folder.kept,
    });
    folder.write(&format!("{name}.manifest.json"), &manifest.to_string());
    path.to_str().unwrap().to_owned()
}
