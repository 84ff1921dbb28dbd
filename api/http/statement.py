"""Make the SQL of a route's function call, in the same way for every route.

PostgreSQL writes the JSON and its bytes pass through: no amount becomes a Python number.
"""

from collections.abc import Iterable

from api.http.values import sql_type
from api.routes import AMOUNTS, CSV, Argument, Route, Shape

# Members of a row that CSV has as they are: no text of theirs is a client's. Any other member is taken for text.
PLAIN = AMOUNTS | {"id", "group_id", "kind", "from", "to", "reverses", "reversed_by", "counterparty_id"}
TIMES = frozenset({"created_at", "settled_at"})

# What a spreadsheet takes for the beginning of a formula, and what marks that it is none.
FORMULA = r"E'^[-=+@''\t\r\n\uff0d\uff1d\uff0b\uff20]'"


def statement(route: Route, amounts_as_strings: bool) -> str:
    """Return the SQL of a route's call, with a parameter for each argument by its name in the function.

    It returns one row. For a list: the body of the answer without its end, and the last id of a page that has a
    successor (of the feed, the last cursor). Otherwise: the JSON, and then, where the route has them, the id of what
    was created or after which the next page begins, the entry that was written, and whether an earlier request did it.
    """
    call = f"ledger.{route.function}({arguments_of(route)})"
    answer = json_of(route.answer, route.function, amounts_as_strings) if route.answer else "null"
    if not route.many:
        optional = (
            (route.cursor or route.key, route.cursor or route.location),
            (route.entry, route.entry),
            ("replayed", route.takes_idempotency_key),
        )
        extra = [f"{route.function}.{column}" if present else "null" for column, present in optional]
        return f"select {', '.join([answer, *extra])} from {call}"
    if route.end_of:
        return f"select '{{\"data\":[]', {call}"
    rows, following = page_of(route, call, f"{answer}::text", ",")
    return f"select '{{\"data\":[' || {rows} || ']', {following}"


def export_statement(route: Route, media_type: str, amounts_as_strings: bool) -> str:
    """Return the SQL of a page of a list as CSV or NDJSON: its lines, and the id after which the next page begins."""
    call = f"ledger.{route.function}({arguments_of(route)})"
    if route.cursor:
        return f"select {statement_csv(route)}, {route.function}.{route.cursor} from {call}"
    if media_type == CSV:
        line = csv_of(route.rows, route.function)
    else:
        line = rf"{json_of(route.rows, route.function, amounts_as_strings)}::text || E'\n'"
    rows, following = page_of(route, call, line, "")
    return f"select {rows}, {following}"


def arguments_of(route: Route) -> str:
    return ", ".join([f"{argument.parameter} => {placeholder(argument, route)}" for argument in route.arguments])


def page_of(route: Route, call: str, line: str, separator: str) -> tuple[str, str]:
    """Return the text of a page's rows, and the value after which the next page begins with the source of both."""
    # The call asks for one row more than the page has, to know whether there is a next page; the feed always has one.
    place = "cursor" if route.feed else route.key
    goes_on = "true" if route.feed else "count(*) > %(max_rows)s::integer"
    rows = f"coalesce(string_agg(page.line, '{separator}' order by page.ordinality) filter (where page.fits), '')"
    following = f"""
          case when {goes_on}
            then (array_agg(page.{place} order by page.ordinality desc) filter (where page.fits))[1]
          end
        from (
          select
            {line} as line,
            {route.function}.{place},
            {route.function}.ordinality,
            {route.function}.ordinality <= %(max_rows)s::integer as fits
          from {call} with ordinality as {route.function}
        ) as page
    """
    return rows, following


def placeholder(argument: Argument, route: Route) -> str:
    value = f"%({argument.parameter})s::{sql_type(argument.kind)}"
    return f"{value} + 1" if argument.kind == "limit" and route.many and not route.feed else value


def json_of(shape: Shape, row: str, amounts_as_strings: bool) -> str:
    """Return the SQL expression that renders a row as JSON with these members, in this order.

    Optional ones are left out where they are null.
    """
    written = "row_to_json(o)"
    if any(member.optional for member in shape):
        written = f"json_strip_nulls({written})"
    return f"(select {written} from (select {members_of(shape, row, amounts_as_strings)}) as o)"


def json_list_of(shape: Shape, rows: str, amounts_as_strings: bool) -> str:
    """Return the SQL expression that renders an array of rows as a JSON list.

    All rows become JSON in one call: with a query for each of them a line of a list took twice as long to write.
    """
    members = members_of(shape, "i", amounts_as_strings)
    return f"(select coalesce(array_to_json(array_agg(o)), '[]') from (select {members} from unnest({rows}) as i) as o)"


def members_of(shape: Shape, row: str, amounts_as_strings: bool) -> str:
    """Return the columns of a row, named as the members."""
    columns = []
    for member in shape:
        value = f"{row}.{member.column}"
        if member.is_list:
            value = json_list_of(member.members, value, amounts_as_strings)
        elif member.members:
            value = json_of(member.members, f"({value})", amounts_as_strings)
        elif amounts_as_strings and member.name in AMOUNTS:
            value += "::text"
        columns.append(f'{value} as "{member.name}"')
    return ", ".join(columns)


def csv_of(shape: Shape, row: str) -> str:
    """Return the SQL expression that renders a row as a line of CSV with these members, in this order (RFC 4180).

    Text is quoted, and text that a spreadsheet would take for a formula, or that begins with an apostrophe, gets an
    apostrophe in front. A null is empty and has no quotes.
    """
    return csv_line({member.name: cell(member.name, f"{row}.{member.column}") for member in shape}.values())


def statement_csv(route: Route) -> str:
    """Return the SQL expression of a page of a statement: its lines, the balance before the first and after the last.

    The pages of one statement, one after the other, are the statement.
    """
    row = route.function

    def balance(kind: str, time: str, column: str) -> str:
        cells = dict.fromkeys([member.name for member in route.rows], "''") | {
            "kind": f"'{kind}'",
            "created_at": cell("created_at", f"%({time})s::timestamptz"),
            "balance": cell("balance", f"{row}.{column}"),
        }
        return csv_line(cells.values())

    return f"""
        case when coalesce(%(after)s::bigint, 0) = 0 then {balance("opening", "since", "opening_balance")} else '' end
        || coalesce(
          (
            select string_agg({csv_of(route.rows, "i")}, '' order by i.ordinality)
            from unnest({row}.lines) with ordinality as i
          ),
          ''
        )
        || case when {row}.{route.cursor} is null then {balance("closing", "until", "closing_balance")} else '' end
    """


def csv_line(cells: Iterable[str]) -> str:
    return rf"concat_ws(',', {', '.join(cells)}) || E'\r\n'"


def cell(name: str, value: str) -> str:
    if name in PLAIN:
        return f"coalesce({value}::text, '')"
    if name in TIMES:
        return f"coalesce(to_json({value}) #>> '{{}}', '')"
    text = f"{value}::text"
    harmless = f"case when {text} ~ {FORMULA} then '''' else '' end || {text}"
    return f"""coalesce('"' || replace({harmless}, '"', '""') || '"', '')"""
