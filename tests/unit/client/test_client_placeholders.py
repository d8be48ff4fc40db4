"""Placeholders that manufacturers leave in place of identifiers, and unusual identifiers that count."""

from __future__ import annotations

import pytest
from kadun.hardware.placeholders import without_placeholders

DUMMIES = """
To be filled by O.E.M.|To Be Filled By O.E.M.|TO BE FILLED BY OEM|Default string|Default_string|System Serial Number
SystemSerialNumb|Base Board Serial Number|Chassis Serial Number|Type2 - Board Serial Number|Serial Number|None|NONE
Not Specified|Not Applicable|Not Available|NotAvailable|N/A|NA|null|Unknown|INVALID|OEM|O.E.M.|Empty|Standard|Undefined
Unspecified System Serial Number|<OUT OF SPEC>|<BAD INDEX>|0|00000000|000000000000|FFFFFFFF|xxxxxxxxxxx|..........|/
123456789|0123456789|1234567890|0123456789012345|MB-1234567890|BSN12345678901234567|SSN12345678901234567
00000000-0000-0000-0000-000000000000|FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF|FEFEFEFE-FEFE-FEFE-FEFE-FEFEFEFEFEFE
03000200-0400-0500-0006-000700080009|00020003-0004-0005-0006-000700080009|00010203-0405-0607-0809-0A0B0C0D0E0F
03020100-0504-0706-0809-0A0B0C0D0E0F|12345678-1234-5678-90AB-CDDEEFAABBCC|DEADBEEF-DEAD-BEEF-DEAD-BEEFDEADBEEF
4C4C4544-0000-2010-8020-80C04F202020|11111111-2222-3333-4444-555555555555|        |??????|é
"""
GENUINE = """
PF4XK2M9|L1HF3AB01DE|220213589104752|/7ABC123/CN1296164M00AB/|VMware-56 4d 5a ca f7 12 83 9e-1c 41 7f 2a 90 b3 d6 e8
Parallels-2D 5F 1B C9 A3 4E 47 8F B1 22 70 D8 93 6A E4 0C|8412-7305-9916-4420-1573-6618-27|C02FK3XHQ05N|LRX4278
0025_38B4_1140_A1D2.|03D40274-0435-05DC-8506-010700080009|00000000-0000-0000-0000-AC1F6B4D27E1|1234567A
4C4C4544-0042-3510-8052-B3C04F4B4E32|0000-0002-8812-3351-0957-1160-90|564D5ACA-12F7-9E83-1C41-7F2A90B3D6E8|ZF01234567X
"""


@pytest.mark.parametrize("dummy", DUMMIES.strip("\n").replace("\n", "|").split("|"))
def test_a_placeholder_is_not_an_identifier(dummy: str) -> None:
    assert without_placeholders({"it": dummy}) == {}


@pytest.mark.parametrize("value", GENUINE.strip("\n").replace("\n", "|").split("|"))
def test_an_unusual_identifier_counts(value: str) -> None:
    assert len(without_placeholders({"it": value})) == 1
