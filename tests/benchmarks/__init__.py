"""Figures of backups against their peers, measured in one run on real servers of this machine.

Never a test: nothing fails here because something is slow. The module of each part says what is
held against what. They lie beside the tests since both need the same servers and wikis;
`make bench-backups` starts them as `make test` starts pytest.
"""
