"""Options of the audit log, and where its key lies unless somebody says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SECURITY = "Security"
KEY_NAME = "security.key"

AuditDir = Annotated[
    Path | None,
    typer.Option(
        "--audit-dir",
        help="Folder of the audit log: who asked, what came of it, no text (default: no audit log).",
        show_default=False,
        rich_help_panel=SECURITY,
    ),
]
AuditFiles = Annotated[
    int,
    typer.Option("--audit-files", min=2, help="Files of it that are kept.", rich_help_panel=SECURITY),
]
AuditFileBytes = Annotated[
    int,
    typer.Option(
        "--audit-file-bytes",
        min=1024,
        help="Size at which the next file is begun.",
        rich_help_panel=SECURITY,
    ),
]
SecurityKey = Annotated[
    Path | None,
    typer.Option(
        "--security-key",
        help="File with the secret that client hashes and the audit log are keyed with; made, with mode 600, "
        "if it is not there (default: with --audit-dir, security.key in the folder of settings; else one "
        "that ends with the process).",
        show_default=False,
        rich_help_panel=SECURITY,
    ),
]
LogPrompts = Annotated[
    bool,
    typer.Option(
        "--log-prompts",
        help="Write what people ask and what the model answers to the log.",
        rich_help_panel=SECURITY,
    ),
]


def key_file(given: Path | None, audit_dir: Path | None) -> Path | None:
    """The file of the secret: the one that was named, or the usual one where there is an audit log."""
    from tercet.environment import config_directory

    return config_directory() / KEY_NAME if given is None and audit_dir is not None else given
