"""Words that say little about who is meant, and spellings that are the same word."""

from __future__ import annotations

from typing import Final

#: Legal forms. Spellings of one form are one word, so "Limited" and "Ltd" agree.
SPELLINGS: Final[dict[str, str]] = {
    "limited": "ltd", "ltda": "ltd", "limitada": "ltd", "ltds": "ltd",
    "company": "co", "companies": "co", "compania": "cia", "compagnie": "cia", "companhia": "cia",
    "corporation": "corp", "incorporated": "inc", "pvt": "private", "pte": "private", "pty": "private",
    "obshchestvo": "ooo", "brothers": "bros", "intl": "international", "mfg": "manufacturing",
    "ibn": "bin", "ben": "bin", "el": "al", "ul": "al",
    "mohd": "muhammad", "mhd": "muhammad", "muhd": "muhammad", "mohamed": "muhammad", "mohammed": "muhammad",
    "mohammad": "muhammad", "muhammed": "muhammad", "mohamad": "muhammad", "muhamad": "muhammad",
    "muhamed": "muhammad", "mohamud": "muhammad", "mohamoud": "muhammad", "mehmed": "muhammad",
}  # fmt: skip

LEGAL_FORMS: Final = frozenset(
    "ltd co cia corp inc llc llp lp plc private gmbh mbh ag kg kgaa ohg ev eg sa sas sarl sasu eurl snc spa srl srls sapa "
    "bv nv vof ab hb as asa aps oy oyj oao ooo zao pao jsc pjsc ojsc cjsc fze fzc fzco fzllc wll kft zrt doo dd ad ead eood ood "
    "rl cv scrl sc scl sl slu slp eirl bhd sdn tbk pt kk yk gk oo sp zoo ek sti anonim".split()
)
HONORIFICS: Final = frozenset(
    "mr mrs ms miss mx dr prof professor sir dame lord lady rev reverend fr hon eng engr ing adv "
    "haji hajji hadji hajj hadj al-hajj alhaji mullah mulla maulana mawlawi maulvi molvi maulavi sheikh sheik shaikh shaykh shaykhs sayyid "
    "imam ustad ustaz qari hafiz gen general maj major col colonel lt lieutenant capt captain cpt sgt brig brigadier "
    "admiral adm cmdr commander marshal don dona senor senora herr frau monsieur madame mme mlle jr sr ii iii iv "
    "esq phd md".split()
)
PARTICLES: Final = frozenset(
    "al as ar ash an ad az at bin bint abu umm bu de del della dello dei degli di da dos das do du des la le las los lo van von der den "
    "ter ten te zu zum zur vom af av y e i o a and of the for und et en in to z w na aal ould wa".split()
)
