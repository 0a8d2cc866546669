"""A real S3 server for tests: versitygw on a folder and an address of this machine."""

from xwiki_stack.cluster.objectstore import BUCKET, ObjectStore

S3 = ObjectStore

__all__ = ["BUCKET", "S3"]
