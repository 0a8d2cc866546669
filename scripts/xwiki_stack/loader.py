"""How YAML is read: safely, and in a tenth of the time where PyYAML was built with libyaml."""

import yaml

try:
    from yaml import CSafeLoader as _Base
except ImportError:
    from yaml import SafeLoader as _Base  # type: ignore[assignment]


class Loader(_Base):
    """Plain values alone, as `yaml.safe_load` gives them."""


class LoneSign(Loader):
    """YAML as Kubernetes reads it: a lone `=`, as in the CRDs of Prometheus, is a text."""


def _lone_sign(loader: LoneSign, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


LoneSign.add_constructor("tag:yaml.org,2002:value", _lone_sign)
