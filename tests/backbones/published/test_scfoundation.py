"""scFoundation against PyTorch's layers, of which the publisher's encoder is made, and the publisher's recipe."""

import numpy as np
import pytest
import torch

import grnlab as gl


@pytest.fixture
def genes(real_cells):
    """The fixed list of the model: genes of the cells but two, and three others, in an order of its own."""
    known = [name for number, name in enumerate(real_cells.var_names[:-1]) if number not in (3, 40)]
    return np.random.default_rng(0).permutation([*known, "OTHER1", "OTHER2", "OTHER3"]).tolist()


@pytest.fixture
def folder(genes, tmp_path, scfoundation_reference):
    scfoundation_reference(genes, tmp_path / "scfoundation")
    return tmp_path / "scfoundation"


def publishers_input(adata, genes, pad_value=103):
    """Dense rows in the order of the list, log1p(cp10k), then T and S; values above zero moved to the left."""
    rows = []
    for cell in range(adata.n_obs):
        counts = np.array([adata[cell, gene].X.sum() if gene in adata.var_names else 0.0 for gene in genes])
        row = np.r_[np.log1p(counts / counts.sum() * 1e4), 4.0, np.log10(counts.sum())]
        rows.append([(place, value) for place, value in enumerate(row) if value > 0])
    width = max(map(len, rows))
    values = torch.tensor([[v for _, v in row] + [pad_value] * (width - len(row)) for row in rows]).float()
    places = torch.tensor([[p for p, _ in row] + [len(genes) + 2] * (width - len(row)) for row in rows])
    return values, places, values == pad_value


@torch.no_grad()
def test_tokens_hidden_states_and_attention_equal_the_recipe(
    folder, genes, real_cells, shown, recorded, softmax_map, scfoundation_reference, tmp_path
):
    model = gl.load_model(folder)
    reference = scfoundation_reference(genes, tmp_path / "again")["cell"]
    values, places, pad = publishers_input(real_cells[:5], genes)
    assert pad.any()
    expected = reference(values, places, pad)
    counts, tokens, totals = shown(model, real_cells[:5])
    batch = model.tokenize(counts, tokens, totals, context="expressed")
    encoded, layers = recorded(model, batch)
    for cell in range(5):
        n = int((~pad[cell]).sum()) - 2
        real = batch.real_BT[cell]
        assert batch.genes_BT[cell, real].tolist() == places[cell, :n].tolist()  # the list is in order of tokens
        torch.testing.assert_close(batch.values_BT[cell, real], values[cell, :n], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(encoded.genes_BTM[cell, real], expected[cell, :n], rtol=0, atol=1e-5)
        torch.testing.assert_close(encoded.cell_BM[cell], expected[cell, n + 1], rtol=0, atol=1e-5)  # S
    for layer in layers:
        attention = softmax_map(layer, model.attention, batch.pad_BT)
        rebuilt = torch.einsum("bhts,bshd->bthd", attention, layer.v.double()).float()
        keep = torch.cat([torch.ones(5, 2, dtype=torch.bool), batch.real_BT], 1)
        torch.testing.assert_close(rebuilt[keep], layer.out[keep], rtol=0, atol=1e-5)


def test_totals_are_those_of_known_genes(folder, real_cells, shown):
    model = gl.load_model(folder / "models.ckpt")
    counts, tokens, totals = shown(model, real_cells)
    batch = model.tokenize(counts, tokens, totals, context="expressed")
    np.testing.assert_array_equal(batch.totals_B, np.asarray(counts.sum(1)).ravel())
    assert (batch.totals_B.numpy() < totals).all()


def test_shared_context_is_refused(folder, real_cells, shown):
    model = gl.load_model(folder)
    with pytest.raises(ValueError, match='sees no zeros; use context="expressed"'):
        model.tokenize(*shown(model, real_cells), context="shared")


def change(folder, edit):
    content = torch.load(folder / "models.ckpt", weights_only=True)
    edit(content)
    torch.save(content, folder / "models.ckpt")


def test_a_file_with_one_part_is_read_whatever_its_name(folder):
    whole = gl.load_model(folder)
    content = torch.load(folder / "models.ckpt", weights_only=True)
    torch.save({"rde": content["cell"]}, folder / "models.ckpt")
    part = gl.load_model(folder)
    assert all(torch.equal(x, part.state_dict()[name]) for name, x in whole.state_dict().items())


@pytest.mark.parametrize("name", ["self_attn.in_proj_bias", "self_attn.out_proj.weight", "norm2.bias"])
def test_every_key_of_the_attention_must_be_there(folder, name):
    key = f"encoder.transformer_encoder.1.{name}"
    change(folder, lambda content: content["cell"]["state_dict"].pop(f"model.{key}"))
    with pytest.raises(ValueError, match=rf"lacks the weights '{key}'"):
        gl.load_model(folder)


def test_unknown_weights_are_an_error(folder):
    extra = {"model.encoder.transformer_encoder.2.norm1.bias": torch.ones(16)}
    change(folder, lambda content: content["cell"]["state_dict"].update(extra))
    with pytest.raises(ValueError, match="1 weights that this architecture does not have"):
        gl.load_model(folder)


def test_files_that_do_not_belong_together(folder):
    path = folder / "OS_scRNA_gene_index.19264.tsv"
    text = path.read_text()
    path.write_text(text.rsplit("\n", 2)[0] + "\n")
    with pytest.raises(ValueError, match=r"the list of genes has 60 rows, but the weights are of 61 genes"):
        gl.load_model(folder)
    path.write_text(text.replace("gene_name", "name"))
    with pytest.raises(ValueError, match="must have a column gene_name"):
        gl.load_model(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"must hold models\.ckpt and one OS_scRNA_gene_index.*https://github"):
        gl.load_model(folder)


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"cell": {"config": {}}, "gene": {}}, [1]], ids=str)
def test_a_checkpoint_of_something_else(folder, content):
    torch.save(content, folder / "models.ckpt")
    with pytest.raises(ValueError, match="is no checkpoint of scFoundation with a softmax encoder"):
        gl.load_model(folder)


def test_the_licence_forbids_commerce(folder, caplog):
    gl.load_model(folder)
    assert "non-commercial use only" in caplog.text
