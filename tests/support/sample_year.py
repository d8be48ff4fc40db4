"""A vendor's year of data, generated inside PostgreSQL: cards in all states, a journal, usage."""

import contextlib
from datetime import date

import psycopg2

from app.storage import schema
from app.storage.database import Database, connect_to
from trial.postgres import EmbeddedPostgres

# A card's ID is 32 digits made of its number: 16 that scatter the IDs over the index, as random ones would be, and 16
# that keep them apart. Every product stays below 2**53, since wrk's Lua counts in doubles.
SCATTERED = "1000000000000000 + mod({i} * 618033989, 1000000007) * 1000000"
COUNTED = "1000000000000000 + {i}"
CARD_ID = f"({SCATTERED.format(i='i')})::text || ({COUNTED.format(i='i')})::text"

LARGE_BATCH = "大批次"
RARE_BATCH = "一张卡的批次"
RARE_NOTE = "回头客王先生"
HOT_NETWORK = "203.0.113.77"
HOT_HARDWARE = "cpu=hot;board=hot;disk=hot"
FUNCTIONS = ("打开程序", "导出报表", "批量处理", "文件下载")

# By i % 20: 0–8 unused, 9–14 active (14 permanent), 15–18 expired, 19 frozen. The first card has a batch and a note of
# its own: the last row of every list that comes newest first.
_CARDS = f"""
INSERT INTO card (id, validity, is_activated, activated_at, expires_at, frozen_at, batch, note, created_at)
SELECT id, CASE WHEN s <> 14 THEN interval '30 days' END, s >= 9,
    CASE WHEN s >= 9 THEN expiry - interval '30 days' END, CASE WHEN s >= 9 AND s <> 14 THEN expiry END,
    CASE WHEN s = 19 THEN now() - interval '1 day' END,
    CASE WHEN i = 0 THEN '{RARE_BATCH}' WHEN i < %(cards)s * 0.3 THEN '{LARGE_BATCH}'
        WHEN i %% 7 > 0 THEN '批次-' || lpad((i / 10000)::text, 4, '0') END,
    CASE WHEN i = 0 THEN '{RARE_NOTE}' WHEN i %% 3 = 1 THEN '订单 ' || 20260000000 + i
        WHEN i %% 3 = 2 THEN '代理甲 第' || (i / 1000) || ' 批' END,
    now() - (%(cards)s - i) * (interval '1 year' / %(cards)s)
FROM (
    SELECT i, {CARD_ID} AS id, i %% 20 AS s, date_trunc('second', now()) + interval '1 second'
        * CASE WHEN i %% 20 BETWEEN 15 AND 18 THEN -1 ELSE 1 END * (1 + i * 7919 %% 2592000) AS expiry
    FROM generate_series(0, %(cards)s::bigint - 1) AS i
) AS numbered
"""  # noqa: S608  # constants
_HARDWARE = "'board=' || md5(i::text) || ';cpu=GenuineIntel-06-9E-0A;disk=' || md5('d' || i)"
_ADDRESS = "'10.' || i / 65536 %% 256 || '.' || i / 256 %% 256 || '.' || i %% 256"
_CLIENTS = f"""
INSERT INTO client (id, card_id, hardware, hardware_sha256, ip, requested_at, function)
SELECT id, id, hardware, encode(sha256(convert_to(hardware, 'UTF8')), 'hex'), {_ADDRESS}, now(), '{FUNCTIONS[0]}'
FROM (
    SELECT i, {CARD_ID} AS id, {_HARDWARE} AS hardware
    FROM generate_series(0, %(cards)s::bigint - 1) AS i WHERE i %% 20 >= 9
) AS numbered
"""  # noqa: S608  # constants
# Of a hundred entries 50 activations and changes, 47 rejections of six codes, 3 what operators did; one address and one
# machine try card after card for the first half of the year, and a code that is rare is found at the very end.
_EVENTS = f"""
INSERT INTO event (at, kind, code, card_id, reference, ip, ip_network, hardware, function, actor, details)
SELECT now() - (%(events)s - j) * (interval '1 year' / %(events)s),
    CASE WHEN j = 0 OR s BETWEEN 50 AND 96 THEN 'rejected' WHEN s < 20 THEN 'activated'
        WHEN s < 50 THEN 'environment_changed' WHEN s = 97 THEN 'frozen' WHEN s = 98 THEN 'extended' ELSE 'issued' END,
    CASE WHEN j = 0 THEN 'FUNCTION_TIMEOUT' WHEN s BETWEEN 50 AND 69 THEN 'CARD_EXPIRED'
        WHEN s BETWEEN 70 AND 89 THEN 'CARD_NOT_FOUND' WHEN s BETWEEN 90 AND 95 THEN 'CLIENT_MISMATCH'
        WHEN s = 96 THEN 'CLIENT_HAS_ANOTHER_CARD' END,
    CASE WHEN s < 99 THEN {CARD_ID} END,
    CASE WHEN s BETWEEN 50 AND 96 THEN upper(substr(md5(j::text), 1, 8)) END,
    CASE WHEN hot THEN '{HOT_NETWORK}' WHEN s < 97 THEN {_ADDRESS} END,
    CASE WHEN hot THEN '{HOT_NETWORK}' WHEN s < 97 THEN {_ADDRESS} END,
    CASE WHEN hot THEN '{HOT_HARDWARE}' WHEN s < 97 THEN {_HARDWARE} END,
    CASE WHEN s >= 97 THEN NULL WHEN hot OR j %% 2 = 0 THEN '{FUNCTIONS[0]}' ELSE '{FUNCTIONS[1]}' END,
    CASE WHEN s >= 97 THEN 'console:owner' END,
    CASE WHEN s BETWEEN 20 AND 49
            THEN jsonb_build_object('before', jsonb_build_object('hardware', {_HARDWARE}, 'ip', '10.0.0.' || j %% 256))
        WHEN s = 98 THEN '{{"by": "30d"}}' WHEN s = 99 THEN '{{"count": 100, "batch": null, "validity": "30d"}}' END
FROM (
    SELECT j, j %% 100 AS s, j * 618033989 %% %(cards)s AS i,
        j < %(events)s / 2 AND j %% 100 BETWEEN 70 AND 79 AS hot
    FROM generate_series(0, %(events)s::bigint - 1) AS j
) AS numbered
"""  # noqa: S608  # constants
# No card has so many entries in a day that some were left out, so the entries are the counts.
_COUNTS = """
INSERT INTO daily_count (card_id, day, kind, count, last_at)
SELECT card_id, date(at), coalesce(code, 'address_changed'), count(*), max(at) FROM event
WHERE kind = 'environment_changed' OR code IN ('CLIENT_MISMATCH', 'CLIENT_HAS_ANOTHER_CARD', 'FUNCTION_TIMEOUT')
GROUP BY 1, 2, 3
"""
_USAGE = f"""
INSERT INTO usage (card_id, day, function, count, last_at)
SELECT {CARD_ID}, %(today)s::date - back, f, 1 + i %% 9, now() - back * interval '1 day'
FROM generate_series(0, %(cards)s::bigint - 1) AS i, generate_series(0, 2) AS back, unnest(%(functions)s) AS f
WHERE i %% 20 >= 9 AND (i + length(f)) %% 4 = 0
"""  # noqa: S608  # constants


def year_of(postgres: EmbeddedPostgres, *, cards: int, events: int, today: date) -> str:
    """Fill a database of its own with the year up to `today`, vacuum and analyze it; return its URL."""
    postgres.create_database("year")
    url = postgres.url("year")
    owner = connect_to(Database(url, bulk=True))
    with owner.connection_context():
        schema.migrate(owner, lambda _line: None)
    values = {"cards": cards, "events": events, "today": today, "functions": list(FUNCTIONS)}
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in (_CARDS, _CLIENTS, _EVENTS, _COUNTS, _USAGE, "VACUUM (ANALYZE)"):
                cursor.execute(statement, values)
    return url
