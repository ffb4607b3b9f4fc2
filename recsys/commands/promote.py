"""`recsys promote`: let another generation write the live lists."""

from typing import Annotated

import typer

from recsys.commands.common import JsonOption, print_json, run, say, settings


def promote(
    generation: Annotated[
        str, typer.Argument(help="Who shall write them: a generation's name; main is the first.")
    ],
    lag_max: Annotated[
        int, typer.Option(min=0, help="Refuse where it is more events behind than this.")
    ] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Let a generation take over the live lists at a fenced offset: no list missing, none twice.

    Its workers (RECSYS_GENERATION=name recsys worker) and those of the generation before must both
    run until the change is through. Going back is the same command with the other name.
    """
    from recsys.promotion import promote as take_over

    done = run(take_over(settings(generation=generation), generation, lag_max))
    if as_json:
        print_json(done.as_json())
        return
    if done.cut_off is not None:
        say(f"The last promotion, to {done.cut_off}, was cut off; this one takes its place.")
    say(f"{done.generation} writes the live lists from here on, {done.before} did before.")
    if done.unanswered:
        say(
            f"No worker of {done.before} runs: up to {done.unanswered} events from before get "
            "their lists when one does."
        )
    for at, offset in done.offsets.items():
        say(f"{at.topic} partition {at.partition}: from offset {offset}")
