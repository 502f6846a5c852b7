"""Publish a checkpoint folder on the Hugging Face Hub."""

from pathlib import Path

from grnlab._optional import require
from grnlab.backbones.checkpoint import FILES, load_model


def push_model(folder: str | Path, repo_id: str, *, token: str | None = None, private: bool = True) -> str:
    """Upload a checkpoint folder as it is; nothing else in the folder goes along.

    Parameters
    ----------
    folder
        Folder written by :func:`grnlab.backbones.save_model`.
    repo_id
        ``"owner/name"``; made when it does not exist.
    token
        Access token; by default that of ``hf auth login``.
    private
        Whether a new repository is private.

    Returns
    -------
    Address of the upload.

    Raises
    ------
    FileNotFoundError, ValueError
        When the folder is no whole checkpoint: nothing is uploaded.
    ImportError
        When huggingface_hub is not installed.
    """
    hub = require("huggingface_hub", install="huggingface_hub", purpose="to publish a model")
    if not Path(folder).is_dir():
        msg = f"folder={str(folder)!r} is no folder; write one with grnlab.backbones.save_model."
        raise FileNotFoundError(msg)
    name = load_model(folder).name
    api = hub.HfApi(token=token)
    api.create_repo(repo_id, repo_type="model", private=private, exist_ok=True)
    made = api.upload_folder(
        repo_id=repo_id, folder_path=str(folder), allow_patterns=list(FILES), commit_message=f"{name} from grnlab"
    )
    return str(made)
