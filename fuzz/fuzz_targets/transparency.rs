//! What others hand to a verifier: signed notes, checkpoints, proofs and tile paths. Reading never panics, and what
//! was read is written as it was: two texts that look different are never taken for the same.

#![no_main]

/// The modules themselves are included, not linked, so that the fuzzer instruments them, and not a database.
#[path = "../../src/audit/transparency/merkle.rs"]
#[allow(dead_code)]
mod merkle;
#[path = "../../src/audit/transparency/tiles.rs"]
#[allow(dead_code)]
mod tiles;
#[path = "../../src/audit/transparency/note.rs"]
#[allow(dead_code)]
mod note;
#[path = "../../src/audit/transparency/checkpoint.rs"]
#[allow(dead_code)]
mod checkpoint;
#[path = "../../src/audit/transparency/proof.rs"]
#[allow(dead_code)]
mod proof;

use checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;
use note::Note;
use proof::TlogProof;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(note) = Note::parse(text) {
        assert_eq!(note.to_string(), text);
        assert!(note.signatures.iter().all(|signature| note::is_key_name(&signature.name)));
        look_at(&note);
    }
    if let Ok(proof) = TlogProof::parse(text) {
        let again = TlogProof::parse(&proof.to_string()).expect("what was written can be read");
        assert_eq!(again, proof);
        look_at(&proof.checkpoint);
        if let Ok(said) = Checkpoint::parse(&proof.checkpoint.text) {
            let leaf = merkle::leaf_hash(input);
            let _ = merkle::verify_inclusion(&leaf, proof.index, said.size, &proof.hashes, &said.root);
            let (old, new) = ((proof.index, &leaf), (said.size, &said.root));
            let _ = merkle::verify_consistency(old, new, &proof.hashes);
        }
    }
    for line in text.split('\n') {
        if let Some((number, width)) = tiles::parse_tile_path(line) {
            let path = tiles::tile_path(number);
            assert!(line == path || line == format!("{path}.p/{width}"));
        }
        let _ = tiles::parse_tile_level(line);
    }
});

fn look_at(note: &Note) {
    if let Ok(checkpoint) = Checkpoint::parse(&note.text) {
        // Extension lines may follow what it says.
        assert!(note.text.starts_with(&checkpoint.to_string()));
    }
}
