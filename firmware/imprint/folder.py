"""Small files in a folder, for the outbox. A module of its own: few units ever need one."""

import os


class FolderStore:
    """Small files in one folder of the file system, each replaced whole."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        try:
            os.mkdir(folder)
        except OSError:
            os.stat(folder)  # it is there already, or this says why not

    def names(self) -> "list[str]":
        return os.listdir(self._folder)

    def read(self, name: str) -> "bytes | None":
        try:
            with open(self._folder + "/" + name, "rb") as file:
                return file.read()
        except OSError:
            return None

    def write(self, name: str, data: bytes) -> None:
        # LittleFS makes a file's content and size true at once, at close: a name never shows
        # half a content, and the rename keeps that so on file systems that do.
        staged = self._folder + "/" + name + "~"
        with open(staged, "wb") as file:
            file.write(data)
        os.rename(staged, self._folder + "/" + name)

    def remove(self, name: str) -> None:
        os.remove(self._folder + "/" + name)
