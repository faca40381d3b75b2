"""The simulation of many members: its lines, its ring and gossip, and what it says of committees."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from covey_bench.scale import flood, gas
from covey_chain.types import UpdateHeader, Vote
from covey_exchange.messages import Envelope
from covey_scale import committee, real
from covey_scale.costs import HAVE_BYTES, Costs, Load, message_bytes, want_bytes
from covey_scale.lines import INITIAL_WINDOW_BYTES, Clock, Host, Line, Pipe
from covey_scale.site import TASK
from covey_scale.world import World, addresses

LINE = Line(1e8, 1e8, 0.005)
LOAD = Load(10**6, 2**21 + 5)


def signed_header(length: int) -> Envelope:
    header = UpdateHeader(TASK, 1, 0, addresses(1)[0], bytes(32), bytes(32), length, bytes(32), 1)
    return Envelope(header, bytes(65))


def one_round(members: int, **more: object) -> World:
    world = World(addresses(members), LINE, LOAD, Costs(), **more)  # type: ignore[arg-type]
    world.play()
    return world


@pytest.mark.parametrize("members", [2, 3, 5, 8])
def test_all_members_certify_one_result_that_counts_all_updates(members: int) -> None:
    world = one_round(members)
    certified = [site.certified for site in world.sites.values()]
    assert len({c.verdict.result for c in certified if c}) == 1
    assert None not in certified
    assert all(site.updates == members for site in world.sites.values())


@pytest.mark.parametrize("members", [3, 5, 8])
def test_each_site_sends_as_many_updates_as_it_gets(members: int) -> None:
    segments = (2**20 + 8, 2**20 + 8, 5 + 14)  # a length and tags before each, and at last the word that this is all
    world = one_round(members)
    for site in world.sites.values():
        assert site.ring.handed_over == members - 1
        beside = site.ring.bytes_sent - (members - 1) * (sum(segments) + want_bytes(LOAD.update_bytes) + HAVE_BYTES)
        assert 300 < beside / (members - 1) < 400, "an offer: header, signature and three leaves"


@pytest.mark.parametrize("members", [3, 5, 8])
def test_every_message_goes_once_from_each_site_to_each_other_but_back(members: int) -> None:
    world = one_round(members)
    world.clock.run(lambda: False, world.clock.now + 60)  # the last results, too
    copies = [site.gossip.copies for site in world.sites.values()]
    assert sum(copies) == (8 * members + 2) * (members - 1) ** 2
    assert min(copies) == flood(members)
    for site in world.sites.values():
        assert site.host.bytes_sent == site.ring.bytes_sent + site.gossip.bytes_sent


def test_the_simulated_ring_sends_the_bytes_of_the_real_one() -> None:
    length = 300_000
    sent = real.send_updates(3, length).bytes_sent
    world = World(addresses(3), LINE, Load(1, length), Costs())
    world.play()
    ring = {site.ring.bytes_sent for site in world.sites.values()}
    headers = 4 * message_bytes(signed_header(length))  # its own to two others, and theirs to one another
    assert set(sent) == {bulk + headers for bulk in ring}


def test_the_simulated_gossip_makes_the_copies_of_the_real_one() -> None:
    one, two = (real.send_votes(3, votes).bytes_sent for votes in (1, 2))
    vote = message_bytes(Envelope(Vote(TASK, 1, 0, 1, 1, bytes(32), addresses(1)[0]), bytes(65)))
    assert [more - less for more, less in zip(two, one, strict=True)] == [4 * vote] * 3


def test_a_committee_decides_for_all_and_they_learn_it() -> None:
    names = addresses(9)
    votes = {names[0]: 1, names[4]: 2, names[7]: 1}
    world = one_round(9, committee=votes)
    signers = {message.site for site in world.sites.values() if site.certified for message in site.certified.signatures}
    assert {name for name, site in world.sites.items() if site.certified} == set(votes)
    assert signers <= set(votes)
    assert all(site.ended_at is not None and site.updates >= 8 for site in world.sites.values())


def test_fewer_relays_still_reach_everybody() -> None:
    all_relay, some_relay = (World(addresses(12), LINE, LOAD, Costs(), relays=relays) for relays in (None, 3))
    assert some_relay.play().copies < all_relay.play().copies / 2


def test_a_round_costs_what_its_parts_cost() -> None:
    costs = Costs(encode=1e-6, decode=1e-7, evaluate=1e-5)
    played = World(addresses(3), LINE, LOAD, costs).play()
    assert played.encode_seconds == pytest.approx(1.0)
    assert played.evaluate_seconds == pytest.approx(10 * 5)
    few = World(addresses(3), LINE, Load(10**6, LOAD.update_bytes, left_out=1), costs).play()
    assert few.evaluate_seconds == pytest.approx(10 * 3)


def test_the_same_round_twice_takes_the_same_time() -> None:
    assert World(addresses(4), LINE, LOAD, Costs()).play() == World(addresses(4), LINE, LOAD, Costs()).play()


# --- lines ----------------------------------------------------------------------------------------------------------


def arrivals(sizes: list[list[int]], line: Line) -> list[float]:
    """When the last byte of each connection is there, if all begin at once."""
    clock = Clock()
    giver, taker = Host(clock, line), Host(clock, Line(1e12, 1e12, line.one_way_seconds))
    ends = [0.0] * len(sizes)

    def end(number: int, _items: list[int]) -> None:
        ends[number] = clock.now

    for number, items in enumerate(sizes):
        pipe = Pipe[int](giver, taker, lambda items, number=number: end(number, items))  # type: ignore[misc]
        for size in items:
            pipe.send(size, size)
    clock.run(lambda: False, 1e9)
    return ends


def test_a_line_takes_its_time_for_each_byte_and_its_delay_once() -> None:
    line = Line(1e6, 1e6, 0.1, initial_window_bytes=2**30)
    assert arrivals([[125_000, 125_000]], line) == [pytest.approx(2 + 0.2, abs=1e-3)]


def test_connections_take_turns_on_a_line() -> None:
    line = Line(1e6, 1e6, 0.0, slice_bytes=1000, initial_window_bytes=2**30)
    short, long = arrivals([[50_000], [200_000]], line)
    assert short == pytest.approx(0.8, abs=0.02)
    assert long == pytest.approx(2.0, abs=0.02)


def test_a_new_connection_doubles_what_it_sends_with_each_round_trip() -> None:
    line = Line(1e12, 1e12, 0.05)
    assert arrivals([[7 * INITIAL_WINDOW_BYTES]], line) == [pytest.approx(0.1 + 2 * 0.2, abs=1e-3)]


def test_what_was_saved_up_leaves_at_once() -> None:
    line = Line(8e6, 8e6, 0.0, burst_bytes=50_000, initial_window_bytes=2**30)
    assert arrivals([[150_000]], line) == [pytest.approx(0.1, abs=1e-3)]


# --- committees and gas ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seats", [1, 3, 4, 7])
@pytest.mark.parametrize("lying", [0.1, 0.25, 0.5])
def test_a_committee_fails_as_often_as_counting_says(seats: int, lying: float) -> None:
    exact = sum(
        lying ** sum(liars) * (1 - lying) ** (seats - sum(liars))
        for liars in product((0, 1), repeat=seats)
        if 3 * sum(liars) >= seats
    )
    assert committee.failure(seats, lying) == pytest.approx(exact)


@pytest.mark.parametrize(("seats", "members", "liars"), [(3, 9, 2), (4, 10, 3), (6, 12, 4)])
def test_members_with_one_seat_each_fail_as_often_as_counting_says(seats: int, members: int, liars: int) -> None:
    drawn = list(combinations(range(members), seats))
    bad = sum(3 * sum(member < liars for member in seat) >= seats for seat in drawn)
    assert committee.failure_of_members(seats, members, liars) == pytest.approx(bad / len(drawn))


def test_the_smallest_safe_committee_is_the_smallest() -> None:
    seats = committee.seats_for(0.1, 1e-6)
    assert committee.failure(seats, 0.1) < 1e-6 <= committee.failure(seats - 3, 0.1)


def test_seats_go_by_stake_and_anybody_can_draw_them_again() -> None:
    stakes = {"0xA": 1, "0xb": 3, "0xC": 0}
    drawn = committee.sample(stakes, 4000, b"seed")
    assert drawn == committee.sample(dict(reversed(stakes.items())), 4000, b"seed")
    assert sum(drawn.values()) == 4000
    assert drawn["0xb"] == pytest.approx(3000, abs=150)
    assert "0xC" not in drawn
    assert drawn != committee.sample(stakes, 4000, b"another seed")


def test_gas_lies_on_the_line_through_what_was_measured() -> None:
    assert gas(43) - gas(11) == pytest.approx(32 * (gas(12) - gas(11)))
    assert 60_000 < gas(3) < 120_000
