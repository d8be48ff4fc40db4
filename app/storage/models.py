"""The tables. Columns are declared here, constraints in migrations."""

from datetime import datetime
from typing import Any

from peewee import (
    BigIntegerField,
    BooleanField,
    CompositeKey,
    DatabaseProxy,
    DateField,
    FloatField,
    ForeignKeyField,
    IdentityField,
    IntegerField,
    Model,
    TextField,
)
from playhouse.postgres_ext import ArrayField, BinaryJSONField, DateTimeTZField, IntervalField

from app.domain.codes import CardStatus
from app.domain.programs import MAIN

database = DatabaseProxy()
"""A proxy for this process's database, which `app.storage.database.connect_to` sets."""


class _Table(Model):
    class Meta:
        database = database
        legacy_table_names = False


IMPORT = "导入"
"""The function of a client that came with its card and has not asked yet."""


class Program(_Table):
    """程序: one product of the vendor. `revision` counts the changes of its terms (`app.domain.licence.terms`).

    `data_key` is sealed; that of `main`, which always exists, is the setting KERNAL_DATA_KEY, and None here.
    """

    id = TextField(primary_key=True)
    name = TextField(unique=True)
    data_key = TextField(null=True)
    created_at = DateTimeTZField(index=False)
    revision = BigIntegerField(default=0)
    binding = TextField(default="either")
    changes_per_day = IntegerField(null=True)
    minimum_version = TextField(null=True)
    latest_version = TextField(null=True)
    update_url = TextField(null=True)
    notice = TextField(null=True)
    self_service = BooleanField(default=False)
    self_unbind_per_30_days = IntegerField(default=0)
    self_unbind_cost = IntervalField(null=True)
    self_renew = TextField(default="off")
    contact = TextField(null=True)


class Card(_Table):
    """卡密表: one row per card; its ID is the key that the vendor sells.

    The key of a card that another system sold is `imported_key`, and its ID is made from that. A card that renewed
    another one, `renewed_card_id`, is spent. The operator or the shop's token that issued it is `operator_id` or
    `token_id`; the command line's and imported cards have neither.
    """

    id = TextField(primary_key=True)
    program = TextField(default=MAIN)
    validity = IntervalField(null=True)
    is_activated = BooleanField(default=False)
    activated_at = DateTimeTZField(null=True, index=False)
    expires_at = DateTimeTZField(null=True, index=False)
    frozen_at = DateTimeTZField(null=True, index=False)
    batch = TextField(null=True)
    note = TextField(null=True)
    created_at = DateTimeTZField(index=False)
    imported_key = TextField(null=True)
    renewed_card_id = TextField(null=True)
    operator_id = IntegerField(null=True)
    token_id = IntegerField(null=True)

    client: "Client | None" = None
    """Its client, if it has one and was read with it (`app.storage.cards.with_clients`)."""
    status: CardStatus
    """Its status at the time when `app.services.cards.card_lists` read it, which alone sets it."""

    @property
    def key(self) -> str:
        """The key that people know the card by."""
        return str(self.imported_key or self.id)

    @property
    def used_at(self) -> datetime | None:
        """When the bound machine's last request was accepted; None for one that came with an import and never asked."""
        client = self.client
        if client is None or (client.function == IMPORT and client.requested_at < self.created_at):
            return None
        at: datetime = client.requested_at
        return at


class Client(_Table):
    """客户运行环境表: the one environment that a card is bound to, as of its last accepted request."""

    id = TextField(primary_key=True)
    card = ForeignKeyField(Card, column_name="card_id", unique=True)
    program = TextField(default=MAIN)
    hardware = TextField()
    hardware_sha256 = TextField()
    ip = TextField()
    requested_at = DateTimeTZField(index=False)
    function = TextField()


class Event(_Table):
    """日志: the append-only journal. `card_id` is no foreign key: the journal outlives cards.

    `ip` is the address that the server saw, `claimed_ip` the one that the client sent, `ip_network` what counts as one
    address. `reference` is the last 8 characters of the verdict's `jti`, `actor` the operator.
    """

    id = IdentityField()
    at = DateTimeTZField(index=False)
    kind = TextField()
    code = TextField(null=True)
    card_id = TextField(null=True)
    reference = TextField(null=True)
    ip = TextField(null=True)
    ip_network = TextField(null=True)
    claimed_ip = TextField(null=True)
    hardware = TextField(null=True)
    function = TextField(null=True)
    actor = TextField(null=True)
    details = BinaryJSONField(null=True, index=False)


class DailyCount(_Table):
    """How often something that `app.domain.codes` counts happened to a card on a day (in KADUN_TIMEZONE).

    `environments` are those that the journal has an entry of, two numbers each (`sharing.Environment`), None where
    it has the first `app.storage.journal.MAX_ENTRIES_PER_DAY` times.
    """

    card_id = TextField()
    day = DateField()
    kind = TextField()
    count = BigIntegerField()
    last_at = DateTimeTZField(index=False)
    environments = ArrayField(BigIntegerField, null=True, index=False)

    class Meta:  # noqa: D106  # peewee's options
        primary_key = CompositeKey("card_id", "day", "kind")


class File(_Table):
    """文件: licensed files by program and name; the bytes are in KADUN_FILES_DIR under their SHA-256."""

    program = TextField(default=MAIN)
    name = TextField()
    size = BigIntegerField()
    sha256 = TextField(index=False)
    added_at = DateTimeTZField(index=False)

    class Meta:  # noqa: D106  # peewee's options
        primary_key = CompositeKey("program", "name")


class FileBatch(_Table):
    """The batches of cards that a file is for; a file without batches is for every card."""

    program = TextField(default=MAIN)
    file_name = TextField()
    batch = TextField()

    class Meta:  # noqa: D106  # peewee's options
        primary_key = CompositeKey("program", "file_name", "batch")

    @classmethod
    def of_file(cls) -> Any:  # noqa: ANN401  # a peewee expression
        """Return the condition that a row is of the file that the outer query reads."""
        return (cls.program == File.program) & (cls.file_name == File.name)


class Usage(_Table):
    """使用记录: accepted requests, counted for each card, day (in KADUN_TIMEZONE) and function."""

    card = ForeignKeyField(Card, column_name="card_id", index=False)
    day = DateField()
    function = TextField()
    count = BigIntegerField()
    last_at = DateTimeTZField(index=False)

    class Meta:  # noqa: D106  # peewee's options
        primary_key = CompositeKey("card", "day", "function")


class Operator(_Table):
    """管理员: the operators of the console. `totp_last_step` keeps codes from being accepted twice."""

    id = IdentityField()
    name = TextField(unique=True)
    role = TextField()
    password_hash = TextField()
    totp_secret = TextField(null=True)
    totp_last_step = BigIntegerField(null=True)
    created_at = DateTimeTZField(index=False)
    password_changed_at = DateTimeTZField(index=False)


class OperatorSession(_Table):
    """A session of the console; the browser has its token, the table only the digest."""

    token_sha256 = TextField(primary_key=True)
    operator = ForeignKeyField(Operator, column_name="operator_id", on_delete="CASCADE")
    created_at = DateTimeTZField(index=False)
    last_seen_at = DateTimeTZField(index=False)
    expires_at = DateTimeTZField(index=False)


class LoginFailure(_Table):
    """Failed log-ins, by the bucket that they count against."""

    bucket = TextField(primary_key=True)
    failures = IntegerField()
    last_at = DateTimeTZField()


class ApiToken(_Table):
    """A shop's token, stored as its digest. `scopes` are those of `app.domain.operators.operators.Scope`.

    It works until `expires_at`, from `networks` (CIDR), for cards of `program` only; None is always, everywhere, all.
    """

    id = IdentityField()
    name = TextField(unique=True)
    token_sha256 = TextField(unique=True)
    scopes = ArrayField(TextField, index=False)
    created_at = DateTimeTZField(index=False)
    last_used_at = DateTimeTZField(null=True, index=False)
    revoked_at = DateTimeTZField(null=True, index=False)
    own_cards_only = BooleanField(default=False)
    expires_at = DateTimeTZField(null=True, index=False)
    networks = ArrayField(TextField, null=True, index=False)
    program = TextField(null=True)


class Ceiling(_Table):
    """The ceilings of an operator or a shop's token, and what it issued and changed in the vendor's day `day`."""

    id = IdentityField()
    operator = ForeignKeyField(Operator, column_name="operator_id", null=True, index=False, on_delete="CASCADE")
    token = ForeignKeyField(ApiToken, column_name="token_id", null=True, index=False, on_delete="CASCADE")
    cards_per_day = IntegerField(null=True)
    longest_validity = IntervalField(null=True)
    changes_per_day = IntegerField(null=True)
    day = DateField(null=True)
    cards = BigIntegerField(default=0)
    changed = BigIntegerField(default=0)


class IdempotencyRecord(_Table):
    """The answer to a request that takes effect once: an operator's form, or a shop's order by its idempotency key."""

    id = IdentityField()
    operator = ForeignKeyField(Operator, column_name="operator_id", null=True, index=False, on_delete="CASCADE")
    token = ForeignKeyField(ApiToken, column_name="token_id", null=True, index=False, on_delete="CASCADE")
    key = TextField()
    request_sha256 = TextField(index=False)
    status = IntegerField()
    body = TextField()
    created_at = DateTimeTZField()


class Webhook(_Table):
    """A webhook: an address that is told of `topics`, and until `expiring_until` was told of cards that expire.

    `failures` are those in a row, and `dropped` counts the messages for which there was no place.
    """

    id = IdentityField()
    name = TextField(unique=True)
    url = TextField()
    topics = ArrayField(TextField, index=False)
    secret = TextField()
    created_at = DateTimeTZField(index=False)
    paused_at = DateTimeTZField(null=True, index=False)
    failures = IntegerField(default=0)
    next_request_at = DateTimeTZField(index=False)
    dropped = BigIntegerField(default=0)
    expiring_until = DateTimeTZField(index=False)


class WebhookOutbox(_Table):
    """A message of a webhook: waiting while `next_at` is set; `body` is made of card and `data` when it is sent."""

    id = IdentityField()
    webhook = ForeignKeyField(Webhook, column_name="webhook_id", index=False, on_delete="CASCADE")
    message_id = TextField(unique=True)
    topic = TextField()
    card_id = TextField(null=True)
    data = BinaryJSONField(index=False)
    body = TextField(null=True)
    created_at = DateTimeTZField(index=False)
    next_at = DateTimeTZField(null=True, index=False)
    attempts = IntegerField(default=0)
    attempted_at = DateTimeTZField(null=True, index=False)
    delivered_at = DateTimeTZField(null=True, index=False)
    failed_at = DateTimeTZField(null=True, index=False)
    status = IntegerField(null=True)
    error = TextField(null=True)


class Block(_Table):
    """黑名单: a machine, by its hardware's SHA-256, or a network, whose requests are refused."""

    reference: str | None = None  # no column: the one that led to the machine of a new block
    id = IdentityField()
    hardware_sha256 = TextField(null=True, unique=True)
    network = TextField(null=True, unique=True)
    reason = TextField()
    actor = TextField()
    created_at = DateTimeTZField(index=False)


class Host(_Table):
    """What a machine that serves this database last reported of itself; None is what it did not know."""

    name = TextField(primary_key=True)
    version = TextField()
    schema = TextField()
    kid = TextField(null=True)
    functions_sha256 = TextField(null=True)
    clock_offset_ms = IntegerField()  # how far its clock is ahead of the database's, which `seen_at` is by
    seen_at = DateTimeTZField(index=False)


class SealedKeyRing(_Table):
    """A ring of signing keys, encrypted; the one that was not replaced is in use.

    `kids` are the IDs of its keys in its order. `moved_at`: since when it is in use in a folder.
    """

    id = IdentityField()
    kids = ArrayField(TextField, index=False)
    sealed = TextField()
    moved_at = DateTimeTZField(null=True, index=False)
    replaced_at = DateTimeTZField(null=True, index=False)

    class Meta:  # noqa: D106  # peewee's options
        table_name = "key_ring"


class Figures(_Table):
    """The figures of the console's overview, as last counted; one row. `is_wanted`: somebody saw that they are old."""

    id = BooleanField(primary_key=True, default=True)
    counted_at = DateTimeTZField(index=False)
    seconds = FloatField()
    document = BinaryJSONField(index=False)
    is_wanted = BooleanField(default=False)
