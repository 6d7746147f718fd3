"""``dgray figure``: one figure of a run for a paper, with its numbers."""

from __future__ import annotations

from pathlib import Path

import click

from dgray.cli.command import Command


@click.command(
    cls=Command,
    examples=[
        "dgray figure runs/overfit",
        "dgray figure runs/overfit finding --width 3.25in --font 'DejaVu Serif'",
        "dgray figure runs/overfit kl_against_weight --where width=64 --where 'num_real<=300'",
        "dgray figure s3://BUCKET/PATH losses --format pdf --out paper/figures",
    ],
)
@click.argument("run", metavar="RUN")
@click.argument("name", metavar="[NAME]", required=False)
@click.option(
    "--width", metavar="LENGTH", help="Width, such as 3.25in, 82mm or 234pt; default: its own."
)
@click.option(
    "--font", metavar="FONT", help="Font family, or path of a TrueType file; default: DejaVu Sans."
)
@click.option(
    "--font-size",
    type=float,
    metavar="POINTS",
    help="Size of labels; default: 8 with --width, else 9.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="Draw only rows with NAME=VALUE (also != < <= > >=, values A|B). Several conditions: "
    "separated by commas, or several --where. The unguided base is kept.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    metavar="FORMAT",
    help="pdf, svg or png; several: separated by commas, or several --format; default: all.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Folder of the files; default: the current one.",
)
def figure(
    *,
    run: str,
    name: str | None,
    width: str | None,
    font: str | None,
    font_size: float | None,
    where: tuple[str, ...],
    formats: tuple[str, ...],
    out: Path,
) -> int:
    """Write one figure of a run, with its numbers.

    RUN is a folder or a URI. Without NAME, the names of the figures are listed. Files are
    NAME.pdf, NAME.svg and NAME.png (TrueType fonts, real text, run and commit in the metadata),
    NAME.csv (the numbers that are drawn) and NAME.tex (the same as a LaTeX table for booktabs).
    With --width the figure has no title, because the caption states it. Exit status: 0; 1 if the
    store fails; 2 if the run, the figure or an option is refused.
    """
    from dgray.cli import write_figure

    if name is None:
        return write_figure.list_figures(run)
    chosen = tuple(part.strip() for text in formats for part in text.split(",") if part.strip())
    return write_figure.write(
        run, name, width=width, font=font, size=font_size, where=where, formats=chosen, out=out
    )
