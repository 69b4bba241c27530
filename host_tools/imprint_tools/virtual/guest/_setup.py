"""Before boot.py: the chip's modules in place of the host's, and the file system at `/`.

Everything here is garbage when it is done; what stays is in _boot.
"""

import sys


def _tie_to_host():
    """Die with the host."""
    import ffi

    libc = ffi.open(None)
    # Made at run time: a constant as short as these would stay in the heap for ever.
    prctl, five = "prctl iiiii".split()
    libc.func("i", prctl, five)(1, 9, 0, 0, 0)


def _dress():
    """Put the chip's own modules in place of the ones of the host's MicroPython."""
    modules = sys.modules
    import _micropython
    import _sys

    modules["micropython"] = _micropython
    modules["sys"] = _sys
    del modules["_micropython"], modules["_sys"]
    import socket
    import time

    # The old names bypass the module path and would reach the host's clock and name service
    modules["usocket"] = socket
    modules["utime"] = time


def _mount():
    import vfs
    from _blocks import Blocks
    from _partition import Partition

    bdev = None
    for label in ("vfs", "ffat"):
        for part in Partition.find(Partition.TYPE_DATA, label=label):
            bdev = bdev or part
    vfs.umount("/")
    del sys.modules["_partition"]
    if not bdev:
        return
    bdev = Blocks(bdev.info()[2])
    try:
        vfs.mount(bdev, "/")
        return
    except OSError:
        pass
    block = bytearray(4096)
    bdev.readblocks(0, block)
    if block.count(b"\xff") != 4096:
        _boot.run(_corrupted)
        return
    print("Performing initial setup")
    vfs.VfsLfs2.mkfs(bdev)
    vfs.mount(bdev, "/")
    with open("boot.py", "w") as f:
        f.write("# Runs at every start, before main.py\n")


def _corrupted():
    from time import sleep

    while 1:
        print(
            "The file system seems corrupted. It is left as it is, so that data can be saved; "
            "Ctrl-C gives the REPL, writing the vfs partition anew heals it."
        )
        sleep(3)


_tie_to_host()
_dress()
import _boot

_mount()
