# The service. docker-compose.yml fills in the arguments from .env.
ARG PYTHON_IMAGE=python:3.13-slim-trixie
FROM ${PYTHON_IMAGE}

# Where pip gets packages from; empty means its default. The image's history shows it: put no password into it.
ARG PIP_INDEX_URL

WORKDIR /srv/kadun
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin kadun

# Wheels only: the image has no compiler, and a package that wants one is to fail here, clearly.
COPY requirements.txt ./
RUN --mount=type=cache,target=/var/cache/pip \
    PIP_CACHE_DIR=/var/cache/pip PIP_ROOT_USER_ACTION=ignore pip install --require-hashes --only-binary :all: -r requirements.txt

# Readable whatever the umask of the checkout was, and compiled here, since the container cannot write later.
COPY app app
COPY client/src/kadun/version.py client/src/kadun/messages.json client/src/kadun/
RUN chmod -R a+rX app client && python -m compileall -q app
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

# A label cannot be read from a file: tests/unit/system/test_documents.py holds it to client/src/kadun/version.py.
LABEL org.opencontainers.image.title="kadun" org.opencontainers.image.version="1.0.0"

USER kadun
CMD ["gunicorn", "--config", "python:app.gunicorn_conf", "app.wsgi:app"]
