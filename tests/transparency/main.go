// Verifies a running server with Go's own transparency log: golang.org/x/mod/sumdb's note and tlog, of which the Go
// checksum database is made. Nothing here is Grantlog's but the addresses of what is fetched.
//
//	verify URL VERIFIER_KEY OLD_CHECKPOINT_FILE PROOF_FILE EVENT_FILE
//
// The old checkpoint is one that was seen before; the proof is a tlog-proof of the event, whose file has its stored
// bytes. Prints what it has checked.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Leaves of which a proof is made and checked.
const sampled = 64

func main() {
	log.SetFlags(0)
	if len(os.Args) != 6 {
		log.Fatal("usage: verify URL VERIFIER_KEY OLD_CHECKPOINT_FILE PROOF_FILE EVENT_FILE")
	}
	if err := verify(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
		log.Fatal(err)
	}
}

func verify(url, verifierKey, oldFile, proofFile, eventFile string) error {
	verifier, err := note.NewVerifier(verifierKey)
	if err != nil {
		return err
	}
	known := note.VerifierList(verifier)
	signed, err := fetch(url + "/checkpoint")
	if err != nil {
		return err
	}
	tree, err := open(signed, verifier.Name(), known)
	if err != nil {
		return fmt.Errorf("/checkpoint: %w", err)
	}
	oldSigned, err := os.ReadFile(oldFile)
	if err != nil {
		return err
	}
	old, err := open(oldSigned, verifier.Name(), known)
	if err != nil {
		return fmt.Errorf("%s: %w", oldFile, err)
	}

	// Whatever this reader gives was checked against the root first.
	hashes := tlog.TileHashReader(tree, &tiles{url})
	step := tree.N/sampled + 1
	proofs := 0
	for n := int64(0); n < tree.N; n += step {
		leaf, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, n)})
		if err != nil {
			return err
		}
		proof, err := tlog.ProveRecord(tree.N, n, hashes)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, n, leaf[0]); err != nil {
			return fmt.Errorf("event %d: %w", n, err)
		}
		proofs++
	}
	consistency, err := tlog.ProveTree(tree.N, old.N, hashes)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(consistency, tree.N, tree.Hash, old.N, old.Hash); err != nil {
		return fmt.Errorf("from %d to %d: %w", old.N, tree.N, err)
	}

	// The server's own proof, for the event's own bytes.
	text, err := os.ReadFile(proofFile)
	if err != nil {
		return err
	}
	index, proof, proofTree, err := parseProof(string(text), verifier.Name(), known)
	if err != nil {
		return fmt.Errorf("%s: %w", proofFile, err)
	}
	event, err := os.ReadFile(eventFile)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, proofTree.N, proofTree.Hash, index, tlog.RecordHash(event)); err != nil {
		return fmt.Errorf("%s: %w", proofFile, err)
	}
	fmt.Printf("tree %d, %d leaves proven, consistent with tree %d, event %d proven\n", tree.N, proofs, old.N, index)
	return nil
}

// open verifies a checkpoint and reads its tree.
func open(signed []byte, origin string, known note.Verifiers) (tlog.Tree, error) {
	opened, err := note.Open(signed, known)
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 4 || lines[0] != origin {
		return tlog.Tree{}, errors.New("not a checkpoint of " + origin)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// parseProof reads a C2SP tlog-proof and verifies its checkpoint.
func parseProof(text, origin string, known note.Verifiers) (int64, tlog.RecordProof, tlog.Tree, error) {
	var tree tlog.Tree
	head, checkpoint, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return 0, nil, tree, errors.New("not a tlog-proof")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	if err != nil {
		return 0, nil, tree, err
	}
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return 0, nil, tree, err
		}
		proof = append(proof, hash)
	}
	tree, err = open([]byte(checkpoint), origin, known)
	return index, proof, tree, err
}

// tiles reads the server's tiles as tlog wants them.
type tiles struct{ url string }

func (t *tiles) Height() int { return 8 }

func (t *tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t *tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		// The Go checksum database names the height of its tiles, C2SP tlog-tiles does not.
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := fetch(t.url + "/" + path)
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func fetch(url string) ([]byte, error) {
	answer, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, answer.Status)
	}
	return io.ReadAll(answer.Body)
}
