"""Backup sets: made, proven, brought back. Nothing exists until its signed manifest does.

What lies where in a bucket, below the environment's prefix:

    sets/site/<id>/db.sql.zst.age     one dump of all schemas
    sets/site/<id>/index.zst.age      which file lies in which pack
    sets/site/<id>/manifest.json      written last: before it, there is no set
    sets/xar/<id>/<wiki>.xar.zst.age  XWiki's own archive of a wiki; its set has a manifest, too
    packs/<generation>/<random>       the files' bytes, shared by the sets of one generation
    evidence/<id>/<kind>-<random>.json  what was proven of a set, signed
    locks/<name>.json                 who works right now
"""
