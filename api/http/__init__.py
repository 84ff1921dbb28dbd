"""The Sanic application of a worker: routes, arguments, calls and answers."""
