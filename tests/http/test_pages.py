"""Lists come in pages, each with the path of the next."""

from urllib.parse import quote

import pytest

from tests.http.client import problem


@pytest.fixture
def crowd(api, group):
    path = f"{group.path}/participants"
    return path, [group.alice, group.bob] + [
        api("POST", path, {"username": f"p{i}", "amount": i}).data["id"] for i in range(5)
    ]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 1000])
def test_pages_follow_each_other_to_the_end(api, crowd, limit):
    path, ids = crowd
    seen: list[int] = []
    following = f"{path}?limit={limit}"
    while following:
        answer = api("GET", following)
        assert len(answer.data) <= limit
        seen += [row["id"] for row in answer.data]
        following = answer.json.get("next")
        assert answer.headers.get("Link") == (f'<{following}>; rel="next"' if following else None)
    assert seen == ids


def test_the_last_full_page_has_no_next(api, crowd):
    path, ids = crowd
    answer = api("GET", f"{path}?limit={len(ids)}")
    assert "next" not in answer.json
    assert "Link" not in answer.headers


def test_the_page_after_the_last_is_empty(api, crowd):
    path, ids = crowd
    assert api("GET", f"{path}?after={ids[-1]}").body == b'{"data":[]}'
    assert api("GET", f"{path}?after={2**63 - 1}").body == b'{"data":[]}'


def test_a_page_of_groups(api, new_group):
    first, second, third = (new_group().id for _ in range(3))
    answer = api("GET", f"/api/groups?after={first - 1}&limit=2")
    assert [row["id"] for row in answer.data] == [first, second]
    assert [row["id"] for row in api("GET", answer.json["next"]).data][:1] == [third]


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "abc", "", "1.0", "1e2", "9" * 5000, "١", " 5"])
def test_a_limit_outside_1_to_1000_is_refused(api, limit):
    answer = api("GET", f"/api/groups?limit={quote(limit)}")
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["limit"]


@pytest.mark.parametrize("after", ["-1", "abc", "", "1.0", str(2**63), "9" * 5000])
def test_an_invalid_after_is_refused(api, after):
    answer = api("GET", f"/api/groups?after={after}")
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["after"]


def test_the_list_of_an_unknown_group_is_not_found(api):
    problem(api("GET", f"/api/groups/{2**62}/participants"), 404, "not_found")
