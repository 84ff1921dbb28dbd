"""Ledger: a thin HTTP layer over a PostgreSQL schema that holds every rule.

routes.py     the table of routes: the whole HTTP surface
call.py       from a request to one function call to JSON
errors.py     from a refusal to the one error shape
openapi.py    the OpenAPI description of it all, with schemas.py and examples.py
docs.py       the pages that show it
settings.py   settings from the environment
sessions.py   settings of PostgreSQL's that sessions have from nobody else
database.py   connections to PostgreSQL
app.py        the Sanic application
serve.py      processes: one supervisor, WORKERS workers
resources.py  where the SQL and the seeds lie
migrate.py    applying migrations, resetting
seed.py       loading seeds
embedded.py   the PostgreSQL that runs when DATABASE_URL is unset
cli.py        the `ledger` command
"""
