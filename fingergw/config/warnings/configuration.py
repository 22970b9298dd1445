"""All warnings about a configuration that need nothing but itself."""

from __future__ import annotations

from fingergw.config import model
from fingergw.config.problems import Problem
from fingergw.config.warnings.admitted import unreachable
from fingergw.config.warnings.chains import kept_for_nothing, never_asked, too_slow
from fingergw.config.warnings.scope import scopes_of
from fingergw.config.warnings.shadowed import shadowed
from fingergw.config.warnings.unindexed import tried_for_all
from fingergw.config.warnings.values import doubtful_values


def find_warnings(configuration: model.Config) -> list[Problem]:
    """Return what a configuration says that cannot be meant.

    :param configuration: a whole one; in what is left of one with mistakes, much would seem to be of no use.
    """
    scopes = scopes_of(configuration)
    return [
        *unreachable(configuration, scopes),
        *shadowed(configuration, scopes),
        *tried_for_all(configuration, scopes),
        *never_asked(configuration),
        *too_slow(configuration, scopes),
        *kept_for_nothing(configuration),
        *doubtful_values(configuration),
    ]
