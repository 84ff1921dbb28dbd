"""Ledger: a thin HTTP layer over a PostgreSQL schema that holds every rule.

routes.py       the table of routes: the whole HTTP surface

app.py          the Sanic application, from these:
  connection.py   a client's connection, with limits of time and of memory.py
  framing.py      requests as RFC 9112 frames them
  answers.py      answers that are sent in slices, or written at once
  router.py       a path's route
  origin.py       web pages that may use the service
  access.py       API keys
  arguments.py    a request's arguments: bodies.py reads them, values.py knows how they are spelled
  call.py         one function call, and its answer; preferences.py and date.py serve its headers
  batching.py     requests that share a call; sharing.py the same for questions; feed.py for the feed
  errors.py       the one error shape
  docs.py         the pages that describe it: openapi.py with schemas.py and examples.py
  watch.py        what is noted of each request: log.py, metrics.py

database.py     connections to PostgreSQL; sessions.py those of commands

cli.py          the `ledger` command; settings.py reads its environment
serve.py        processes: one supervisor, WORKERS workers; privileges.py gives up root's rights in them
embedded.py     the PostgreSQL that runs when DATABASE_URL is unset
migrate.py      applying migrations, resetting
seed.py         loading seeds
verify.py       proving the books; schema.py compares the schema
keys.py         making, listing and revoking API keys
resources.py    where the SQL and the seeds are
"""
