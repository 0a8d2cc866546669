"""The tooling of xwiki-stack: intent to values, a cluster to run them on, and the proofs."""
