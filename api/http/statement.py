"""Make the SQL of a route's function call, in the same way for every route.

PostgreSQL writes the JSON and its bytes pass through: no amount becomes a Python number.
"""

from api.http.values import sql_type
from api.routes import AMOUNTS, Argument, Route, Shape


def statement(route: Route, amounts_as_strings: bool) -> str:
    """Return the SQL of a route's call, with a parameter for each argument by its name in the function.

    It returns one row. For a list: the body of the answer without its end, and the last id of a page that has a
    successor (of the feed, the last cursor). Otherwise: the JSON, and then, where the route has them, the id of what
    was created or after which the next page begins, the entry that was written, and whether an earlier request did it.
    """
    arguments = [f"{argument.parameter} => {placeholder(argument, route)}" for argument in route.arguments]
    call = f"ledger.{route.function}({', '.join(arguments)})"
    answer = json_of(route.answer, route.function, amounts_as_strings) if route.answer else "null"
    if not route.many:
        optional = (
            (route.cursor or route.key, route.cursor or route.location),
            (route.entry, route.entry),
            ("replayed", route.takes_idempotency_key),
        )
        extra = [f"{route.function}.{column}" if present else "null" for column, present in optional]
        return f"select {', '.join([answer, *extra])} from {call}"
    # The call asks for one row more than the page has, to know whether there is a next page; the feed always has one.
    place = "cursor" if route.feed else route.key
    goes_on = "true" if route.feed else "count(*) > %(max_rows)s::integer"
    return f"""
        select
          '{{"data":['
            || coalesce(string_agg(page.answer, ',' order by page.ordinality) filter (where page.fits), '')
            || ']',
          case when {goes_on}
            then (array_agg(page.{place} order by page.ordinality desc) filter (where page.fits))[1]
          end
        from (
          select
            {answer}::text as answer,
            {route.function}.{place},
            {route.function}.ordinality,
            {route.function}.ordinality <= %(max_rows)s::integer as fits
          from {call} with ordinality as {route.function}
        ) as page
    """


def placeholder(argument: Argument, route: Route) -> str:
    value = f"%({argument.parameter})s::{sql_type(argument.kind)}"
    return f"{value} + 1" if argument.kind == "limit" and route.many and not route.feed else value


def json_of(shape: Shape, row: str, amounts_as_strings: bool) -> str:
    """Return the SQL expression that renders a row as JSON with these members, in this order.

    Optional ones are left out where they are null.
    """
    columns = []
    for member in shape:
        value = f"{row}.{member.column}"
        if member.is_list:
            each = json_of(member.members, "i", amounts_as_strings)
            value = f"(select coalesce(array_to_json(array_agg({each})), '[]') from unnest({value}) as i)"
        elif member.members:
            value = json_of(member.members, f"({value})", amounts_as_strings)
        elif amounts_as_strings and member.name in AMOUNTS:
            value += "::text"
        columns.append(f'{value} as "{member.name}"')
    written = "row_to_json(o)"
    if any(member.optional for member in shape):
        written = f"json_strip_nulls({written})"
    return f"(select {written} from (select {', '.join(columns)}) as o)"
