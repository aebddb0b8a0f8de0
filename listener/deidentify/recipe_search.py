"""PURE. Which elements the lines of recipes mean by their values, as these are when a line's turn comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from listener.deidentify import profile
from listener.deidentify.profile import Decision
from listener.deidentify.recipe import BLANK, REMOVE, REPLACE, Holds, Line, Plan, Recipe
from listener.deidentify.recipe_lists import Leaf, Lists
from listener.deidentify.replacing import Replacer


class Search(NamedTuple):
    """The search in one instance: the recipe, what its lists took from the instance, and what makes values in place of
    others.
    """

    recipe: Recipe
    lists: Lists
    replacer: Replacer

    def in_value(self, leaf: Leaf) -> Holds:
        """Return what tells whether a line means an element that is no sequence."""
        return lambda line, plan: self._holds(leaf, line, plan)

    def in_items(self, leaves: Callable[[], list[Leaf]]) -> Holds:
        """Return what tells whether a line means a sequence: if it means an element at any depth of it. `leaves` reads
        these, once a line asks.
        """
        found: list[Leaf] | None = None

        def holds(line: Line, plan: Plan | None) -> bool:
            nonlocal found
            if plan and plan.kind in (REMOVE, BLANK):
                return False
            found = leaves() if found is None else found
            return any(self._holds(leaf, line, self._before(line, leaf)) for leaf in found)

        return holds

    def _before(self, line: Line, leaf: Leaf) -> Plan | None:
        return self.recipe.plan(leaf.where, self.in_value(leaf), before=line)

    def _holds(self, leaf: Leaf, line: Line, plan: Plan | None) -> bool:
        """Return whether the value that an element has after a plan contains one of the line's list. Raises
        RecipeFailed where the plan cannot be done.
        """
        if plan and plan.kind in (REMOVE, BLANK):
            return False
        if plan and plan.kind == REPLACE:
            decision = Decision(profile.SET, "", lines=plan.lines)
            made = self.replacer.value(decision, leaf.where.path[-1], leaf.vr, leaf.raw, little=leaf.little)
            leaf = leaf._replace(raw=made or b"")
        return self.lists.holds(line.field, leaf)
