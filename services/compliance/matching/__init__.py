"""Name matching: from a party's name to the list entries it resembles, each with an explained score.

``normalise`` -> ``vocabulary`` (which words of the list a word resembles) -> ``index`` (which names are worth
a look) -> ``score`` (how alike, and why) -> ``screener`` (threshold, other names, country, cache).
"""
