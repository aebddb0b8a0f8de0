from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.errors import ConfigError
from listener.route import routes_file
from listener.route.routes_file import Route, Routes, Target, TlsFiles, is_inside, matching

WHOLE = """
[workers.gpu1]
address = "10.1.0.11:11112"
aet = "GPU1"
weight = 2
calling = "US"
associations = 3
response = 30
returns-as = ["GPU1OUT", "GPU1SR"]
tls = { ca = "/etc/tls/ca.pem", cert = "/etc/tls/us.pem", key = "/etc/tls/us.key" }
[workers.gpu2]
address = "[fd00::2]:104"
aet = "GPU2"
[destinations.stockholm]
address = "pacs.example.se:104"
aet = "STO_PACS"
[destinations.archive]
directory = "/srv/c/incoming"
[routes.stockholm]
root = "stockholm"
sender = ["STO_*"]
only = { Modality = ["CT", "MR"] }
workers = ["gpu1", "gpu2"]
results = ["stockholm"]
copies = ["archive"]
priority = "high"
[routes.rest]
sender = ["*"]
copies = ["archive"]
[inside]
roots = ["inside"]
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        routes_file.read(text)
    return caught.value.problems


def test_the_whole_of_it() -> None:
    found = routes_file.read(WHOLE)
    tls = TlsFiles("/etc/tls/ca.pem", "/etc/tls/us.pem", "/etc/tls/us.key")
    assert list(found.targets) == ["gpu1", "gpu2", "stockholm", "archive"]
    assert found.targets["gpu1"] == Target(
        *("gpu1", True, "10.1.0.11", 11112, "GPU1", "US", 3, 30, tls, 2), returns_as=("GPU1OUT", "GPU1SR")
    )
    assert found.targets["gpu2"] == Target("gpu2", True, "fd00::2", 104, "GPU2")
    assert found.targets["archive"] == Target("archive", False, directory="/srv/c/incoming")
    only = (("Modality", ("CT", "MR")),)
    assert found.routes["stockholm"] == Route(
        *("stockholm", "stockholm", ("STO_*",), only, ("gpu1", "gpu2"), ("stockholm",), ("archive",), "high")
    )
    assert found.routes["rest"].priority == "normal"
    assert found.inside == ("inside",)


def test_an_empty_file_routes_nothing() -> None:
    assert routes_file.read("") == Routes({}, {})


def test_every_problem_is_told_at_once_with_what_to_do() -> None:
    told = problems(
        """
        [worker.gpu0]
        [workers.gpu1]
        address = "nowhere"
        aet = "MORE THAN SIXTEEN CHARACTERS"
        weigth = 2
        [workers.gpu2]
        address = "host:104"
        aet = "A"
        weight = 0
        response = true
        [workers.gpu3]
        address = "HOST:104"
        aet = "B"
        tls = { ca = "x", what = "y" }
        [workers."bad name"]
        [destinations.gpu2]
        aet = "C"
        [destinations.d]
        directory = "relative"
        aet = "D"
        [routes.one]
        workers = ["gpu4", "gpu2"]
        results = ["gpu2", "dd"]
        only = { Modalitaet = ["CT"] }
        priority = "urgent"
        [routes.two]
        root = "in"
        results = ["d"]
        [routes.three]
        root = "/srv/in"
        copies = []
        sender = "A"
        [inside]
        roots = ["in"]
        """
    )
    expected = """
        unknown table [worker]; give [workers], [destinations], [routes], [inside]
        [workers.gpu1]: address: 'nowhere' is not HOST:PORT
        [workers.gpu1]: aet: 'MORE THAN SIXTEEN CHARACTERS' is not an AE title
        [workers.gpu1]: unknown key 'weigth'; did you mean 'weight'?
        [workers.gpu2]: weight: 0 is not a number from 0.01 to 1000
        [workers.gpu2]: response: True is not a number from 1 to 3600
        [workers.gpu3]: has the address of worker 'gpu2'; give each its own
        [workers.gpu3]: tls: {'ca': 'x', 'what': 'y'} is no table of ca, cert and key
        [workers.bad name]: the name has more than letters
        [destinations.gpu2]: address is missing
        [destinations.gpu2]: there is a worker of this name
        [destinations.d]: directory: 'relative' is not a whole path
        [destinations.d]: aet: means nothing beside directory
        [routes.one]: neither root nor sender
        [routes.one]: workers: there is no worker 'gpu4'; did you mean 'gpu3'?
        [routes.one]: results: there is no destination 'gpu2'
        [routes.one]: results: there is no destination 'dd'; did you mean 'd'?
        [routes.one]: only: {'Modalitaet': ['CT']} has 'Modalitaet', which is no keyword of DICOM
        [routes.one]: priority: 'urgent' is not known; give one of high, normal, low
        [routes.two]: neither workers nor copies
        [routes.two]: results: nobody makes any without workers
        [routes.two]: root: 'in' is where workers send results to
        [routes.three]: root: '/srv/in' is where workers send results to
        [routes.three]: copies: [] is not a list
        [routes.three]: sender: 'A' is not a list
    """
    for line in expected.strip().splitlines():
        assert [problem for problem in told if problem.startswith(line.strip())], (line, told)
    assert len(told) == len(expected.strip().splitlines()), told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[workers", "it is not TOML"),
        ("workers = 5", "workers: is no table; write [workers.NAME]"),
        ("[workers]\ngpu = 5", "workers: 'gpu' is no table; write [workers.gpu]"),
        ("inside = 5", "[inside]: is no table"),
        ('[workers.a]\naddress = "fd00::1:104"\naet = "A"', "has an IPv6 address without brackets"),
        ('[workers.a]\naddress = "host:70000"\naet = "A"', "is not HOST:PORT"),
        ('[destinations.a]\naddress = "h:1"\naet = "A"\ntls = { key = "/k" }', "has a key without cert"),
        (
            """[workers.a]\naddress = "h:1"\naet = "A"\n[destinations.d]\ndirectory = "/d"
            [routes.r]\nroot = "x"\nworkers = ["a"]\nresults = ["d"]""",
            "[routes.r]: results: no incoming directory is for what workers send; give [inside] with roots",
        ),
    ],
)
def test_one_problem(text: str, told: str) -> None:
    assert [problem for problem in problems(text) if told in problem]


def values(**known: str) -> Callable[[str], str]:
    return lambda keyword: known.get(keyword, "")


def test_an_instance_goes_along_every_route_that_matches() -> None:
    found = routes_file.read(WHOLE)

    def names(root: str, sender: str, **known: str) -> list[str]:
        return [route.name for route in matching(found, root, sender, values(**known))]

    assert names("/srv/stockholm", "STO_CT1", Modality="CT") == ["stockholm", "rest"]
    assert names("/srv/stockholm/", "STO_CT1", Modality="US") == ["rest"]
    assert names("/srv/uppsala", "STO_CT1", Modality="CT") == ["rest"]
    assert names("/srv/stockholm", "sto_ct1", Modality="CT") == ["rest"], "AE titles have cases"
    assert is_inside(found, "/srv/inside")
    assert not is_inside(found, "/srv/inside/below")


def test_a_whole_path_is_that_directory_alone() -> None:
    found = routes_file.read('[destinations.d]\ndirectory = "/d"\n[routes.r]\nroot = "/a/in/"\ncopies = ["d"]')
    assert matching(found, "/a/in", "X", values())
    assert not matching(found, "/b/in", "X", values())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WHOLE.split()), inner, max_size=4),
    max_leaves=12,
)
KEYS = [*routes_file._WORKER, *routes_file._DESTINATION, *routes_file._ROUTE, "roots"]


@pytest.mark.fuzz
@given(
    st.dictionaries(
        st.sampled_from(["workers", "destinations", "routes", "inside", "other"]),
        JSON | st.dictionaries(st.sampled_from("ab"), JSON | st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5)),
    )
)
def test_whatever_stands_in_it_it_is_read_or_refused_with_reasons(file: dict[str, Any]) -> None:
    with suppress(ConfigError):
        found = routes_file.checked(file)
        assert {target.name for target in found.targets.values()} == found.targets.keys()
        return
    with pytest.raises(ConfigError) as caught:
        routes_file.checked(file)
    assert caught.value.problems
    assert all(isinstance(problem, str) for problem in caught.value.problems)
