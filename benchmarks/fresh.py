"""Fresh memory, for tests and scripts that count its first touch."""

import torch

from fastinit.materialise import new_tensor


def at_hand(size: int) -> None:
    """Touch and free that many bytes, so that the machine has them.

    A virtual machine may give free memory back to its host, and to get it again then costs more than all the rest.
    """
    new_tensor(torch.empty(size, device="meta"), torch.uint8).fill_(1)
