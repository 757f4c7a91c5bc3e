"""What stays where something is to stay: all that it was made from, each once."""

from __future__ import annotations

from dataclasses import replace

from bridge.formats.store_path import base_name
from bridge.store.catalogue import Catalogue
from bridge.store.gc import load_graph
from bridge.store.layout import Store
from bridge.store.needs import Graph
from bridge.store.trace import Realization

from .filling import add_file
from .keeping import chain, derivation, realized


def staying(graph: Graph, *kept: Realization, objects: tuple[str, ...] = ()) -> set[str]:
    """Ids of the realizations that stay."""
    needed = graph.needed({graph.by_id[one.id] for one in kept}, map(base_name, objects))
    return {graph.entries[number].id for number in needed.realizations}


def test_what_a_realization_was_made_from_stays_and_what_was_made_from_it_does_not(store: Store) -> None:
    clean, train = chain(store)
    graph = load_graph(store)
    assert staying(graph, train) == {train.id, clean.id}
    assert staying(graph, clean) == {clean.id}
    assert staying(graph) == set()


def test_its_derivation_and_sources_stay_and_nothing_else(store: Store) -> None:
    source, other = add_file(store, "source"), add_file(store, "other", b"other")
    one = realized(store, "train", derivation(store, "train", (source.path,)))
    graph = load_graph(store)
    needed = graph.needed([0], [])
    names = {graph.inventory.names[row] for row in needed.objects}
    assert names == set(map(base_name, (source.path, one.drv, one.outputs["out"])))
    assert base_name(other.path) in graph.inventory


def test_of_several_with_one_output_the_newest_stays(store: Store) -> None:
    drv = derivation(store, "clean")
    old, new = (realized(store, "clean", drv, at, content="same") for at in (1.0, 2.0))
    user = realized(store, "train", derivation(store, "train", (new.outputs["out"],)), 3.0)
    graph = load_graph(store)
    assert staying(graph, user) == {user.id, new.id}
    # Unless one stays anyway.
    assert staying(graph, user, old) == {user.id, old.id}


def test_of_an_input_derivation_the_newest_realization_stays(store: Store) -> None:
    drv = derivation(store, "clean")
    old, new = (realized(store, "clean", drv, at) for at in (1.0, 2.0))
    user = realized(store, "train", derivation(store, "train", (drv,)), 3.0)
    graph = load_graph(store)
    assert staying(graph, user) == {user.id, new.id}
    assert staying(graph, user, old) == {user.id, old.id}


def test_what_it_went_on_from_stays_to_the_first(store: Store) -> None:
    drv = derivation(store, "train")
    first = realized(store, "train", drv, 1.0)
    second = realized(store, "train", drv, 2.0, previous=first.id)
    third = realized(store, "train", drv, 3.0, previous=second.id)
    other = realized(store, "train", drv, 4.0)
    graph = load_graph(store)
    assert staying(graph, third) == {first.id, second.id, third.id}
    assert staying(graph, other) == {other.id}


def test_an_object_that_a_link_leads_to_keeps_the_realization_that_it_is_of(store: Store) -> None:
    clean, train = chain(store)
    graph = load_graph(store)
    assert staying(graph, objects=(train.outputs["out"],)) == {train.id, clean.id}
    assert staying(graph, objects=("/nix/store/" + "0" * 32 + "-gone",)) == set()


def test_without_one_that_goes_its_bytes_stay_for_those_that_were_made_from_it(store: Store) -> None:
    clean, train = chain(store)
    graph = load_graph(store)
    numbers = {one.id: number for number, one in enumerate(graph.entries)}
    needed = graph.needed([numbers[train.id]], [], without={numbers[clean.id]})
    assert needed.realizations == {numbers[train.id]}
    assert graph.inventory.rows[base_name(clean.outputs["out"])] in needed.objects


def test_those_made_from_an_object_are_found_without_steps_in_between(store: Store) -> None:
    clean, train = chain(store)
    report = realized(store, "report", derivation(store, "report", (train.outputs["out"],)), 3.0)
    graph = load_graph(store)

    def users(path: str) -> list[str]:
        return [graph.entries[number].id for number in graph.used_by(base_name(path))]

    assert users(clean.outputs["out"]) == [train.id]
    assert users(train.outputs["out"]) == [report.id]
    assert users(report.outputs["out"]) == []
    assert users("/nix/store/" + "0" * 32 + "-never") == []


def test_an_output_that_lies_in_the_nix_store_is_what_others_were_made_from(store: Store) -> None:
    clean, train = chain(store)
    store.info_file(clean.outputs["out"]).unlink()
    graph = load_graph(store)
    assert base_name(clean.outputs["out"]) not in graph.inventory
    assert staying(graph, train) == {train.id, clean.id}


def test_those_that_went_on_from_each_other_end(store: Store) -> None:
    clean, train = chain(store)
    graph = load_graph(store)
    # No record can name one that names it; a damaged store may.
    first, second = (replace(one, previous=other.id) for one, other in (graph.entries, graph.entries[::-1]))
    looped = Graph(Catalogue.of([first, second]), graph.inventory)
    assert len(looped.needed([0], []).realizations) == 2
    assert {clean.id, train.id} == {first.id, second.id}
