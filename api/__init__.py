"""Ledger: a thin HTTP layer over a PostgreSQL schema that holds every rule.

A package imports only packages below it, and the modules at the bottom.

cli.py              the `ledger` command
settings.py         the command's settings, from environment variables

server/             processes: one supervisor and WORKERS workers
  supervisor.py       starts, replaces and stops the workers
  worker.py           a worker's main program
  listener.py         the listening socket
  acceptor.py         shares its connections with the other workers
  settings.py         the settings that all workers share
  privileges.py       gives up root's rights in a worker

openapi/            `make openapi`: writes the OpenAPI document, openapi.json; nothing imports it at run time
  document.py         paths, operations and components
  schemas.py          JSON schemas of requests, answers and problems
  examples.py         an example of each call and of each problem

admin/              what an administrator does with the command
  api_keys.py         creates, lists and revokes API keys
  seed.py             loads seeds
  files.py            reads participants and transfers from files
  importing.py        sends them to a service
  exporting.py        exports a group
  checkpoints.py      makes and exports checkpoints, and gets proofs
  kept.py             checkpoints that were kept elsewhere
  verify.py           verifies the books
  schema.py           compares the schema of a database with this release's
  schedule.py         makes the checkpoints of all groups, again and again
  progress.py         shows how far long work is

commands/           what a user does with the command: requests to a service, by ledger_client
  arguments.py        the options of the commands
  command.py          runs one
  lines.py            the file of many transfers
  statement.py        a participant's statement, as a table, JSON or CSV
  watch.py            the feed, printed as it grows
  statuses.py         the exit status of a refusal, and its line
  members.py          answers as JSON has them
  printing.py         tables, JSON, and text that is harmless on a terminal
  completion.py       scripts that complete words in a shell

proofs/             checks what the ledger proves, without the ledger
  verify_proof.py     a proof
  verify_snapshot.py  all leaves of a checkpoint
  snapshot_proof.py   makes a proof of such leaves

http/               the Sanic application of a worker
  app.py              the application: a handler for each route
  router.py           finds the route of a path
  protocol.py         a client's connection, with limits of time and of memory.py
  memory.py           the limit of the bytes that a worker holds for its clients
  framing.py          requests and answers as RFC 9112 frames them
  request.py          a request, which is logged and counted once it is answered
  gauges.py           a worker's measurements, once a second and at each scrape
  errors.py           problems for errors of the database and of Sanic
  origins.py          web pages that may use the service
  auth.py             authentication by API key
  arguments.py        the arguments of a request's call
  bodies.py           reads and decodes request bodies within bounds
  values.py           how each kind of value may be spelled
  statement.py        the SQL of one function call
  call.py             its answer
  batching.py         requests that share a function call
  formats.py          the Accept header
  export.py           whole lists as CSV and NDJSON, page by page
  coalescing.py       questions to the database that requests share
  feed.py             the feed of all groups, and clients that wait for its next entry
  responses.py        success answers, sent in slices where they are large
  preferences.py      the Prefer header
  date.py             the Date header
  docs.py             the pages that describe the API
  explorer.py         the pages that show the ledger to people, from explorer/

telemetry/          what operators see of a worker
  log.py              lines of JSON for requests and errors
  metrics.py          counters and gauges in memory that all processes share
  checkpoints.py      counts what a schedule of checkpoints does
  textfile.py         writes metrics into a file

postgres/           PostgreSQL
  pools.py            the pools of connections that a worker's calls use
  connection.py       one connection: opened, lost, ended
  session_settings.py the settings of a worker's sessions
  probe.py            a question with a limit of time, on a connection of its own
  preflight.py        checks of a database before the service starts on it
  sessions.py         a command's connections
  embedded.py         the PostgreSQL that runs when DATABASE_URL is unset
  migrate.py          applies migrations
  upgrade.py          upgrades a database of release 0.1
  indexes.py          builds the indexes that a migration needs, before it

routes.py           the table of routes: the whole HTTP surface
problems.py         the one error shape
resources.py        where the SQL, the seeds and the OpenAPI document are
"""
