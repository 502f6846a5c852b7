"""Model cards: what a model is and how it was made, in the words of its provenance."""

from collections.abc import Mapping
from typing import Any

_ROWS = 12  # of the loss curve

_WIDTHS = {"softmax": "", "kernel": " features (kernel attention)", "two_hop": " latents (two-hop maps)"}
_HEADER = """---
library_name: grnlab
tags:
- single-cell
- gene-regulatory-networks
- grnlab
---
"""


def model_card(model: Any, provenance: Mapping[str, Any]) -> str:
    """Markdown text with the header that the Hugging Face Hub reads.

    Parameters
    ----------
    model
        A model.
    provenance
        How it was made, as :func:`grnlab.training.pretrain` tells it; what is not in it is left out.
    """
    made, sizes = provenance, model.attention
    head = f"{sizes.d_head}{_WIDTHS[sizes.kind]}"
    n_parameters = sum(weight.numel() for weight in model.parameters())
    lines = [
        f"- **Architecture**: {type(model).__name__}, {sizes.n_layers} layers, {sizes.n_heads} heads of "
        f"{head}, {len(model.vocab):,} genes, {n_parameters / 1e6:.2f} M parameters."
    ]
    if licence := made.get("weights_licence"):
        lines.append(f"- **Weights**: converted from {made['source']}; licence of the weights: {licence}.")
    if data := made.get("data"):
        lines.append(
            f"- **Data**: {data['n_cells_train']:,} cells to train on and {data['n_cells_validation']:,} held out, of "
            f"{len(data['datasets']):,} data sets (listed in `config.json`)."
        )
    if settings := made.get("settings"):
        tasks = [task if isinstance(task, str) else task["name"] for task in settings["objectives"]]
        lines.append(f"- **Tasks**: {', '.join(tasks)}; contexts of {settings['n_tokens']:,} genes.")
        lines.append(
            f"- **Run**: {made['cells_seen']:,} cells seen in {made['steps']:,} steps, {made['minutes']} minutes, "
            f"{made['hardware']}, seed {settings['seed']}, precision {settings['precision']}."
        )
    text = f"{_HEADER}\n# {model.name}\n\n" + "\n".join(lines) + "\n"
    text += f'\nLoad it with `grnlab.load_model("path/to/{model.name}")`.\n'
    return text + _curve(made.get("loss_curve") or [])


def _curve(points: list[dict[str, Any]]) -> str:
    if not points:
        return ""
    shown = [*points[: -1 : max(1, len(points) // _ROWS)], points[-1]]
    columns = list(points[-1])
    rows = [columns, ["---"] * len(columns), *([point.get(column, "") for column in columns] for point in shown)]
    table = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
    return (
        "\n## Loss curve\n\nEach loss times its weight: `train` averages the weighted sampling since the last row, "
        f"`val` is the held-out cells as they are.\n\n{table}\n"
    )
