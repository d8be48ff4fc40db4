"""Starts of programs through nginx, each a new connection over TLS with a complete handshake and one verification."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import BenchError, cards, load, report
from tests.bench.service import CONNECTIONS, Gunicorn, host
from tests.bench.subject import NEW_CONNECTIONS, Plan
from tests.support.services.nginx import Gateway, version
from trial.environment import LOOPBACK
from trial.postgres import free_port

_CONNECTIONS = 32  # nginx lets one address have 50 requests under way
# The groups that clients share with nginx: without them wrk's OpenSSL computes one more, which nginx does not take.
_OPENSSL = """
openssl_conf = openssl
[openssl]
ssl_conf = ssl
[ssl]
system_default = client
[client]
MinProtocol = TLSv1.3
Groups = X25519:prime256v1
"""
# The same TLS, limits of time and log as the project's own server has; nothing before the answer.
_STATIC = """
server {{
    listen {port} ssl;
    ssl_certificate {folder}/certificates/fullchain.pem;
    ssl_certificate_key {folder}/certificates/privkey.pem;
    include {folder}/etc/kadun/tls.conf;
    include {folder}/etc/kadun/server.conf;
    location / {{
        return 200 "{{}}";
    }}
}}
"""
_RESUMES = "ssl_session_cache shared:kadun_tls:4m;"
_RESUMES_NOTHING = "ssl_session_cache off;\nssl_session_tickets off;"


def measure(plan: Plan) -> list[str]:
    """Measure, and return the lines of the report."""
    with host() as here:
        print(f"{report.machine(here.postgresql())}\nnginx {version()}", flush=True)
        count = min(plan.cards)
        database, app = here.database("cards", count), here.folder / "app.sock"
        openssl = here.folder / "openssl.cnf"
        openssl.write_text(_OPENSSL)
        settings = here.environ(database) | {"KADUN_BEHIND_PROXY": "true"}
        service = Gunicorn(settings, here.folder / "service.log", socket=app)

        def run(port: int, *, fresh: bool = True) -> load.Load:
            before, url = cards.accepted(database), f"https://{LOOPBACK}:{port}/v1/verify"
            questions = load.Questions(0, count, fresh=fresh)
            connections = _CONNECTIONS if fresh else CONNECTIONS
            done = load.wrk(url, questions, connections=connections, seconds=plan.seconds, openssl=str(openssl))
            if port == verifying and cards.accepted(database) - before < done.requests:
                raise BenchError("not all starts were accepted")
            return done

        with service.running(), _nginx(here.folder / "nginx", app) as (verifying, static):
            run(verifying)
            measured = []
            for turn in range(plan.rounds):
                report.say(f"round {turn + 1} of {plan.rounds} …")
                own, starts = run(static).per_second, run(verifying).per_second
                kept = max(run(verifying, fresh=False).per_second for _ in range(NEW_CONNECTIONS))
                figures = {"starts/s": starts, "nginx's own answer, requests/s": own, "ratio": starts / own}
                measured.append({"TLS 1.3": figures | {"connections kept open: V  verifications/s": kept}})
        certificate = f"certificate: ECDSA P-256; {_CONNECTIONS} connections at once"
        return ["", report.heading(plan.rounds, plan.seconds), certificate, *report.figures(measured)]


@contextmanager
def _nginx(folder: Path, app: Path) -> Iterator[tuple[int, int]]:
    """The stack's nginx without limits of rates: the ports of the way in to the service, and of a constant answer."""
    gateway, static = Gateway(folder, app, KADUN_RATE="10000", KADUN_BURST="10000"), free_port()
    (folder / "etc/conf.d/static.conf").write_text(_STATIC.format(port=static, folder=folder))
    tls = folder / "etc/kadun/tls.conf"
    if _RESUMES not in (text := tls.read_text()):
        raise BenchError("nginx/kadun/tls.conf says otherwise how sessions are resumed")
    tls.write_text(text.replace(_RESUMES, _RESUMES_NOTHING))
    with gateway:
        yield gateway.https_port, static
