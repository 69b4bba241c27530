"""The block device of the file system, or None where the flash has no place for one."""

from esp32 import Partition

bdev = None
for _label in ("vfs", "ffat"):
    for _part in Partition.find(Partition.TYPE_DATA, label=_label):
        bdev = bdev or _part
