"""Secrets in Git, sealed by SOPS to age keys: made, edited, rotated, checked.

docs/decisions/0025-sealed-secrets.md says why so, docs/how-to/rotate-a-secret.md how.
"""
