"""Merkle trees as in RFC 6962 §2.1 (kept by RFC 9162 §2.1): hashes, trees that grow, proofs."""
