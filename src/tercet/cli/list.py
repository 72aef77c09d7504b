"""`tercet list`: the models on this machine, by the names that every command knows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tercet.cli import options

app = typer.Typer(add_completion=False)


@app.command(name="list")
def list_models(
    known: Annotated[
        bool, typer.Option("--known", help="Instead show the short names that `tercet pull` knows.")
    ] = False,
    json: options.Json = False,
) -> None:
    """List the models on this machine.

    They are the one that ships with the package, and those that `tercet pull` fetched; what an interrupted
    download left is shown, too.
    """
    from tercet.cli import console

    if known:
        from tercet.models.hub_names import ALIASES

        if json:
            console.write_json(dict(sorted(ALIASES.items())))
        else:
            _show({alias: (name,) for alias, name in sorted(ALIASES.items())}, ("name", "on the Hub"))
        return
    models, incomplete = _models(), _incomplete()
    if json:
        console.write_json({"models": models, "incomplete": incomplete})
        return
    rows: dict[str, tuple[str, ...]] = {}
    for entry in [*models, *incomplete]:
        name = entry.get("name") or f"{entry['repository']} (incomplete)"
        commit = "shipped" if entry["commit"] is None else entry["commit"][:8]
        rows[name] = (commit, console.mebibytes(entry["bytes"]), entry["path"])
    _show(rows, ("name", "commit", "size", "path"))


def _models() -> list[dict[str, Any]]:
    from tercet.models.downloads import downloads
    from tercet.models.registry import known_models

    shipped = [
        {"name": name, "path": str(path), "bytes": path.stat().st_size, "commit": None, "revision": None}
        for name, path in known_models().items()
    ]
    pulled = [
        {
            "name": download.name,
            "path": str(download.path),
            "bytes": download.num_bytes,
            "commit": download.commit,
            "revision": download.revision,
        }
        for download in downloads()
    ]
    return shipped + pulled


def _incomplete() -> list[dict[str, Any]]:
    from tercet.models.downloads import incomplete_downloads

    return [
        {
            "repository": "/".join(path.parts[-3:-1]),
            "commit": path.name,
            "path": str(path),
            "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        }
        for path in incomplete_downloads()
    ]


def _show(rows: dict[str, tuple[str, ...]], columns: tuple[str, ...]) -> None:
    from rich.table import Table

    from tercet.cli import console

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column != "path", overflow="fold")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.shown().print(table, markup=False)
