"""`optimum-cli export edgestream`, the command of `edgestream export` in optimum's own program.

This file is installed as `optimum/commands/register/edgestream.py`: optimum looks into that
namespace for what other packages register.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand


class EdgeStreamExportCommand(BaseOptimumCLICommand):
    """Turns a checkpoint into a quantized, proven bundle."""

    COMMAND = CommandInfo(
        name="edgestream",
        help="Export a streaming vision-language model to a quantized, proven EdgeStream bundle.",
    )

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """The options of `edgestream export`; `-m` is its CHECKPOINT, OUTPUT its --out."""
        from edgestream.edge.optimum_options import add_export_options

        add_export_options(parser)

    def run(self) -> None:
        """Export; ends the process with the exit code of `edgestream export`."""
        from edgestream.edge.cli import main
        from edgestream.edge.optimum_options import export_words

        assert self.args is not None
        sys.exit(main(export_words(self.args)))


REGISTER_COMMANDS = [(EdgeStreamExportCommand, ExportCommand)]
