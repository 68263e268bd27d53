//! The log itself is tampered with.

use crate::folder::{Folder, LARGE, SMALL, checkpoint, copy, remains, size_of};
use crate::running_server::Administrator;
use proptest::prelude::*;
use reqwest::{Method, StatusCode};

#[test]
fn an_untouched_folder_passes_served_or_stopped() {
    let folder = Folder::large();
    let said = folder.verify(&[]);
    said.passed();
    assert!(said.report["events"].as_u64().unwrap() > LARGE, "{said:?}");
    let checks: Vec<_> = said.report["checked"]
        .as_array()
        .unwrap()
        .iter()
        .map(|checked| checked["check"].clone())
        .collect();
    assert_eq!(
        checks,
        [
            "events",
            "streams",
            "tiles",
            "proofs",
            "checkpoints",
            "state",
            "usage",
            "audit_index"
        ]
    );
    let counts = |check: &str| {
        let checked = said.report["checked"]
            .as_array()
            .unwrap()
            .iter()
            .find(|checked| checked["check"] == check);
        checked.unwrap()["count"].as_u64().unwrap()
    };
    assert_eq!(
        counts("tiles"),
        LARGE / 256,
        "and not one of level 1, which takes 65,536 events"
    );
    assert!(
        counts("checkpoints") >= 2 && counts("proofs") > 64 && counts("audit_index") > 0,
        "{said:?}"
    );

    let kept = folder.write("kept.txt", &folder.kept);
    let server = folder.start();
    folder
        .verify(&["--checkpoint", &kept, "--verifier-key", &folder.verifier_key()])
        .passed();
    drop(server);
    folder.verify_log(&["--checkpoint", &kept]).passed();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 8, ..ProptestConfig::default() })]
    #[test]
    fn a_byte_of_any_event_that_is_another_is_found(place in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let folder = Folder::small();
        let index = place.index(folder.log_size() as usize) as u64;
        let mut bytes = folder.event(index);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        folder.put(index, &bytes);
        let said = folder.verify_log(&[]).failed();
        if index < SMALL / 256 * 256 {
            let named = format!("event {index}: its leaf hash in tile ");
            prop_assert!(said.failure("tiles").starts_with(&named), "{:?}", said);
        }
        // Every checkpoint that covers it, the smallest of them by name.
        let first = if index < size_of(&folder.kept) { size_of(&folder.kept) } else { folder.log_size() };
        let named = format!("checkpoint {first}: the first {first} events have another root");
        prop_assert_eq!(said.failure("checkpoints"), named.as_str());
    }
}

#[test]
fn an_event_that_is_missing_is_named() {
    let folder = Folder::small();
    folder.execute("events.db", "DELETE FROM events WHERE position = 300");
    let said = folder.verify_log(&[]).failed();
    assert!(said.failure("events").starts_with("event 300: "), "{said:?}");
}

#[test]
fn an_event_whose_gap_was_closed_is_named() {
    let folder = Folder::small();
    folder.execute("events.db", "DELETE FROM events WHERE position = 300");
    // Bottom up, so that no two have one position.
    let size = folder.log_size() as i64;
    for position in 301..=size {
        folder.execute(
            "events.db",
            &format!(
                "UPDATE events SET position = {} WHERE position = {position}",
                position - 1
            ),
        );
    }
    let said = folder.verify_log(&[]).failed();
    assert!(said.failure("tiles").starts_with("event 300: "), "{said:?}");
    assert!(said.failure("streams").starts_with("event "), "{said:?}");
}

#[test]
fn two_events_that_were_swapped_are_named() {
    let folder = Folder::small();
    let (one, other) = (folder.event(40), folder.event(43));
    assert_ne!(one, other);
    folder.put(40, &other);
    folder.put(43, &one);
    let said = folder.verify_log(&[]).failed();
    assert!(said.failure("tiles").starts_with("event 40: "), "{said:?}");
}

#[test]
fn a_log_whose_end_was_cut_off_is_told_by_the_first_checkpoint_beyond_it() {
    let folder = Folder::small();
    let kept = size_of(&folder.kept);
    folder.execute(
        "events.db",
        &format!("DELETE FROM events WHERE position >= {}", kept - 1),
    );
    let said = folder.verify_log(&[]).failed();
    let expected = format!("checkpoint {kept}: it is over {kept} events, the log has {}", kept - 1);
    assert_eq!(said.failure("checkpoints"), expected);
}

#[test]
fn a_revision_that_was_changed_is_named() {
    let folder = Folder::small();
    folder.execute(
        "events.db",
        "UPDATE events SET revision = revision + 1000000 WHERE position = 30",
    );
    let said = folder.verify_log(&[]).failed();
    assert!(
        said.failure("streams").starts_with("event 30: revision 10000"),
        "{said:?}"
    );
}

#[test]
fn an_event_that_is_kept_in_another_stream_than_its_own_is_named() {
    for edit in [
        "UPDATE streams SET name = 'application-00000000-0000-0000-0000-000000000000' WHERE id = \
         (SELECT stream FROM events WHERE position = 100)",
        "UPDATE streams SET name = 'application-00000000-0000-0000-0000-000000000000' WHERE name = 'signing-keys'",
        "UPDATE events SET stream = 1000000 WHERE position = 100",
        "UPDATE events SET stream = (SELECT id FROM streams WHERE name = 'signing-keys'), revision = 1000000 \
         WHERE position = 100",
    ] {
        let folder = Folder::small();
        folder.verify_log(&[]).passed();
        folder.execute("events.db", edit);
        let said = folder.verify_log(&[]).failed();
        let named = said.failure("streams");
        assert!(named.contains(", and kept in "), "{edit}: {named}");
        assert!(
            edit.contains("signing-keys") || edit.contains("WHERE id") || named.starts_with("event 100: "),
            "{named}"
        );
        assert_eq!(said.report["failures"].as_array().unwrap().len(), 1, "{said:?}");
    }
}

#[test]
fn a_server_does_not_show_a_history_that_was_hidden_or_put_among_another_s() {
    let renamed =
        "UPDATE streams SET name = 'application-00000000-0000-0000-0000-000000000000' WHERE name = 'signing-keys'";
    let moved = "UPDATE events SET stream = (SELECT id FROM streams WHERE name = 'signing-keys'), \
         revision = (SELECT max(revision) + 1 FROM events \
         WHERE stream = (SELECT id FROM streams WHERE name = 'signing-keys')) WHERE position = 100";
    for (edit, why) in [
        (renamed, "which is no longer there"),
        (moved, "says that it is of another"),
    ] {
        let folder = Folder::small();
        folder.execute("events.db", edit);
        let server = folder.start();
        crate::folder::wait(async {
            let administrator = Administrator::of(&server).await;
            let answer = administrator
                .request(Method::GET, "/admin/signing-keys/history")
                .send()
                .await
                .unwrap();
            assert!(answer.status().is_server_error(), "{edit}: {}", answer.status());
        });
        assert!(server.stderr().contains(why), "{edit}: {}", server.stderr());
        server.stop();
    }
}

#[test]
fn an_event_that_was_removed_behind_the_log_s_back_is_named_though_its_hash_is_right() {
    let folder = Folder::small();
    folder.put(9, &remains(&folder.event(9), None));
    let said = folder.verify_log(&[]).failed();
    assert_eq!(
        said.failure("removals"),
        "event 9 was removed, and the log does not say so"
    );
    assert_eq!(said.report["failures"].as_array().unwrap().len(), 1, "{said:?}");
}

#[test]
fn a_folder_that_was_rolled_back_no_longer_fits_what_the_world_has_seen() {
    let folder = Folder::small();
    let older = folder.path("older");
    copy(&folder.data(), &older);
    let server = folder.start();
    let seen = checkpoint(&server);
    server.stop();
    let seen_file = folder.write("seen.txt", &seen);
    folder.verify_log(&["--checkpoint", &seen_file]).passed();

    std::fs::rename(folder.data(), folder.path("newer")).unwrap();
    std::fs::rename(&older, folder.data()).unwrap();
    folder.verify_log(&[]).passed(); // nothing in it says that it is old
    let said = folder.verify_log(&["--checkpoint", &seen_file]).failed();
    assert!(said.failure("remembered").contains("seen.txt: it is over "), "{said:?}");

    // It goes on from there, and is another log for ever.
    folder.start().stop();
    folder.start().stop();
    let said = folder.verify_log(&["--checkpoint", &seen_file]).failed();
    assert!(said.failure("remembered").contains("seen.txt: the first "), "{said:?}");
}

#[test]
fn a_server_whose_log_alone_was_rolled_back_publishes_nothing_and_says_why() {
    let folder = Folder::small();
    let older = folder.path("older.db");
    std::fs::copy(folder.data().join("events.db"), &older).unwrap();
    let server = folder.start();
    let seen = checkpoint(&server);
    server.stop();
    for companion in ["events.db-wal", "events.db-shm"] {
        let _ = std::fs::remove_file(folder.data().join(companion));
    }
    std::fs::copy(&older, folder.data().join("events.db")).unwrap();

    let server = folder.start();
    crate::folder::wait(async {
        let get = async |path: &str| {
            let answer = reqwest::get(format!("{}{path}", server.url)).await.unwrap();
            (answer.status(), answer.text().await.unwrap())
        };
        for path in ["/checkpoint", "/tile/0/000"] {
            assert_eq!(get(path).await.0, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        }
        let (status, why) = get("/health/ready").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(why.contains("the log was rolled back: it has "), "{why}");
    });
    assert!(
        server.stderr().contains("the log was rolled back: it has "),
        "{}",
        server.stderr()
    );
    server.stop();
    let said = folder.verify_log(&[]).failed();
    let size = size_of(&seen);
    assert!(
        said.failure("checkpoints").starts_with(&format!("checkpoint {size}: ")),
        "{said:?}"
    );
}

#[test]
fn a_server_that_is_killed_has_published_nothing_that_its_log_does_not_hold() {
    let folder = Folder::small();
    let mut kept = folder.kept.clone();
    for _ in 0..3 {
        let server = folder.start();
        let seen = checkpoint(&server);
        assert!(size_of(&seen) > size_of(&kept), "each start is an event: {seen}");
        server.kill();
        let seen_file = folder.write("seen.txt", &seen);
        let kept_file = folder.write("kept.txt", &kept);
        let said = folder.verify_log(&["--checkpoint", &seen_file, "--checkpoint", &kept_file]);
        said.passed();
        kept = seen;
    }
}

#[test]
fn what_retention_removed_on_the_record_verifies_and_its_proofs_too() {
    let folder = Folder::small();
    let kept_file = folder.write("kept.txt", &folder.kept);
    folder.retain(300, 300, |_| true);
    let said = folder.verify_log(&["--checkpoint", &kept_file]);
    said.passed();
    let checked = said.report["checked"].as_array().unwrap();
    assert!(
        checked
            .iter()
            .any(|checked| checked["check"] == "removals" && checked["count"] == 300),
        "{said:?}"
    );

    // Tiles are made again of what is left.
    std::fs::remove_file(folder.data().join("tiles.db")).unwrap();
    let server = folder.start();
    let seen = checkpoint(&server);
    assert!(size_of(&seen) > size_of(&folder.kept));
    crate::folder::wait(async {
        let administrator = Administrator::of(&server).await;
        let answer = async |path: &str| administrator.request(Method::GET, path).send().await.unwrap().status();
        assert_eq!(answer("/audit/events/7/proof").await, StatusCode::OK);
        assert_eq!(answer("/tile/entries/000").await, StatusCode::GONE);
        assert_eq!(answer("/tile/0/000").await, StatusCode::OK);
    });
    let profile = folder.data().join("admin.json");
    let (key, profile) = (folder.verifier_key(), profile.to_str().unwrap().to_owned());
    let online = [
        "--url",
        &server.url,
        "--verifier-key",
        &key,
        "--entries",
        "--profile",
        &profile,
    ];
    let said = crate::folder::verify(&online);
    said.passed();
    assert!(
        said.report["notes"][0]
            .as_str()
            .unwrap()
            .starts_with("512 events are in bundles"),
        "{said:?}"
    );
    server.stop();
    folder.verify_log(&["--checkpoint", &kept_file]).passed();
}

#[test]
fn a_fact_of_the_state_that_was_removed_among_what_retention_removed_is_named() {
    let folder = Folder::small();
    // The server's own first facts follow the tokens.
    let (first, through) = (SMALL, SMALL + 2);
    folder.retain(through, SMALL, |index| index < SMALL);
    folder.verify_log(&[]).passed();
    let fact = folder.event(first);

    folder.put(first, &remains(&fact, None));
    let said = folder.verify_log(&[]).failed();
    let named = format!("event {first} was removed from the stream ");
    assert!(said.failure("removals").starts_with(&named), "{said:?}");

    // Its stream is in the bytes that were put there, and can be another; their number cannot.
    folder.put(first, &remains(&fact, Some("audit-access")));
    let said = folder.verify_log(&[]).failed();
    let counted = format!(
        "of events 0 to {} {} were removed, and the log says {SMALL}",
        through - 1,
        SMALL + 1
    );
    assert_eq!(said.failure("removals"), counted);
}

#[test]
fn a_removal_that_goes_on_is_no_failure_and_is_told() {
    let folder = Folder::small();
    folder.retain(300, 300, |index| index < 250);
    let said = folder.verify_log(&[]);
    said.passed();
    let notes = said.report["notes"].as_array().unwrap();
    assert!(
        notes.iter().any(|note| note
            .as_str()
            .unwrap()
            .starts_with("of events 0 to 299 250 of 300 are removed")),
        "{said:?}"
    );
}

#[test]
fn a_server_that_hides_an_event_as_removed_is_found_from_outside() {
    let folder = Folder::small();
    folder.put(9, &remains(&folder.event(9), None));
    let server = folder.start();
    checkpoint(&server);
    let (profile, key) = (folder.data().join("admin.json"), folder.verifier_key());
    let online = [
        "--url",
        &server.url,
        "--verifier-key",
        &key,
        "--entries",
        "--profile",
        profile.to_str().unwrap(),
    ];
    let said = crate::folder::verify(&online).failed();
    assert_eq!(
        said.failure("removals"),
        "the server does not give events 0 to 255 because events of them were removed, and what the server gives of \
         its events does not say so"
    );
}
