"""pymodbus as the judge of our Modbus: it reads our requests, and we read what it answers."""

from __future__ import annotations

from typing import Any

import pytest
from imprint.drivers import modbus
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU, ExceptionResponse
from pymodbus.pdu.bit_message import ReadCoilsResponse
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse

TYPES = ModbusClientMixin.DATATYPE
KINDS = {
    "u16": TYPES.UINT16,
    "s16": TYPES.INT16,
    "u32": TYPES.UINT32,
    "s32": TYPES.INT32,
    "f32": TYPES.FLOAT32,
}

pytestmark = pytest.mark.interop


def read(request: bytes) -> Any:
    """The request as pymodbus's server takes it off the line."""
    used, pdu = FramerRTU(DecodePDU(True)).handleFrame(request, 0, 0)
    assert pdu is not None and used == len(request)
    return pdu


def said(pdu: Any) -> bytes:
    """An answer as pymodbus's server puts it on the line."""
    return bytes(FramerRTU(DecodePDU(False)).buildFrame(pdu))


@pytest.mark.parametrize(("kind", "code"), [("c", 1), ("d", 2), ("h", 3), ("i", 4)])
def test_reads(kind: str, code: int) -> None:
    """Slave, function, first register and count are what was meant."""
    pdu = read(modbus.frame(17, bytes([code]) + (300).to_bytes(2, "big") + b"\0\x05"))
    assert (pdu.function_code, pdu.dev_id, pdu.address, pdu.count) == (code, 17, 300, 5)


def test_writes() -> None:
    """One register, two registers, a coil."""
    pdu = read(modbus.frame(3, modbus.Point("a:h:40:s16").encode(-2)))
    assert (pdu.function_code, pdu.address, pdu.registers) == (6, 40, [0xFFFE])
    pdu = read(modbus.frame(3, modbus.Point("a:h:40:u32").encode(0x12345678)))
    assert (pdu.function_code, pdu.registers) == (16, [0x1234, 0x5678])
    pdu = read(modbus.frame(3, modbus.Point("a:c:40:bit").encode(1)))
    assert (pdu.function_code, pdu.bits[0]) == (5, True)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("u16", 65534), ("s16", -7), ("u32", 3_000_000_000), ("s32", -70_000), ("f32", -1.5)],
)
@pytest.mark.parametrize("order", ["big", "little"])
def test_values(kind: str, value: float, order: Any) -> None:
    """Numbers that pymodbus puts into registers, in either order of words, are read back."""
    registers = ModbusClientMixin.convert_to_registers(value, KINDS[kind], word_order=order)
    pdu = ReadHoldingRegistersResponse(registers=registers, dev_id=9)
    ask = b"\x03\0\0" + len(registers).to_bytes(2, "big")
    data = modbus.answer(9, ask, said(pdu))
    swapped = "r" if order == "little" and len(registers) == 2 else ""
    assert modbus.Point(f"a:h:0:{kind}{swapped}").decode(data, 0) == value


def test_coils_and_exceptions() -> None:
    """Bits are counted from the lowest; an exception is one, with its code."""
    bits = [True, False, False, True, False, False, False, False, True]
    data = modbus.answer(9, b"\x01\0\0\0\x09", said(ReadCoilsResponse(bits=bits, dev_id=9)))
    found = [modbus.Point(f"a:c:{at}:bit").decode(data, 0) for at in range(9)]
    assert found == [int(bit) for bit in bits]
    with pytest.raises(modbus.SetupError) as refused:
        modbus.answer(9, b"\x03\0\0\0\1", said(ExceptionResponse(3, 2, device_id=9)))
    assert refused.value.number == 2
