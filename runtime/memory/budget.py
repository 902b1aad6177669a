"""One byte budget over everything that memory keeps, by the name of who holds it."""

from __future__ import annotations

from ..errors import SettingsInvalid


class Budget:
    """Who holds how much of one budget. It counts; whoever holds must let go.

    Args:
        budget_bytes: all holders together, at most.

    Raises:
        SettingsInvalid: the budget is below one byte.
    """

    def __init__(self, budget_bytes: int) -> None:
        if budget_bytes < 1:
            raise SettingsInvalid(
                f"the memory got a budget of {budget_bytes} bytes, expected 1 or more",
                hint="give it more memory",
            )
        self.budget_bytes = budget_bytes
        self._holders: dict[str, int] = {}

    @property
    def kept_bytes(self) -> int:
        """What all of them hold together."""
        return sum(self._holders.values())

    @property
    def room(self) -> int:
        """Bytes that are free; below 0, so many must go."""
        return self.budget_bytes - self.kept_bytes

    def holders(self) -> dict[str, int]:
        """Bytes by the name of the holder."""
        return dict(self._holders)

    def hold(self, name: str, n_bytes: int) -> None:
        """Say how much one of them holds now."""
        self._holders[name] = n_bytes

    def require(self, n_bytes: int, what: str) -> None:
        """Refuse a budget that cannot hold what must fit.

        Raises:
            SettingsInvalid: the whole budget is smaller.
        """
        if self.budget_bytes < n_bytes:
            raise SettingsInvalid(
                f"the memory got a budget of {self.budget_bytes} bytes, "
                f"expected at least the {n_bytes} that {what} takes",
                hint="give it more memory",
            )
