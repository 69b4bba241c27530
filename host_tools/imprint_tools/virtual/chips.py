"""The chips that a virtual board can be, as their ROM serial loader shows them.

A read of a register that is not listed here answers 0, as unburned eFuses do. Sources: the ESP32,
ESP32-S3 and ESP32-C3 Technical Reference Manuals (eFuse controller, SPI, UART, RTC watchdog), and
what esptool's `targets` ask of a chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MIB = 1024 * 1024
XTAL_HZ = 40_000_000

GIGADEVICE = 0xC8
_GIGADEVICE_NOR = 0x40


@dataclass(frozen=True)
class SpiRegisters:
    """Where SPI1, the controller in front of the flash chip, lies: absolute addresses."""

    command: int
    address: int
    user: int
    user2: int
    data: int
    address_in_high_bits: bool


@dataclass(frozen=True)
class Chip:
    """One kind of chip. `app_id` is the chip id in an app image's header."""

    name: str
    title: str
    app_id: int
    bootloader_offset: int
    flash_size: int
    spi: SpiRegisters
    mac_low: int
    mac_high: int
    uart_clkdiv: int
    security_info: bool
    """Answers GET_SECURITY_INFO (0x14); the first ESP32's ROM knows no such command."""
    wdt_enable: int | None
    """The register whose bit 31 starts the RTC watchdog, for esptool's watchdog reset."""
    rom_banner: bytes
    download_boot: bytes
    flash_boot: bytes
    fixed: Mapping[int, int] = field(default_factory=dict)

    def registers(self, mac: bytes) -> dict[int, int]:
        """What can be read from this chip when its base MAC address is `mac` (6 bytes)."""
        return {
            **self.fixed,
            self.mac_low: int.from_bytes(mac[2:], "big"),
            self.mac_high: int.from_bytes(mac[:2], "big"),
        }


def jedec_id(flash_size: int) -> bytes:
    """The three bytes with which a flash chip of that size (a power of two) answers RDID."""
    return bytes((GIGADEVICE, _GIGADEVICE_NOR, flash_size.bit_length() - 1))


def _spi(base: int, user: int, user2: int, data: int, *, high: bool) -> SpiRegisters:
    return SpiRegisters(base, base + 4, base + user, base + user2, base + data, high)


_MAGIC = 0x4000_1000  # a word of mask ROM that differs from chip to chip
_EFUSE32 = 0x3FF5_A000
_EFUSE_S3 = 0x6000_7000
_EFUSE_C3 = 0x6000_8800

_ESP32 = Chip(
    name="esp32",
    title="ESP32",
    app_id=0,
    bootloader_offset=0x1000,
    flash_size=4 * MIB,
    spi=_spi(0x3FF4_2000, 0x1C, 0x24, 0x80, high=True),
    mac_low=_EFUSE32 + 0x04,
    mac_high=_EFUSE32 + 0x08,
    uart_clkdiv=0x3FF4_0014,
    security_info=False,
    wdt_enable=None,
    rom_banner=b"ets Jul 29 2019 12:21:46",
    download_boot=b"boot:0x3 (DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2))",
    flash_boot=b"boot:0x13 (SPI_FAST_FLASH_BOOT)",
    fixed={
        _MAGIC: 0x00F0_1D83,
        # ESP32-D0WD-V3, revision 3.1, rated 240 MHz
        _EFUSE32 + 0x0C: 1 << 9 | 1 << 13 | 1 << 15,
        _EFUSE32 + 0x14: 1 << 20 | 1 << 24,
        0x3FF6_607C: 1 << 31,
        # The ROM measured the crystal against its 8 MHz clock: 800 * 128 * 15625 / 40 = 40 MHz
        _EFUSE32 + 0x10: 128,
        0x3FF5_F06C: 800 << 7,
    },
)

_ESP32S3 = Chip(
    name="esp32s3",
    title="ESP32-S3",
    app_id=9,
    bootloader_offset=0,
    flash_size=8 * MIB,
    spi=_spi(0x6000_2000, 0x18, 0x20, 0x58, high=False),
    mac_low=_EFUSE_S3 + 0x44,
    mac_high=_EFUSE_S3 + 0x48,
    uart_clkdiv=0x6000_0014,
    security_info=True,
    wdt_enable=0x6000_8098,
    rom_banner=b"ESP-ROM:esp32s3-20210327\r\nBuild:Mar 27 2021",
    download_boot=b"boot:0x0 (DOWNLOAD(USB/UART0))",
    flash_boot=b"boot:0x8 (SPI_FAST_FLASH_BOOT)",
    fixed={_MAGIC: 0x0000_0009, _EFUSE_S3 + 0x50: 2 << 18},  # revision 0.2
)

_ESP32C3 = Chip(
    name="esp32c3",
    title="ESP32-C3",
    app_id=5,
    bootloader_offset=0,
    flash_size=4 * MIB,
    spi=_spi(0x6000_2000, 0x18, 0x20, 0x58, high=False),
    mac_low=_EFUSE_C3 + 0x44,
    mac_high=_EFUSE_C3 + 0x48,
    uart_clkdiv=0x6000_0014,
    security_info=True,
    wdt_enable=0x6000_8090,
    rom_banner=b"ESP-ROM:esp32c3-api1-20210207\r\nBuild:Feb  7 2021",
    download_boot=b"boot:0x5 (DOWNLOAD(USB/UART0/1))",
    flash_boot=b"boot:0xd (SPI_FAST_FLASH_BOOT)",
    fixed={_MAGIC: 0x1B31_506F, _EFUSE_C3 + 0x50: 4 << 18},  # revision 0.4
)

CHIPS: Mapping[str, Chip] = {chip.name: chip for chip in (_ESP32, _ESP32S3, _ESP32C3)}
