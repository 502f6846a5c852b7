"""One coarse cell type for the label spellings of many studies."""

import re

# The first pattern that matches a label decides; order matters ("plasma" before "B", "NKT" before "NK").
_PATTERNS = [
    (r"plasma(?!cytoid)|plasmabl", "plasma cell"),
    (r"\bpdc|plasmacytoid|tpdc", "plasmacytoid dendritic cell"),
    (r"\bcd34|stem cell|progenitor-like|precursor-like", ""),
    (r"treg|\bt reg|nkt|cd4|cd8|\bt[- ]?cells?\b|\b[bt]t cells", "T cell"),
    (r"\bnk\b|\b[bt]nk\b|natural killer|cd56|innate lymphoid|\biels?\b", "NK cell"),
    (r"\bb[- ]?cells?\b|\b[bt]b cells|cd19", "B cell"),
    (r"monocyte|cd14|cd16", "monocyte"),
    (r"macrophage|hofbauer|microglia|tmomacdc", "macrophage"),
    (r"\bdcs?\b|\bdc[12]|dendritic", "dendritic cell"),
    (r"neutrophil|granulocyte", "neutrophil"),
    (r"mast cell", "mast cell"),
    (r"endotheli|lymphatic", "endothelial cell"),
    (r"pericyte|\bpvl\b|smooth muscle|myofibro", "mural cell"),
    (r"fibrobl|caf|stromal|stellate", "fibroblast"),
    (r"neuron|cajal|neuroblast|\brgc\b", "neuron"),
    (r"glio|glial|oligodendro|astro", "glial cell"),
    (r"enterocyte|goblet|epitheli|paneth|ciliated|luminal|trophoblast", "epithelial cell"),
    (r"^(alpha|beta|delta)$", "pancreatic endocrine cell"),
    (r"a549|h838|h2228|h1975|hcc827|hct116|a375|^hos$|cancer|patient\d-specific", "cancer cell"),
]
CELL_TYPES = tuple(sorted({name for _, name in _PATTERNS if name}))


def coarse_cell_type(label: str) -> str | None:
    """Coarse type of a label, None where it names none.

    Examples
    --------
    >>> coarse_cell_type("CD4+/CD25 T Reg"), coarse_cell_type("Plasmablasts"), coarse_cell_type("cluster_1")
    ('T cell', 'plasma cell', None)
    """
    for pattern, name in _PATTERNS:
        if re.search(pattern, label, flags=re.IGNORECASE):
            return name or None
    return None
