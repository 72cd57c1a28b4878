"""Country names as lists print them, to ISO 3166-1 alpha-2."""

from __future__ import annotations

from typing import Final

_TABLE: Final = """
AF Afghanistan|AL Albania|DZ Algeria|AD Andorra|AO Angola|AG Antigua and Barbuda|AR Argentina|AM Armenia|AW Aruba
AU Australia|AT Austria|AZ Azerbaijan|BS Bahamas|BS Bahamas, The|BS The Bahamas|BH Bahrain|BD Bangladesh|BB Barbados
BY Belarus|BE Belgium|BZ Belize|BJ Benin|BM Bermuda|BT Bhutan|BO Bolivia|BA Bosnia and Herzegovina
BA Bosnia-Herzegovina|BA Bosnia|BW Botswana|BR Brazil|BN Brunei|BG Bulgaria|BF Burkina Faso|MM Burma|MM Myanmar
BI Burundi|CV Cabo Verde|CV Cape Verde|KH Cambodia|CM Cameroon|CA Canada|KY Cayman Islands
CF Central African Republic|TD Chad|CL Chile|CN China|CN People's Republic of China|CO Colombia|KM Comoros
KM Comoros Islands|CD Congo, Democratic Republic of the|CD Democratic Republic of the Congo|CD DRC
CG Congo, Republic of the|CG Republic of the Congo|CR Costa Rica|CI Cote d Ivoire|CI Cote d'Ivoire|CI Ivory Coast
HR Croatia|CU Cuba|CW Curacao|CY Cyprus|CZ Czech Republic|CZ Czechia|DK Denmark|DJ Djibouti|DM Dominica
DO Dominican Republic|EC Ecuador|EG Egypt|SV El Salvador|GQ Equatorial Guinea|ER Eritrea|EE Estonia|SZ Eswatini
ET Ethiopia|FJ Fiji|FI Finland|FR France|GA Gabon|GM The Gambia|GM Gambia|GM Gambia, The|PS Gaza|PS Gaza Strip
PS Region: Gaza|GE Georgia|DE Germany|GH Ghana|GI Gibraltar|GR Greece|GD Grenada|GT Guatemala|GG Guernsey
GN Guinea|GW Guinea-Bissau|GY Guyana|HT Haiti|HN Honduras|HK Hong Kong|HU Hungary|IS Iceland|IN India|ID Indonesia
IR Iran|IQ Iraq|IE Ireland|IM Man, Isle of|IM Isle of Man|IL Israel|IT Italy|JM Jamaica|JP Japan|JE Jersey|JO Jordan
KZ Kazakhstan|KE Kenya|KI Kiribati|KP Korea, North|KP North Korea|KP DPRK|KP Democratic People's Republic of Korea
KR Korea, South|KR South Korea|KR Republic of Korea|XK Kosovo|KW Kuwait|KG Kyrgyzstan|LA Laos|LV Latvia|LB Lebanon
LS Lesotho|LR Liberia|LY Libya|LI Liechtenstein|LT Lithuania|LU Luxembourg|MO Macau|MO Macao
MK Macedonia, The Former Yugoslav Republic of|MK Macedonia|MK North Macedonia|MG Madagascar|MW Malawi|MY Malaysia
MV Maldives|ML Mali|ML Region: Northern Mali|MT Malta|MH Marshall Islands|MR Mauritania|MU Mauritius|MX Mexico
FM Micronesia|MD Moldova|MC Monaco|MN Mongolia|ME Montenegro|MA Morocco|MZ Mozambique|NA Namibia|NR Nauru|NP Nepal
NL Netherlands|NL The Netherlands|AN Netherlands Antilles|NZ New Zealand|NI Nicaragua|NE Niger|NG Nigeria|NO Norway
OM Oman|PK Pakistan|PW Palau|PS Palestinian|PS Palestine|PS Palestinian Territories|PS West Bank|PA Panama
PG Papua New Guinea|PY Paraguay|PE Peru|PH Philippines|PH The Philippines|PL Poland|PT Portugal|PR Puerto Rico
QA Qatar|RO Romania|RU Russia|RU Russian Federation|RU The Russian Federation|RW Rwanda|KN Saint Kitts and Nevis
KN St Kitts and Nevis|LC Saint Lucia|VC Saint Vincent and the Grenadines|WS Samoa|SM San Marino
ST Sao Tome and Principe|SA Saudi Arabia|SN Senegal|RS Serbia|RS Serbia and Montenegro|SC Seychelles|SL Sierra Leone
SG Singapore|SK Slovakia|SI Slovenia|SB Solomon Islands|SO Somalia|ZA South Africa|SS South Sudan|ES Spain
LK Sri Lanka|SD Sudan|SR Suriname|SE Sweden|CH Switzerland|SY Syria|TW Taiwan|TJ Tajikistan|TZ Tanzania|TH Thailand
TL Timor-Leste|TG Togo|TO Tonga|TT Trinidad and Tobago|TN Tunisia|TR Turkey|TR Turkiye|TM Turkmenistan
TC Turks and Caicos Islands|TV Tuvalu|UG Uganda|UA Ukraine|UA Region: Crimea|UA Crimea|AE United Arab Emirates
AE UAE|GB United Kingdom|GB UK|GB England|US United States|US USA|UY Uruguay|UZ Uzbekistan|VU Vanuatu|VE Venezuela
VN Vietnam|VG Virgin Islands, British|VG British Virgin Islands|EH Western Sahara|YE Yemen|ZM Zambia|ZW Zimbabwe
"""
_BY_NAME: Final[dict[str, str]] = {
    item[3:].casefold(): item[:2] for line in _TABLE.split("\n") for item in line.split("|") if item
}


def country_code(name: str) -> str:
    """ISO 3166-1 alpha-2 of a country's name, or ``""`` when the text names no country we know."""
    return _BY_NAME.get(name.strip().casefold(), "")
