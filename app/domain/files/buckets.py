"""Buckets of licensed files: what a name and an endpoint must be, as ValueErrors say."""

import re
from dataclasses import dataclass, field

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ENDPOINT = re.compile(r"https://(?P<host>[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Bucket:
    """An S3-compatible bucket: its address, and the credentials for it.

    `endpoint` is the service's, `https://host[:port]`. With `virtual_hosted` the bucket's name is part of the host's
    name, else of the path. `certificates` are further authorities to trust (PEM).
    """

    name: str
    endpoint: str
    region: str
    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    virtual_hosted: bool
    certificates: str | None = field(default=None, repr=False)

    @property
    def origin(self) -> str:
        """The `https://host[:port]` that requests for the bucket go to."""
        return self.endpoint.replace("https://", f"https://{self.name}.") if self.virtual_hosted else self.endpoint


def check_name(name: str, *, virtual_hosted: bool) -> None:
    """Refuse what is not the name of a bucket."""
    if not _NAME.fullmatch(name):
        raise ValueError("it must be the name of a bucket: 3 to 63 of a-z, 0-9, - and dots")
    if virtual_hosted and "." in name:
        raise ValueError("a name with dots needs KADUN_FILES_BUCKET_STYLE=path: certificates do not cover such hosts")


def checked_endpoint(endpoint: str) -> str:
    """Return an endpoint as `https://host[:port]`."""
    plain = endpoint.lower().removesuffix("/")
    found = _ENDPOINT.fullmatch(plain)
    if found is None:
        raise ValueError("it must be like https://oss-cn-hangzhou.aliyuncs.com: https, a host's name, nothing after it")
    if found["host"].rpartition(".")[2].isdigit():
        raise ValueError("it must have a host's name: nginx verifies no certificate for an address")
    return plain
