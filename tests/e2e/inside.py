"""A wiki without a port-forward: curl in the wiki's own container, as superadmin."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.e2e.conftest import Bed

SPACES = "http://localhost:8080/rest/wikis/xwiki/spaces"
REST = f"{SPACES}/Tests/pages"
LOGIN = 'curl -s -u "superadmin:$XCONF_xwikicfg_xwiki_superadminpassword"'
STATUS = "-o /dev/null -w '%{http_code}'"


@dataclass(frozen=True)
class Inside:
    """The wiki of a namespace, reached through `kubectl exec`."""

    bed: "Bed"
    namespace: str

    def run(self, script: str) -> str:
        """Run a script in the wiki's container; what it printed, whatever its exit code."""
        words = ["exec", "-n", self.namespace, "deploy/xwiki-stack-xwiki", "-c", "xwiki", "--"]
        return self.bed.kubectl(*words, "bash", "-c", script, check=False).out.strip()

    def status(self, page: str, space: str = "Tests") -> str:
        """The HTTP status of a page."""
        return self.run(f"{LOGIN} {STATUS} {SPACES}/{space}/pages/{page}")

    def write(self, page: str, content: str = "c") -> str:
        """Put a page; the HTTP status."""
        told = f"<title>{page}</title><content>{content}</content>"
        body = f"<page xmlns='http://www.xwiki.org'>{told}</page>"
        header = "-H 'Content-Type: application/xml'"
        return self.run(f'{LOGIN} {STATUS} -X PUT {header} --data-binary "{body}" {REST}/{page}')

    def attach(self, page: str, name: str, letter: str, size: int = 2_000_000) -> str:
        """Put an attachment of `size` equal letters; the HTTP status."""
        made = f"head -c {size} /dev/zero | tr '\\0' {letter}"
        address = f"{REST}/{page}/attachments/{name}"
        return self.run(f"{made} | {LOGIN} {STATUS} -X PUT --data-binary @- {address}")

    def digest(self, page: str, name: str) -> str:
        """The SHA-256 of an attachment as it is served."""
        address = f"{REST}/{page}/attachments/{name}"
        return self.run(f"{LOGIN} --fail {address} | sha256sum").split()[0]
