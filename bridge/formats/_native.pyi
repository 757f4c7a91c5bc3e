WRITTEN: int
FULL: int
OTHER: int
CHANGED: int

def take_apart(data: bytes) -> tuple[list[str], str]: ...
def archive_files(folder: int, names: bytes, buffer: bytearray, canonical: bool) -> tuple[int, int, int]: ...
