"""Whether an opened graph has the tensors that the manifest says."""

from __future__ import annotations

from ..errors import EngineUnusable
from ..manifest import TensorSpec

Form = tuple[str, str, tuple[int | None, ...]]


def check_declared(
    graph: str, what: str, found: tuple[TensorSpec, ...], declared: tuple[TensorSpec, ...]
) -> None:
    """Compare names, types and fixed sizes; names of free sizes may differ.

    Args:
        graph: its file's name, for the message.
        what: `inputs` or `outputs`, for the message.

    Raises:
        EngineUnusable: they differ.
    """
    got, expected = {_form(spec) for spec in found}, {_form(spec) for spec in declared}
    if got != expected:
        raise EngineUnusable(
            f"{graph}: got the {what} {_listed(got - expected)}, "
            f"expected {_listed(expected - got)} as the manifest says",
            hint="export the bundle again",
        )


def _form(spec: TensorSpec) -> Form:
    fixed = tuple(size if isinstance(size, int) else None for size in spec.shape)
    return spec.name, spec.dtype, fixed


def _listed(forms: set[Form]) -> str:
    told = [
        f"{name} {dtype} [{', '.join('any' if size is None else str(size) for size in shape)}]"
        for name, dtype, shape in sorted(forms, key=lambda form: form[0])
    ]
    return ", ".join(told) or "none else"
