"""A part of the flash as a block device; this much of a partition a mounted file system needs."""

from _chip import call, fetch


class Blocks:
    def __init__(self, at):
        self._at = at

    def readblocks(self, block, buf, offset=0):
        fetch(OP_FLASH_READ, self._at + block * 4096 + offset, buf)

    def writeblocks(self, block, buf, offset=-1):
        call(OP_FLASH_WRITE, self._at + block * 4096, offset, buf)

    def ioctl(self, op, arg):
        return call(OP_FLASH_IOCTL, op, self._at + arg * 4096)
