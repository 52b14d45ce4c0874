// Ledgercheck verifies what the ledger publishes with public implementations of the same specifications, written by
// others: golang.org/x/mod (sumdb/note, sumdb/tlog) and github.com/transparency-dev (merkle, formats).
//
// It reads one JSON object from standard input, {"checks": [...]}, and writes one JSON line for each check, in order:
// {"ok": true, ...what was verified} or {"ok": false, "error": "..."}. Notes, hashes, proofs and leaves are base64.
//
//	checkpoint:  note, origin, vkey               a signed note by the log's key (C2SP tlog-checkpoint)
//	cosignature: note, origin, vkey, witness      and by a witness (C2SP tlog-cosignature); witness: its vkey
//	inclusion:   leaf, index, size, root, proof   a leaf's bytes in a tree (RFC 6962 section 2.1.1)
//	consistency: old_size, old_root, size, root, proof   a tree as a prefix of another (RFC 6962 section 2.1.2)
//
// Exit status: 0 if all checks passed, 1 if one did not, 2 if the input cannot be read.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/transparency-dev/formats/log"
	cosigned "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type check struct {
	Kind    string   `json:"kind"`
	Note    []byte   `json:"note"`
	Origin  string   `json:"origin"`
	VKey    string   `json:"vkey"`
	Witness string   `json:"witness"`
	Leaf    []byte   `json:"leaf"`
	Index   uint64   `json:"index"`
	OldSize uint64   `json:"old_size"`
	OldRoot []byte   `json:"old_root"`
	Size    uint64   `json:"size"`
	Root    []byte   `json:"root"`
	Proof   [][]byte `json:"proof"`
}

type verdict struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	Size  uint64 `json:"size,omitempty"`
	Root  []byte `json:"root,omitempty"`
	TimeS int64  `json:"time_s,omitempty"`
}

func main() {
	passed, err := run(os.Stdin, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "ledgercheck:", err)
		os.Exit(2)
	case !passed:
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) (bool, error) {
	var request struct {
		Checks []check `json:"checks"`
	}
	decoder := json.NewDecoder(in)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		return false, fmt.Errorf("standard input is not the JSON that it reads: %w", err)
	}
	if len(request.Checks) == 0 {
		return false, errors.New("there is nothing to check")
	}
	passed, encoder := true, json.NewEncoder(out)
	for _, c := range request.Checks {
		v, err := c.verify()
		if err != nil {
			passed, v = false, verdict{Error: err.Error()}
		}
		v.OK = err == nil
		if err := encoder.Encode(v); err != nil {
			return false, err
		}
	}
	return passed, nil
}

func (c check) verify() (verdict, error) {
	switch c.Kind {
	case "checkpoint":
		return c.checkpoint()
	case "cosignature":
		return c.cosignature()
	case "inclusion":
		return verdict{}, c.inclusion()
	case "consistency":
		return verdict{}, c.consistency()
	}
	return verdict{}, fmt.Errorf("there is no check %q", c.Kind)
}

func (c check) checkpoint() (verdict, error) {
	verifier, err := note.NewVerifier(c.VKey)
	if err != nil {
		return verdict{}, err
	}
	found, _, _, err := log.ParseCheckpoint(c.Note, c.Origin, verifier)
	if err != nil {
		return verdict{}, err
	}
	return verdict{Size: found.Size, Root: found.Hash}, nil
}

func (c check) cosignature() (verdict, error) {
	verifier, err := note.NewVerifier(c.VKey)
	if err != nil {
		return verdict{}, err
	}
	witness, err := cosigned.NewVerifierForCosignatureV1(c.Witness)
	if err != nil {
		return verdict{}, err
	}
	found, _, opened, err := log.ParseCheckpoint(c.Note, c.Origin, verifier, witness)
	if err != nil {
		return verdict{}, err
	}
	for _, signature := range opened.Sigs {
		if signature.Name == witness.Name() && signature.Hash == witness.KeyHash() {
			at, err := cosigned.CoSigV1Timestamp(signature)
			if err != nil {
				return verdict{}, err
			}
			return verdict{Size: found.Size, Root: found.Hash, TimeS: at.Unix()}, nil
		}
	}
	return verdict{}, errors.New("the witness has not cosigned")
}

func (c check) inclusion() error {
	hasher := rfc6962.DefaultHasher
	first := proof.VerifyInclusion(hasher, c.Index, c.Size, hasher.HashLeaf(c.Leaf), c.Proof, c.Root)
	hashes, size, root, err := c.forTlog()
	if err == nil {
		err = tlog.CheckRecord(hashes, size, root, int64(min(c.Index, math.MaxInt64)), tlog.RecordHash(c.Leaf))
	}
	return agreed(first, err)
}

func (c check) consistency() error {
	first := proof.VerifyConsistency(rfc6962.DefaultHasher, c.OldSize, c.Size, c.Proof, c.OldRoot, c.Root)
	if c.OldSize == 0 { // of which tlog does not speak
		return first
	}
	hashes, size, root, err := c.forTlog()
	if err == nil && len(c.OldRoot) != tlog.HashSize {
		err = errors.New("the old root has another length")
	}
	if err == nil {
		oldSize := int64(min(c.OldSize, math.MaxInt64))
		err = tlog.CheckTree(hashes, size, root, oldSize, tlog.Hash(c.OldRoot))
	}
	return agreed(first, err)
}

// forTlog gives the proof, size and root in tlog's types.
func (c check) forTlog() ([]tlog.Hash, int64, tlog.Hash, error) {
	if c.Size > math.MaxInt64 || len(c.Root) != tlog.HashSize {
		return nil, 0, tlog.Hash{}, errors.New("the size is too large, or the root has another length")
	}
	hashes := make([]tlog.Hash, 0, len(c.Proof))
	for _, hash := range c.Proof {
		if len(hash) != tlog.HashSize {
			return nil, 0, tlog.Hash{}, errors.New("a hash of the proof has another length")
		}
		hashes = append(hashes, tlog.Hash(hash))
	}
	return hashes, int64(c.Size), tlog.Hash(c.Root), nil
}

// agreed is nil only if both implementations found no fault.
func agreed(merkle, tlog error) error {
	switch {
	case merkle == nil && tlog == nil:
		return nil
	case merkle != nil && tlog != nil:
		return merkle
	}
	return fmt.Errorf("the implementations disagree: merkle says %v, tlog says %v", merkle, tlog)
}
