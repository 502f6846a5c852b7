"""Download a published model from the Hugging Face Hub, where its publisher offers it."""

from pathlib import Path

from grnlab._optional import require

HUB = "hf://"
_FILES = ("config.json", "model.safetensors", "pytorch_model.bin", "genes.tsv.gz", "args.json", "vocab.json", "*.pt")
_SHARED = tuple(
    f"geneformer/*{stem}*.pkl" for stem in ("token_dictionary", "median_dictionary", "ensembl_mapping_dict")
)


def fetch(address: str) -> Path:
    """Download the files of a model, or take them from the cache; gives the folder, or the file of a one-file model.

    Parameters
    ----------
    address
        ``"hf://owner/repository"``, with the folder or the file inside the repository behind it where there is one.

    Raises
    ------
    ValueError
        When `address` is not of this form, or there is nothing at it.
    ImportError
        When huggingface_hub is not installed.
    """
    owner, _, rest = address.removeprefix(HUB).partition("/")
    repository, _, inside = rest.strip("/").partition("/")
    if not owner or not repository:
        msg = f"name={address!r} is no address on the Hugging Face Hub; write {HUB}owner/repository/path."
        raise ValueError(msg)
    hub = require("huggingface_hub", install="huggingface_hub", purpose="to download a model")
    one_file = inside.endswith((".ckpt", ".pt"))
    wanted = [inside] if one_file else [*(f"{inside}/{name}".lstrip("/") for name in _FILES), *_SHARED]
    found = Path(hub.snapshot_download(f"{owner}/{repository}", allow_patterns=wanted)) / inside
    if not found.exists():
        msg = f"there is no {inside} in the repository {owner}/{repository}."
        raise ValueError(msg)
    return found
