"""Git LFS pointers: what a clone without git-lfs has in place of each large file, three lines of text.

Format: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
"""

from __future__ import annotations

LFS_HEAD = b"version https://git-lfs.github.com/spec/"
LFS_EXPECTED = "the file itself: run `git lfs pull` in the clone, or download the file"


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file that begins with `head` is a pointer."""
    return head.startswith(LFS_HEAD)


def lfs_detail(name: str) -> str:
    """The sentence for a file that is one."""
    return f"{name} is a Git LFS pointer, three lines of text in place of the file, which was not fetched"
