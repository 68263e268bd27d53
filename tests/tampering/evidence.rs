//! What is kept beside the log is tampered with.

use crate::folder::{Folder, LARGE, size_of};
use crate::running_server::Administrator;
use reqwest::Method;

#[test]
fn a_tile_that_was_edited_is_named_by_its_first_event() {
    let folder = Folder::small();
    folder.execute(
        "tiles.db",
        "UPDATE tile SET hashes = CAST(substr(hashes, 1, 64) || x'00' || substr(hashes, 66) AS BLOB) WHERE id = 1",
    );
    let said = folder.verify_log(&[]).failed();
    assert_eq!(
        said.failure("tiles"),
        "event 258: its leaf hash in tile 0/001 is another"
    );
    assert!(said.failure("proofs").starts_with("event "), "{said:?}");
}

#[test]
fn a_tile_that_is_missing_is_named() {
    let folder = Folder::small();
    folder.execute("tiles.db", "DELETE FROM tile WHERE id = 0");
    let said = folder.verify_log(&[]).failed();
    assert!(said.failure("tiles").contains("tile 0/000 is missing"), "{said:?}");
}

#[test]
fn tiles_that_are_lost_are_no_failure_for_they_are_made_again() {
    let folder = Folder::small();
    std::fs::remove_file(folder.data().join("tiles.db")).unwrap();
    folder.verify_log(&[]).passed();
    folder.start().stop();
    let said = folder.verify_log(&[]);
    said.passed();
    assert!(folder.data().join("tiles.db").exists());
}

#[test]
fn a_published_checkpoint_that_was_edited_is_named() {
    for edit in [
        "note = replace(note, char(10) || size || char(10), char(10) || (size + 1) || char(10))",
        "note = replace(note, 'audit', 'Audit')",
        "note = substr(note, 1, length(note) - 10) || 'AAAAAAAA=' || char(10)",
        "root = zeroblob(32)",
    ] {
        let folder = Folder::small();
        let size = size_of(&folder.kept);
        folder.execute(
            "checkpoints.db",
            &format!("UPDATE checkpoint SET {edit} WHERE size = {size}"),
        );
        let said = folder.verify_log(&[]).failed();
        assert!(
            said.failure("checkpoints").starts_with(&format!("checkpoint {size}: ")),
            "{edit}: {said:?}"
        );
    }
}

#[test]
fn a_checkpoint_of_another_size_than_it_is_kept_as_is_named() {
    let folder = Folder::small();
    let size = size_of(&folder.kept);
    folder.execute(
        "checkpoints.db",
        &format!("UPDATE checkpoint SET size = size - 5 WHERE size = {size}"),
    );
    let said = folder.verify_log(&[]).failed();
    assert!(
        said.failure("checkpoints")
            .starts_with(&format!("checkpoint {}: ", size - 5)),
        "{said:?}"
    );
}

#[test]
fn an_audit_index_that_was_edited_is_found() {
    let folder = Folder::large();
    folder.execute(
        "audit.db",
        "UPDATE posting SET value = CAST('nobody' AS BLOB) WHERE value = CAST('orders' AS BLOB)",
    );
    let said = folder.verify(&[]).failed();
    assert!(said.failure("audit_index").contains("'nobody'"), "{said:?}");
}

#[test]
fn a_projection_that_cannot_be_read_is_named_and_the_others_are_compared() {
    for (file, check) in [
        ("projections.db", "state"),
        ("usage.db", "usage"),
        ("audit.db", "audit_index"),
    ] {
        let folder = Folder::large();
        std::fs::write(folder.data().join(file), vec![b'x'; 8_192]).unwrap();
        // Which a server that was stopped may have left, with all of the file in it.
        let _ = std::fs::remove_file(folder.data().join(format!("{file}-wal")));
        let said = folder.verify(&[]).failed();
        said.failure(check);
        assert_eq!(said.report["failures"].as_array().unwrap().len(), 1, "{said:?}");
        let checked = said.report["checked"].as_array().unwrap();
        for other in ["state", "usage", "audit_index"]
            .iter()
            .filter(|other| **other != check)
        {
            assert!(
                checked.iter().any(|checked| checked["check"] == *other),
                "{file}: {said:?}"
            );
        }
    }
}

#[test]
fn published_checkpoints_that_are_lost_are_a_failure_until_one_is_given() {
    for lose in [
        |folder: &Folder| std::fs::remove_file(folder.data().join("checkpoints.db")).unwrap(),
        |folder: &Folder| std::fs::write(folder.data().join("checkpoints.db"), []).unwrap(),
    ] {
        let folder = Folder::small();
        lose(&folder);
        let said = folder.verify_log(&[]).failed();
        assert!(
            said.failure("checkpoints")
                .contains("restore it, or give a checkpoint that you have kept"),
            "{said:?}"
        );
        let kept = folder.write("kept.txt", &folder.kept);
        folder.verify_log(&["--checkpoint", &kept]).passed();
    }
}

#[test]
fn an_audit_index_that_hides_events_as_given_up_is_found_and_built_again_by_the_next_start() {
    let folder = Folder::large();
    folder.execute("audit.db", "INSERT INTO pruned VALUES (0, 1, 1)");
    folder.execute("audit.db", "DELETE FROM posting WHERE segment < 1");
    let said = folder.verify(&[]).failed();
    assert!(
        said.failure("audit_index")
            .contains("given up its first 1 segments, and the log says so of 0"),
        "{said:?}"
    );
    let server = folder.start();
    crate::folder::wait(async {
        crate::folder::indexed(&server, LARGE).await;
        let administrator = Administrator::of(&server).await;
        let path = "/audit/events?client_id=orders&order=asc&limit=1";
        let answer = administrator.request(Method::GET, path).send().await.unwrap();
        let page: serde_json::Value = answer.json().await.unwrap();
        assert!(page["events"][0]["index"].as_u64().unwrap() < 10, "{page}");
    });
    assert!(
        server.stderr().contains("first 1 segments are given up"),
        "{}",
        server.stderr()
    );
    server.stop();
    folder.verify(&[]).passed();
}

#[test]
fn a_key_that_is_not_the_log_s_verifies_nothing() {
    let (folder, other) = (Folder::small(), Folder::large());
    let said = folder.verify_log(&["--verifier-key", &other.verifier_key()]).failed();
    assert!(said.failure("checkpoints").contains("has not signed it"), "{said:?}");
}

#[test]
fn people_are_told_what_was_checked_and_what_failed_first() {
    let folder = Folder::small();
    folder.execute("tiles.db", "DELETE FROM tile WHERE id = 0");
    let data = folder.data();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_grantlog"))
        .args(["audit", "verify", "--log-only", "--data-dir"])
        .arg(&data)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(lines[0].starts_with("ok     events       7"), "{said}");
    assert!(lines.contains(&"FAILED tiles        tile 0/000 is missing"), "{said}");
    assert!(lines.last().unwrap().starts_with("NOT VERIFIED: 127.0.0.1:"), "{said}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "error: the log does not verify\n");
}
