"""Buckets of licensed files: what a name, an endpoint and a region must be, and what a bucket's errors mean."""

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from app.domain.texts import Text

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_STATUS = re.compile(r"status code: ([0-9]{3}[ A-Za-z]{0,40})")


_MEANINGS: tuple[tuple[re.Pattern[str], Text], ...] = (
    (
        re.compile("<Code>(SignatureDoesNotMatch|InvalidAccessKeyId|InvalidSecurity)</Code>"),
        Text(
            "密钥有误：请检查 KADUN_FILES_BUCKET_KEY_ID 与 KADUN_FILES_BUCKET_SECRET",
            "the credentials are wrong: check KADUN_FILES_BUCKET_KEY_ID and KADUN_FILES_BUCKET_SECRET",
        ),
    ),
    (
        re.compile("<Code>(RequestTimeTooSkewed|RequestExpired)</Code>"),
        Text("本机时钟与存储桶相差过大", "this machine's clock and the bucket's are too far apart"),
    ),
    (
        re.compile("<Code>NoSuchBucket</Code>"),
        Text("没有这个存储桶：请检查 KADUN_FILES_BUCKET", "there is no such bucket: check KADUN_FILES_BUCKET"),
    ),
    (
        re.compile(
            "<Code>(AuthorizationHeaderMalformed|PermanentRedirect|TemporaryRedirect|IllegalLocationConstraint.*)</Code>"
        ),
        Text(
            "地域或地址不符：请检查 KADUN_FILES_BUCKET_REGION 与 KADUN_FILES_BUCKET_ENDPOINT",
            "the region or the address does not fit: check KADUN_FILES_BUCKET_REGION and KADUN_FILES_BUCKET_ENDPOINT",
        ),
    ),
    (
        re.compile("<Code>SecondLevelDomainForbidden</Code>"),
        Text(
            "存储桶要求以其名称为子域名：请设置 KADUN_FILES_BUCKET_STYLE=virtual",
            "the bucket wants its name in the host's: set KADUN_FILES_BUCKET_STYLE=virtual",
        ),
    ),
    (
        re.compile("403 Forbidden|<Code>AccessDenied</Code>"),
        Text(
            "存储桶拒绝访问：这对密钥缺少权限，或密钥有误",
            "the bucket denies access: the credentials lack a right, or they are wrong",
        ),
    ),
    (
        re.compile(r"InvalidCertificate\("),
        Text(
            "存储桶的证书不可信：请检查 KADUN_FILES_BUCKET_ENDPOINT 与 KADUN_FILES_BUCKET_CA",
            "the bucket's certificate is not trusted: check KADUN_FILES_BUCKET_ENDPOINT and KADUN_FILES_BUCKET_CA",
        ),
    ),
    (
        re.compile("InvalidContentType"),
        Text(
            "对方不是 TLS：请检查 KADUN_FILES_BUCKET_ENDPOINT 的端口",
            "there is no TLS at this port: check KADUN_FILES_BUCKET_ENDPOINT",
        ),
    ),
    (
        re.compile("dns error"),
        Text(
            "无法解析存储桶的域名：请检查 KADUN_FILES_BUCKET_ENDPOINT 与 DNS",
            "the name of the bucket's host cannot be resolved: check KADUN_FILES_BUCKET_ENDPOINT and the DNS",
        ),
    ),
    (
        re.compile(r"kind: (Connect|Timeout|Interrupted|Request)\b|operation timed out"),
        Text("无法连接存储桶，或其没有响应", "the bucket cannot be reached, or does not answer"),
    ),
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """An S3-compatible bucket: its address, and the credentials for it.

    `endpoint` is the service's, `https://host[:port]`. With `virtual_hosted` the bucket's name is part of the host's
    name, else of the path. `certificates` are further authorities to trust (PEM), `proxy` is an HTTP proxy's URL.
    """

    name: str
    endpoint: str
    region: str
    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    virtual_hosted: bool
    certificates: str | None = field(default=None, repr=False)
    proxy: str | None = None

    @property
    def origin(self) -> str:
        """The `https://host[:port]` that requests for the bucket go to."""
        return _origin(self.name, self.endpoint, virtual_hosted=self.virtual_hosted)


def check_name(name: str, *, virtual_hosted: bool) -> None:
    """Refuse what is not the name of a bucket.

    Raises:
        ValueError: says what it must be.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("it must be the name of a bucket: 3 to 63 of a-z, 0-9, - and dots")
    if virtual_hosted and "." in name:
        raise ValueError("a name with dots needs KADUN_FILES_BUCKET_STYLE=path: certificates do not cover such hosts")


def checked_endpoint(endpoint: str) -> str:
    """Return an endpoint as `https://host[:port]`.

    Raises:
        ValueError: says what it must be.
    """
    wanted = "it must be like https://oss-cn-hangzhou.aliyuncs.com: https, a host's name and nothing after it"
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(wanted) from error
    plain = f"https://{host}" + (f":{port}" if port is not None else "")
    if endpoint.lower().removesuffix("/") != plain or not _HOST.fullmatch(host) or port == 0:
        raise ValueError(wanted)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return plain
    raise ValueError(f"{wanted}; nginx verifies no certificate for an address")


def address_of(name: str, endpoint: str, *, virtual_hosted: bool) -> tuple[str, int]:
    """Return the host and port that requests for a bucket go to.

    Raises:
        ValueError: the name or the endpoint is wrong.
    """
    check_name(name, virtual_hosted=virtual_hosted)
    origin = _origin(name, checked_endpoint(endpoint), virtual_hosted=virtual_hosted)
    host, _, port = origin.removeprefix("https://").partition(":")
    return host, int(port or 443)


def _origin(name: str, endpoint: str, *, virtual_hosted: bool) -> str:
    return endpoint.replace("https://", f"https://{name}.") if virtual_hosted else endpoint


def check_region(region: str) -> None:
    """Refuse what is not a region's name.

    Raises:
        ValueError: says what it must be.
    """
    if not _REGION.fullmatch(region):
        raise ValueError("it must be a region's name, such as cn-hangzhou or us-east-1")


def explain(error: str) -> Text:
    """Return what an error of the bucket, as the library prints it, means to the operator."""
    for sign, text in _MEANINGS:
        if sign.search(error):
            return text
    answer = _CODE.search(error) or _STATUS.search(error)
    shown = answer[1].strip() if answer else error.strip().partition("\n")[0][:200]
    return Text(f"存储桶返回错误：{shown}", f"the bucket answers with an error: {shown}")
